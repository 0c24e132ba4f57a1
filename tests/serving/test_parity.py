"""The same numbers by every way: PyTorch, ONNX Runtime, Triton over HTTP and gRPC, with and without shared memory."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jetcorr_utils.export.padding import pad
from jetcorr_utils.export.predictor import OnnxPredictor
from jetcorr_utils.serving import TritonPredictor
from jetcorr_utils.training import predict
from tests.networks import SETTINGS, clouds_of

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def ways(server, files):
    """For each model, every way to ask it for predictions."""
    with ExitStack() as stack:
        yield {
            name: {
                "ONNX Runtime": stack.enter_context(OnnxPredictor(files[name], threads=1)),
                **{
                    f"Triton, {protocol}, shared memory {memory}": stack.enter_context(
                        TritonPredictor(url, name, protocol, shared_memory=memory)
                    )
                    for protocol, url in (("http", server.http_url), ("grpc", server.grpc_url))
                    for memory in ("on", "off")
                },
            }
            for name in SETTINGS
        }


def _worst(ours, theirs):
    """The largest relative difference of correction factors and resolutions."""
    factor = np.abs(np.expm1(ours[0].astype(np.float64) - theirs[0]))
    return max(factor.max(), np.abs(ours[1] / theirs[1] - 1).max())


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=25)
@given(
    jets=st.integers(1, 1024),
    most=st.integers(1, 200),
    padding=st.integers(0, 100),
    seed=st.integers(0, 2**16),
)
@example(jets=1, most=1, padding=0, seed=0)
@example(jets=1, most=200, padding=100, seed=1)
@example(jets=1024, most=1, padding=0, seed=2)
def test_all_ways_agree_for_any_shape(models, ways, name, jets, most, padding, seed):
    # Most jets are small, so that a batch of a thousand with one of 200 particles takes no minute
    counts = np.minimum(np.random.default_rng(seed).geometric(min(1.0, 8 / most), jets), most)
    counts[0] = most
    clouds = clouds_of(counts, seed, SETTINGS[name].features)
    inputs = pad(clouds, np.arange(jets), most + padding)
    expected = predict(models[name], clouds)
    worst = {way: _worst(predictor.infer(inputs), expected) for way, predictor in ways[name].items()}
    assert max(worst.values()) < TOLERANCE, worst


@pytest.mark.parametrize("name", SETTINGS)
def test_all_ways_agree_on_a_thousand_large_jets(models, ways, name):
    counts = np.random.default_rng(4).integers(1, 201, 1024)
    clouds = clouds_of(counts, 4, SETTINGS[name].features)
    expected = predict(models[name], clouds)
    worst = {way: _worst(predictor.predict(clouds, batch_size=1024), expected) for way, predictor in ways[name].items()}
    assert max(worst.values()) < TOLERANCE, worst

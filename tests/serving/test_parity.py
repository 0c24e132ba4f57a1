"""The same numbers by every way: PyTorch, ONNX Runtime, Triton over HTTP and gRPC, with and without shared memory."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetcorr_utils.inference import OnnxPredictor, TritonPredictor
from jetcorr_utils.inference.padding import pad
from jetcorr_utils.training import predict
from tests.networks import SETTINGS, clouds_of, largest_difference, padded_batches

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


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=25)
@given(data=st.data())
def test_all_ways_agree_for_any_shape(models, ways, name, data):
    clouds, width = data.draw(padded_batches(SETTINGS[name].features))
    inputs = pad(clouds, np.arange(len(clouds)), width)
    expected = predict(models[name], clouds)
    worst = {way: largest_difference(predictor.infer(inputs), expected) for way, predictor in ways[name].items()}
    assert max(worst.values()) < TOLERANCE, worst


@pytest.mark.parametrize("name", SETTINGS)
def test_all_ways_agree_on_a_thousand_large_jets(models, ways, name):
    clouds = clouds_of(np.random.default_rng(4).integers(1, 201, 1024), 4, SETTINGS[name].features)
    expected = predict(models[name], clouds)
    worst = {
        way: largest_difference(predictor.predict(clouds, batch_size=1024), expected)
        for way, predictor in ways[name].items()
    }
    assert max(worst.values()) < TOLERANCE, worst

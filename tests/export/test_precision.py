"""The variants with less precision: files that run, take the same jets, and differ as little as they should."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from jetcorr_utils.errors import InputError
from jetcorr_utils.export.reduced_precision import VARIANTS, compare_speed, write_variant
from jetcorr_utils.inference import OnnxPredictor, model_metadata
from jetcorr_utils.inference.padding import pad
from tests.networks import SETTINGS, largest_difference, some_clouds

TOLERANCE = {"float16": 3e-3, "int8": 0.3}


@pytest.fixture(scope="module")
def variants(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants")
    return {
        name: {"float32": path} | {v: write_variant(path, v, folder / f"{name}_{v}.onnx") for v in VARIANTS}
        for name, path in files.items()
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_variants_differ_by_their_precision(variants, name):
    clouds = some_clouds(300, 1, SETTINGS[name].features)
    table, predictions = compare_speed(variants[name], clouds, rounds=1, progress=False)
    assert table["variant"].tolist() == ["float32", *VARIANTS]
    sizes = table.set_index("variant")["kilobytes"]
    assert sizes["float16"] < sizes["float32"]  # int8 needs more operators, which in so small a network outweigh that
    assert (table["jets_per_s"] > 0).all()
    differences = table.set_index("variant")["largest_difference"]
    assert differences["float32"] == 0
    for variant, tolerance in TOLERANCE.items():
        assert 0 < differences[variant] < tolerance
        assert differences[variant] == pytest.approx(
            np.abs(np.expm1(predictions[variant][0].astype(float) - predictions["float32"][0])).max()
        )
    assert differences["float16"] < differences["int8"]


@pytest.mark.parametrize("name", SETTINGS)
def test_float16_is_right_for_jets_of_few_particles_too(variants, name):
    """Absent neighbours have sentinels beyond the range of float16."""
    clouds = some_clouds(64, 3, SETTINGS[name].features, mean=2.0)
    inputs = pad(clouds, np.arange(64), 20)
    with OnnxPredictor(variants[name]["float32"]) as first, OnnxPredictor(variants[name]["float16"]) as second:
        assert largest_difference(second.infer(inputs), first.infer(inputs)) < TOLERANCE["float16"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_keeps_inputs_outputs_and_metadata(variants, variant):
    ours, theirs = (onnx.load(variants["pfn"][name]).graph for name in (variant, "float32"))
    assert list(ours.input) == list(theirs.input)
    assert list(ours.output) == list(theirs.output)
    metadata = model_metadata(variants["pfn"][variant])
    assert metadata["precision"] == variant
    original = model_metadata(variants["pfn"]["float32"])
    assert {key: metadata[key] for key in original if key != "checksum"} == {
        key: value for key, value in original.items() if key != "checksum"
    }


def test_the_same_model_makes_the_same_bytes(variants, tmp_path):
    for variant in VARIANTS:
        again = write_variant(variants["pfn"]["float32"], variant, tmp_path / "again.onnx")
        assert again.read_bytes() == variants["pfn"][variant].read_bytes()


def test_an_unknown_precision_is_named(files, tmp_path):
    with pytest.raises(InputError, match="'float8': must be one of float16, int8"):
        write_variant(files["pfn"], "float8", tmp_path / "model.onnx")

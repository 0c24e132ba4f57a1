"""The exported graphs: the numbers of PyTorch for any shape and padding; files that are the same each time."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetcorr_utils.errors import InputError, ParityError
from jetcorr_utils.export import check_parity, export_model
from jetcorr_utils.export.torch_to_onnx import _is_tie
from jetcorr_utils.inference import OnnxPredictor
from jetcorr_utils.inference.model_file import model_metadata
from jetcorr_utils.inference.padding import pad
from jetcorr_utils.models import build_model
from jetcorr_utils.training import predict
from tests.networks import METADATA, SETTINGS, clouds_of, largest_difference, network, padded_batches, some_clouds

NAMES = list(SETTINGS)


@pytest.fixture(scope="module")
def predictors(files):
    return {name: OnnxPredictor(path, threads=1) for name, path in files.items()}


@pytest.mark.parametrize("name", NAMES)
def test_parity_on_a_thousand_jets(models, files, name):
    largest = check_parity(models[name], files[name], some_clouds(1000, 1, SETTINGS[name].features))
    assert set(largest) == {"factor", "sigma", "ties"}
    assert max(largest.values()) < 1e-5


def test_more_neighbours_than_particles(tmp_path):
    """Also than the example has that torch's exporter is given; a jet with fewer particles uses those it has."""
    settings = SETTINGS["particlenet"].model_copy(update={"k": 60})
    model, clouds = build_model(settings).eval(), some_clouds(20, 1, "rich")
    model.fit_constants(clouds)
    path = export_model(model, tmp_path / "model.onnx", metadata=METADATA)
    assert max(check_parity(model, path, clouds).values()) < 1e-5


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=25)
def test_parity_for_any_batch_size_multiplicity_and_padding(models, predictors, name, data):
    clouds, width = data.draw(padded_batches(SETTINGS[name].features))
    inputs = pad(clouds, np.arange(len(clouds)), width)
    assert largest_difference(predictors[name].infer(inputs), predict(models[name], clouds)) < 1e-5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("jets", [1, 129, 1024])
def test_the_last_chunk_may_overlap_the_one_before_it(models, predictors, name, jets):
    clouds = some_clouds(jets, jets, SETTINGS[name].features, mean=12)
    ours = predictors[name].infer(pad(clouds, np.arange(jets)))
    assert len(ours[0]) == jets
    assert largest_difference(ours, predict(models[name], clouds)) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_padding_may_stand_anywhere_and_hold_anything(predictors, name):
    clouds = some_clouds(20, 2, SETTINGS[name].features)
    inputs = pad(clouds, np.arange(20))
    expected = predictors[name].infer(inputs)
    rng = np.random.default_rng(0)
    width = inputs["pf_mask"].shape[1]
    order = np.argsort(rng.random((20, width + 10)), axis=1)
    for key in ("pf_points", "pf_features", "pf_mask"):
        wider = np.pad(inputs[key], ((0, 0), (0, 10), (0, 0)))
        inputs[key] = np.take_along_axis(wider, order[:, :, None], axis=1)
    padding = inputs["pf_mask"][:, :, 0] == 0
    inputs["pf_points"][padding], inputs["pf_features"][padding] = 0.3, 77.0
    assert largest_difference(predictors[name].infer(inputs), expected) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_jet_without_particles_is_not_a_number_and_leaves_the_others_alone(predictors, name):
    clouds = some_clouds(9, 4, SETTINGS[name].features)
    inputs = pad(clouds, np.arange(9))
    expected = predictors[name].infer(inputs)
    inputs["pf_mask"][[0, 5]] = 0
    output, sigma = predictors[name].infer(inputs)
    full = np.setdiff1d(np.arange(9), [0, 5])
    assert np.isnan(output[[0, 5]]).all()
    assert np.isnan(sigma[[0, 5]]).all()
    assert largest_difference((output[full], sigma[full]), (expected[0][full], expected[1][full])) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_the_same_network_gives_the_same_bytes_without_paths_of_this_machine(files, name, tmp_path):
    again = export_model(network(name), tmp_path / "again.onnx", metadata={"name": name, **METADATA}).read_bytes()
    assert again == files[name].read_bytes()
    assert b"/jetcorr_utils/" not in again
    assert b"site-packages" not in again


@pytest.mark.parametrize("name", NAMES)
def test_metadata_says_what_the_model_takes(files, name):
    metadata = model_metadata(files[name])
    assert metadata["architecture"] == name
    assert metadata["features"] == SETTINGS[name].features
    assert metadata["units"] == "GeV"
    assert json.loads(metadata["training_range"]) == METADATA["training_range"]
    assert json.loads(metadata["settings"]) == SETTINGS[name].model_dump(mode="json")


@pytest.mark.parametrize("name", NAMES)
def test_batch_and_particle_axes_are_free(files, name):
    graph = onnx.load(files[name]).graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.input
    }
    columns = {"open": 5, "rich": 7}[SETTINGS[name].features]
    assert shapes == {
        "pf_points": ["batch", "particles", 2],
        "pf_features": ["batch", "particles", columns],
        "pf_mask": ["batch", "particles", 1],
        "jet_features": ["batch", 10],
    }


def test_a_model_that_differs_is_refused(models, files):
    clouds = some_clouds(50, 1)
    other = network("pfn")
    other.head.center.add_(1e-4)
    with pytest.raises(ParityError, match=r"factor of jet \d+ is .*allowed 1e-05"):
        check_parity(other, files["pfn"], clouds)
    assert check_parity(other, files["pfn"], clouds, tolerance=1e-3)["factor"] == pytest.approx(1e-4, rel=0.01)


def test_a_jet_whose_neighbours_rounding_decides_is_a_tie(models):
    """Two particles at the same distance from a third, and only one of them can be its last neighbour."""
    model, settings = models["particlenet"], SETTINGS["particlenet"]
    clouds = clouds_of([settings.k + 2], 3, settings.features)
    particles = np.array(clouds.particles)
    particles[:, :2] = 0.01 * np.arange(len(particles))[:, None] / len(particles)
    particles[0, :2] = 0
    particles[-2:, :2] = [[0.3, 0.0], [-0.3, 0.0]]
    particles[-2:, 2:5] = [[5000.0, 5.0, 211], [0.5, 0.0, 22]]
    orders = np.arange(len(particles)), np.r_[np.arange(len(particles) - 2), len(particles) - 1, len(particles) - 2]
    jets = [dataclasses.replace(clouds, particles=particles[order]) for order in orders]
    (first, sigma), (second, other_sigma) = (predict(model, jet) for jet in jets)
    assert abs(first - second) > 2e-5
    given, exported = (np.exp(first[0]), sigma[0]), (np.exp(second[0]), other_sigma[0])
    assert _is_tie(model, jets[0], 0, exported, 2e-6)
    assert _is_tie(model, jets[0], 0, given, 2e-6)
    assert not _is_tie(model, jets[0], 0, (1.001 * given[0], given[1]), 2e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset": 17}, "opset 17: torch writes opset 18 and newer"),
        ({"opset": 21, "triton_release": "24.04"}, r"24\.04 .*up to opset 20, not 21: export with --opset 20"),
        ({"triton_release": "21.09"}, r"'21\.09': not in the table"),
    ],
)
def test_an_opset_that_would_not_run_is_refused_before_the_export(models, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        export_model(models["pfn"], tmp_path / "pfn.onnx", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("opset", "release"), [(18, "24.04"), (20, "24.04"), (21, "24.10")])
def test_the_file_has_the_opset_asked_for_and_the_release_runs_it(models, tmp_path, opset, release):
    path = export_model(models["pfn"], tmp_path / "pfn.onnx", opset=opset, triton_release=release)
    assert {entry.domain: entry.version for entry in onnx.load(path).opset_import}[""] == opset
    clouds = some_clouds(20, 2)
    assert max(check_parity(models["pfn"], path, clouds).values()) < 1e-5

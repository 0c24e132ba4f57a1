"""The correction of files: every jet once and in order, by every kind of predictor, or no file at all."""

from __future__ import annotations

import os
import signal
import threading
import time

import awkward as ak
import numpy as np
import psutil
import pytest
import uproot

from jetcorr_utils.data import iterate_jets, read_jets
from jetcorr_utils.data.drift import summarise
from jetcorr_utils.data.selection import own_particles
from jetcorr_utils.errors import InputError, JetcorrError, ServerError
from jetcorr_utils.export import Clouds, OnnxPredictor, export_model
from jetcorr_utils.serving import TritonPredictor, TritonServer, correct_files, correct_jets, write_predictions
from jetcorr_utils.serving.correct import MOST_DRIFTS
from jetcorr_utils.serving.jets import clouds_from_jets
from tests.networks import METADATA, some_clouds

from .conftest import known_regions


def _read(path):
    with uproot.open(path) as file:
        return file["jets"].arrays(library="np")


def test_every_jet_of_the_sample_in_order(files, sample, tmp_path):
    out = tmp_path / "out.root"
    report = correct_files([sample], files["pfn"], out, step_size=300, progress=False)
    corrected, jets = _read(out), read_jets(sample)
    for name in ("run", "lumi", "event", "jetPt", "jetEta"):
        np.testing.assert_array_equal(corrected[name], ak.to_numpy(jets[name]))
    log_factor, sigma = OnnxPredictor(files["pfn"]).predict(clouds_from_jets(own_particles(jets), "open"))
    np.testing.assert_allclose(corrected["pfn_factor"], np.exp(log_factor), rtol=1e-5)
    np.testing.assert_allclose(corrected["pfn_sigma"], sigma, rtol=1e-5)
    np.testing.assert_allclose(corrected["pfn_pt"], jets.jetPt * corrected["pfn_factor"], rtol=1e-6)
    np.testing.assert_allclose(corrected["pfn_mass"], jets.jetMass * corrected["pfn_factor"], rtol=1e-6)
    assert report.corrected == len(jets)
    assert report.skipped.total() == 0
    assert f"{len(jets)} jets corrected with pfn" in report.text()


def test_several_files_are_one_after_the_other(files, sample, tmp_path):
    one, two = tmp_path / "one.root", tmp_path / "two.root"
    correct_files([sample], files["pfn"], one, progress=False)
    report = correct_files([sample, sample], files["pfn"], two, progress=False)
    once, twice = _read(one), _read(two)
    assert report.corrected == 2 * len(once["run"])
    for name, values in once.items():
        np.testing.assert_array_equal(np.concatenate([values, values]), twice[name])


def test_jets_beyond_the_training_range_are_flagged_and_by_choice_kept(files, sample, tmp_path):
    corrected, kept = tmp_path / "corrected.root", tmp_path / "kept.root"
    report = correct_files([sample], files["pfn"], corrected, progress=False)
    correct_files([sample], files["pfn"], kept, outside="keep", progress=False)
    corrected, kept = _read(corrected), _read(kept)
    beyond = ~corrected["pfn_in_range"]
    np.testing.assert_array_equal(beyond, corrected["jetPt"] > 900)  # the fixture's training range
    assert report.outside["pfn"] == beyond.sum() > 0
    np.testing.assert_array_equal(kept["pfn_pt"][beyond], kept["jetPt"][beyond])
    assert np.isnan(kept["pfn_sigma"][beyond]).all()
    np.testing.assert_array_equal(kept["pfn_pt"][~beyond], corrected["pfn_pt"][~beyond])
    assert (corrected["pfn_factor"][beyond] != 1).all()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_triton_and_this_process_write_equal_files(server, files, sample, tmp_path, protocol):
    url = f"{protocol}://{server.http_url if protocol == 'http' else server.grpc_url}/pfn"
    correct_files([sample], url, tmp_path / "triton.root", progress=False)
    correct_files([sample], files["pfn"], tmp_path / "local.root", progress=False)
    triton, local = _read(tmp_path / "triton.root"), _read(tmp_path / "local.root")
    assert triton.keys() == local.keys()
    for name in local:
        np.testing.assert_allclose(triton[name], local[name], rtol=1e-5)


def test_jets_outside_the_selection_are_counted_by_reason(files, real_data, tmp_path):
    path = real_data / "pfnano.root"
    report = correct_files([path], files["pfn"], tmp_path / "out.root", progress=False)
    jets = ak.concatenate(list(iterate_jets(path)))
    low, forward = jets.jetPt < 30, (jets.jetPt >= 30) & (abs(jets.jetEta) > 2.5)
    assert dict(report.skipped) == {"jetPt below 30 GeV": ak.sum(low), "abs(jetEta) above 2.5": ak.sum(forward)}
    assert report.corrected == len(jets) - ak.sum(low | forward) > 0
    assert np.isfinite(_read(tmp_path / "out.root")["pfn_pt"]).all()


def test_a_file_without_candidates_is_refused(files, real_data, tmp_path):
    with pytest.raises(InputError, match=r"nano_dy\.root.*candidates"):
        correct_files([real_data / "nano_dy.root"], files["pfn"], tmp_path / "out.root", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_needs_more_than_the_file_has_is_refused(files, tmp_path, real_data):
    with pytest.raises(InputError, match="PF_caloFraction"):
        correct_files([real_data / "pfnano.root"], files["particlenet"], tmp_path / "out.root", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_choice_is_named(files, sample, tmp_path):
    with pytest.raises(InputError, match="maybe"):
        correct_files([sample], files["pfn"], tmp_path / "out.root", outside="maybe")


def test_without_a_server_the_output_is_absent(make_repository, sample, tmp_path):
    out = tmp_path / "out" / "jets.root"
    with TritonServer(make_repository("pfn")) as server:
        predictor = TritonPredictor(server.http_url, "pfn", patience=0.5)
    with pytest.raises(ServerError, match=r"does not answer.*0\.5 s"):
        correct_files([sample], {"pfn": predictor}, out, progress=False)
    assert list(out.parent.iterdir()) == []


def test_a_server_that_is_killed_and_comes_back_corrects_every_jet_once(make_repository, files, sample, tmp_path):
    repository = make_repository("pfn")
    with TritonServer(repository) as first:
        port = int(first.http_url.rpartition(":")[2])
        predictor = TritonPredictor(first.http_url, "pfn", patience=60)
        out, inputs = tmp_path / "out.root", [sample] * 5
        worker = threading.Thread(
            target=lambda: correct_files(inputs, {"pfn": predictor}, out, batch_size=8, step_size=500, progress=False)
        )
        worker.start()
        time.sleep(0.5)
        os.kill(first.pid, signal.SIGKILL)
        first.stop()
        assert worker.is_alive(), "the correction ended before the server was killed"
        with TritonServer(repository, http_port=port):
            worker.join(timeout=200)
    correct_files(inputs, files["pfn"], tmp_path / "expected.root", progress=False)
    expected, found = _read(tmp_path / "expected.root"), _read(out)
    np.testing.assert_array_equal(found["event"], expected["event"])
    np.testing.assert_allclose(found["pfn_pt"], expected["pfn_pt"], rtol=1e-5)


def test_predictions_of_a_data_set(files, tmp_path):
    clouds = some_clouds(500, 3, "rich")
    predictors = {name: OnnxPredictor(path) for name, path in files.items()}
    assert write_predictions(clouds, predictors, tmp_path / "out.root", progress=False) == 500
    found = _read(tmp_path / "out.root")
    np.testing.assert_array_equal(found["event"], clouds.table["event"])
    np.testing.assert_array_equal(found["QG_mult"], clouds.jets[:, 9])
    for name, predictor in predictors.items():  # one takes the open features, the other the rich ones
        columns = {"pfn": 7, "particlenet": 9}[name]
        inputs = Clouds(clouds.particles[:, :columns], clouds.ptr, clouds.jets)
        log_factor, sigma = predictor.predict(inputs)
        np.testing.assert_allclose(found[f"{name}_pt"], clouds.jets[:, 0] * np.exp(log_factor), rtol=1e-6)
        np.testing.assert_allclose(found[f"{name}_sigma"], sigma, rtol=1e-6)


def test_predictions_by_a_model_with_other_features_are_refused(files, tmp_path):
    with pytest.raises(InputError, match="'rich'"):
        write_predictions(
            some_clouds(5), {"m": OnnxPredictor(files["particlenet"])}, tmp_path / "out.root", progress=False
        )
    assert list(tmp_path.iterdir()) == []


def test_jets_in_memory_are_corrected_like_those_of_files(files, sample, tmp_path):
    correct_files([sample], files["pfn"], tmp_path / "out.root", progress=False)
    expected = _read(tmp_path / "out.root")
    jets = correct_jets(read_jets(sample), {"pfn": OnnxPredictor(files["pfn"])})
    for name in ("pfn_pt", "pfn_mass", "pfn_factor", "pfn_sigma", "pfn_in_range"):
        np.testing.assert_allclose(ak.to_numpy(jets[name]), expected[name], rtol=1e-6)
    np.testing.assert_allclose(jets.pfn_raw_factor * jets.jetRawPt, jets.pfn_pt, rtol=1e-6)


def test_jets_in_memory_that_cannot_be_corrected_keep_the_standard_correction(files, sample):
    jets = read_jets(sample, max_jets=20)
    jets["jetPt"] = np.where(np.arange(20) == 3, 20.0, jets.jetPt)
    corrected = correct_jets(jets, {"pfn": OnnxPredictor(files["pfn"])})
    assert corrected.pfn_pt[3] == 20.0
    assert np.isnan(corrected.pfn_sigma[3])
    assert not corrected.pfn_in_range[3]
    assert np.isfinite(np.delete(ak.to_numpy(corrected.pfn_sigma), 3)).all()


def _equal(first, second, tolerance=0.0):
    first, second = _read(first), _read(second)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, rtol=tolerance)


def test_the_jets_do_not_depend_on_the_number_of_workers(server, files, sample, tmp_path):
    one, two, served = (tmp_path / f"{name}.root" for name in ("one", "two", "served"))
    report = correct_files([sample, sample], files["pfn"], one, step_size=300, progress=False)
    other = correct_files([sample, sample], files["pfn"], two, step_size=300, workers=2, progress=False)
    _equal(one, two)
    assert (other.corrected, other.skipped, other.outside) == (report.corrected, report.skipped, report.outside)
    before = known_regions(server)
    url = f"http://{server.http_url}/pfn"
    correct_files([sample, sample], url, served, step_size=300, workers=2, progress=False)
    _equal(one, served, 1e-5)
    assert known_regions(server) == before


def test_several_workers_need_a_model_that_they_can_open(files, sample, tmp_path):
    with pytest.raises(InputError, match="path or its URL"):
        correct_files([sample], {"pfn": OnnxPredictor(files["pfn"])}, tmp_path / "out.root", workers=2)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_is_killed_is_an_error_and_leaves_no_file(files, sample, tmp_path):
    def kill():
        while not (workers := [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]):
            time.sleep(0.01)
        workers[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(JetcorrError, match="worker process was killed"):
        correct_files([sample], files["pfn"], tmp_path / "out.root", step_size=100, workers=2, progress=False)
    killer.join()
    assert list(tmp_path.iterdir()) == []
    assert not [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]


def test_the_report_says_what_differs_from_the_training(models, sample, tmp_path):
    clouds = some_clouds(2000)
    path = export_model(
        models["pfn"],
        tmp_path / "pfn.onnx",
        metadata={"name": "pfn", **METADATA, "training_summary": summarise(clouds)},
    )
    text = correct_files([sample], path, tmp_path / "out.root", progress=False).text()
    assert "not like those that pfn was trained on" in text
    assert text.count("distance") == MOST_DRIFTS

"""The correction of files: every jet once and in order, by every kind of predictor, or no file at all."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import awkward as ak
import numpy as np
import psutil
import pytest
import uproot

from jetcorr_utils.correct import JetCorrector, correct_files, correct_jets, write_predictions
from jetcorr_utils.correct.jet_arrays import clouds_from_jets
from jetcorr_utils.correct.root_files import MOST_DRIFTS
from jetcorr_utils.data import iterate_jets, read_block, read_jets
from jetcorr_utils.data.drift import summarise
from jetcorr_utils.data.nanoaod import NanoAOD
from jetcorr_utils.data.selection import own_particles
from jetcorr_utils.errors import InputError, JetcorrError, ServerError
from jetcorr_utils.export import export_model
from jetcorr_utils.inference import OnnxPredictor, TritonPredictor
from jetcorr_utils.serving import TritonServer
from tests.networks import METADATA, SETTINGS, some_clouds

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


@pytest.fixture
def copies(sample, tmp_path):
    """The function that makes so many files of the sample's jets."""
    return lambda number: [Path(shutil.copy(sample, tmp_path / f"copy{n}.root")) for n in range(number)]


@pytest.mark.parametrize("step_size", [50, 100, 20_000])
def test_what_is_left_out_does_not_depend_on_the_blocks(files, sample, tmp_path, monkeypatch, step_size):
    """A few jets whose candidates do not sum up to them are tolerated in a file, wherever in it they stand."""
    monkeypatch.setattr("jetcorr_utils.correct.root_files.read_block", _with_raw_pt(lambda event: event % 100 == 7))
    report = correct_files([sample], files["pfn"], tmp_path / "out.root", step_size=step_size, progress=False)
    strange = ak.to_numpy(read_jets(sample).event) % 100 == 7
    assert report.skipped == {"candidates that do not sum up to the jet": strange.sum()}
    monkeypatch.setattr("jetcorr_utils.correct.root_files.read_block", _with_raw_pt(lambda event: event % 20 == 7))
    with pytest.raises(InputError, match=r"jets\.root: the candidates do not belong to the jets: for \d+ of "):
        correct_files([sample], files["pfn"], tmp_path / "none.root", step_size=step_size, progress=False)
    assert not (tmp_path / "none.root").exists()


def _with_raw_pt(which):
    """The reader of blocks, with a wrong raw pt for some of the jets."""

    def read(block, **options):
        jets = read_block(block, **options)
        return ak.with_field(jets, jets.jetRawPt * np.where(which(ak.to_numpy(jets.event)), 1.3, 1), "jetRawPt")

    return read


def test_a_file_that_is_given_twice_is_read_once(files, sample, tmp_path, caplog):
    (tmp_path / "link.root").symlink_to(sample)
    report = correct_files([sample, tmp_path / "link.root", sample], files["pfn"], tmp_path / "o.root", progress=False)
    assert report.corrected == len(_read(tmp_path / "o.root")["run"]) == 2000
    assert caplog.text.count("which is read once only") == 2


@pytest.mark.parametrize("place", ["pfn/1/model.onnx", "pfn/config.pbtxt", "notes.txt"])
def test_an_output_that_is_a_part_of_the_model_or_no_root_file_is_refused(make_repository, sample, tmp_path, place):
    repository = make_repository("pfn")
    out = repository / place if place.startswith("pfn") else tmp_path / place
    if not out.exists():
        out.write_text("mine", encoding="utf-8")
    before = out.read_bytes()
    with pytest.raises(InputError, match=r"is a part of .*, which is read|is there, and no ROOT file"):
        correct_files([sample], repository, out, progress=False)
    assert out.read_bytes() == before


def test_corrected_jets_in_the_folder_of_the_model_are_replaced_and_those_of_its_run_are_not(
    make_repository, sample, tmp_path
):
    run = tmp_path / "run"
    run.mkdir()
    repository = make_repository("pfn").rename(run / "model_repository")
    (run / "run.json").touch()
    out, mine = run / "corrected.root", run / "predictions.root"
    for _ in range(2):
        assert correct_files([sample], run, out, replace=True, progress=False).corrected == 2000
    for place in (mine, run / "validation.root"):
        for model in (run, repository, repository / "pfn"):  # whether it is there or will be
            with pytest.raises(InputError, match=r"\.root: the run in this folder has a file of this name"):
                correct_files([sample], model, place, replace=True, progress=False)
        shutil.copy(out, place)


def test_a_model_is_known_by_the_home_of_its_user_too(make_repository, sample, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    card = make_repository("pfn").rename(tmp_path / "models") / "pfn" / "config.pbtxt"
    with pytest.raises(InputError, match=r"config\.pbtxt: is a part of ~/models, which is read"):
        correct_files([sample], "~/models", card, replace=True, progress=False)


@pytest.mark.parametrize("size", [-1, 0, 2.5, True, "a"])
def test_a_batch_size_that_is_none_is_refused(files, sample, tmp_path, size):
    for use in (
        lambda: correct_files([sample], files["pfn"], tmp_path / "o.root", batch_size=size),
        lambda: OnnxPredictor(files["pfn"]).predict(some_clouds(3), batch_size=size),
        lambda: JetCorrector(files["pfn"], batch_size=size),
    ):
        with pytest.raises(InputError, match=r"batch_size .*: must be a whole number"):
            use()


def test_several_files_are_one_after_the_other(files, sample, copies, tmp_path):
    one, two = tmp_path / "one.root", tmp_path / "two.root"
    correct_files([sample], files["pfn"], one, progress=False)
    report = correct_files(copies(2), files["pfn"], two, progress=False)
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


def test_a_server_that_is_killed_and_comes_back_corrects_every_jet_once(make_repository, files, copies, tmp_path):
    repository = make_repository("pfn")
    with TritonServer(repository) as first:
        port = int(first.http_url.rpartition(":")[2])
        predictor = TritonPredictor(first.http_url, "pfn", patience=60)
        out, inputs = tmp_path / "out.root", copies(5)
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
    np.testing.assert_array_equal(found["QG_mult"], clouds.jet("QG_mult"))
    for name, predictor in predictors.items():  # one takes the open features, the other the rich ones
        log_factor, sigma = predictor.predict(clouds.with_features(SETTINGS[name].features))
        np.testing.assert_allclose(found[f"{name}_pt"], clouds.jet("jetPt") * np.exp(log_factor), rtol=1e-6)
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


def test_jets_that_were_selected_are_corrected_as_among_all(files, sample):
    jets, predictors = read_jets(sample, max_jets=200), {"pfn": OnnxPredictor(files["pfn"])}
    chosen = np.flatnonzero(jets.jetPt > 60)
    selected = correct_jets(jets[chosen], predictors)
    np.testing.assert_allclose(selected.pfn_pt, correct_jets(jets, predictors).pfn_pt[chosen], rtol=1e-6)


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


def test_the_jets_do_not_depend_on_the_number_of_workers(server, files, copies, tmp_path):
    one, two, served = (tmp_path / f"{name}.root" for name in ("one", "two", "served"))
    report = correct_files(copies(2), files["pfn"], one, step_size=300, progress=False)
    other = correct_files(copies(2), files["pfn"], two, step_size=300, workers=2, progress=False)
    _equal(one, two)
    assert (other.corrected, other.skipped, other.outside) == (report.corrected, report.skipped, report.outside)
    before = known_regions(server)
    url = f"http://{server.http_url}/pfn"
    correct_files(copies(2), url, served, step_size=300, workers=2, progress=False)
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
    assert "not like those of the training of pfn" in text
    assert text.count("distance") == MOST_DRIFTS


@pytest.mark.parametrize("link", ["the same", "relative", "symbolic", "hard", "one of several", "URL"])
def test_an_output_that_is_an_input_is_refused_and_the_input_kept(files, sample, tmp_path, monkeypatch, link):
    monkeypatch.chdir(tmp_path)
    path, out = tmp_path / "jets.root", tmp_path / "jets.root"
    shutil.copy(sample, path)
    inputs = [f"file://{path}"] if link == "URL" else [sample, path] if link == "one of several" else [path]
    if link == "relative":
        out = "./nowhere/../jets.root"
        (tmp_path / "nowhere").mkdir()
    if link in ("symbolic", "hard"):
        out = tmp_path / "out.root"
        os.link(path, out) if link == "hard" else out.symlink_to(path)
    with pytest.raises(InputError, match=r"is the input .*jets\.root, which would be lost"):
        correct_files(inputs, files["pfn"], out, progress=False)
    assert path.read_bytes() == sample.read_bytes()


def test_an_output_that_is_the_model_is_refused(files, sample, tmp_path):
    model = tmp_path / "model.onnx"
    shutil.copy(files["pfn"], model)
    with pytest.raises(InputError, match=r"model\.onnx: is the input"):
        correct_files([sample], model, model, progress=False)
    assert model.read_bytes() == files["pfn"].read_bytes()


@pytest.mark.parametrize("kind", [str, Path])
def test_an_output_that_is_an_address_is_refused(files, sample, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="address of the kind s3:// cannot be written to"):
        correct_files([sample], files["pfn"], kind("s3://bucket/out.root"), progress=False)
    with pytest.raises(InputError, match="address of the kind root:// cannot be written to"):
        write_predictions(some_clouds(5), {}, kind("root://eos.example//out.root"), progress=False)
    assert list(tmp_path.iterdir()) == []


def _without_jets(sample, path):
    """A file with the branches of the sample and no entries."""
    with uproot.open(sample) as file, uproot.recreate(path) as out:
        jets = file["AK4jets/jetTree"].arrays(entry_stop=1)
        counted = {name: values for name, values in zip(jets.fields, ak.unzip(jets), strict=True) if name != "nPF"}
        types = {name: ak.type(values).content for name, values in counted.items()}
        out.mktree("AK4jets/jetTree", types, counter_name=lambda _: "nPF")
    return path


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_without_jets_among_others_is_named_and_left_out(files, sample, copies, tmp_path, place, workers):
    empty = _without_jets(sample, tmp_path / "empty.root")
    inputs = copies(2)
    inputs.insert(place, empty)
    report = correct_files(inputs, files["pfn"], tmp_path / "out.root", workers=workers, progress=False)
    assert report.corrected == len(_read(tmp_path / "out.root")["run"]) == 4000
    assert report.empty == (str(empty),)
    assert f"{empty}: has no jets" in report.text()


def test_files_without_jets_alone_are_refused(files, sample, tmp_path):
    empty = _without_jets(sample, tmp_path / "empty.root")
    with pytest.raises(InputError, match=r"empty\.root.*no jet can be corrected \(there are none\)"):
        correct_files([empty, empty], files["pfn"], tmp_path / "out.root", progress=False)
    for name, content in (("zero.root", b""), ("text.root", b"no file of ROOT")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: is not a ROOT file"):
            correct_files([sample, tmp_path / name], files["pfn"], tmp_path / "out.root", progress=False)
    with uproot.recreate(tmp_path / "none.root"):
        pass
    with pytest.raises(InputError, match=r"none\.root: has neither the tree"):
        correct_files([sample, tmp_path / "none.root"], files["pfn"], tmp_path / "out.root", progress=False)
    assert not (tmp_path / "out.root").exists()


@pytest.fixture(scope="module")
def with_summary(models, sample, tmp_path_factory):
    """A network that knows how the jets of the sample are distributed."""
    clouds = clouds_from_jets(own_particles(read_jets(sample)), "open")
    notes = {"name": "pfn", **METADATA, "training_summary": summarise(clouds)}
    return export_model(models["pfn"], tmp_path_factory.mktemp("model") / "pfn.onnx", metadata=notes)


@pytest.mark.parametrize("name", ["rhoAll", "jetArea", "jetMass", "PV_npvsGood"])
def test_a_jet_with_any_feature_beyond_the_training_range_is_flagged(with_summary, sample, name):
    jets = read_jets(sample, max_jets=50)
    values = ak.to_numpy(jets[name]).copy()
    values[7], values[20] = 2_000_000, -1
    good = np.ones(50, dtype=bool)
    good[[7, 20]] = False
    predictors = {"pfn": OnnxPredictor(with_summary)}
    in_training = ak.to_numpy(jets.jetPt) <= 900
    corrected = correct_jets(ak.with_field(jets, values, name), predictors)
    np.testing.assert_array_equal(corrected.pfn_in_range, good & in_training)
    kept = correct_jets(ak.with_field(jets, values, name), predictors, outside="keep")
    np.testing.assert_array_equal(kept.pfn_pt[~good], jets.jetPt[~good])


def _events(real_data, path, change=lambda columns: columns):
    """The events of the official file that the reader needs, after a change."""
    with uproot.open(real_data / "pfnano.root") as file, uproot.recreate(path) as out:
        wanted = NanoAOD("", file["Events"]).branches
        arrays = file["Events"].arrays([name for name in wanted if not name.startswith("n")])
        columns = change(dict(zip(arrays.fields, ak.unzip(arrays), strict=True)))
        types = {name: ak.type(values).content for name, values in columns.items()}
        out.mktree("Events", types, counter_name=lambda name: "n" + name.split("_")[0]).extend(columns)
    return path


def test_a_file_with_events_without_jets_is_left_out(files, real_data, tmp_path):
    def none(columns):
        return {name: x[:, :0] if name.startswith(("Jet", "PFCands", "GenJet")) else x for name, x in columns.items()}

    empty = _events(real_data, tmp_path / "empty.root", none)
    report = correct_files([empty, real_data / "pfnano.root"], files["pfn"], tmp_path / "out.root", progress=False)
    assert (report.corrected, report.empty) == (36, (str(empty),))


def test_a_file_whose_candidates_are_of_other_jets_is_refused_by_name(files, real_data, tmp_path):
    def turn(columns):
        index = columns["JetPFCands_jetIdx"]
        return columns | {"JetPFCands_jetIdx": (index + 1) % ak.num(columns["Jet_pt"])}

    path = _events(real_data, tmp_path / "turned.root", turn)
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"turned\.root: the candidates do not belong to the jets: for \d+ of 36"):
            correct_files([path], files["pfn"], tmp_path / "out.root", workers=workers, progress=False)
    assert not (tmp_path / "out.root").exists()

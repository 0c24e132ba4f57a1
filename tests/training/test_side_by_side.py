"""The trainings of a study: each once, whatever is interrupted."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time

import numpy as np
import pytest
import torch

from jetcorr_utils.config import DataSettings, ParticleNetSettings, PfnSettings, TrainingSettings
from jetcorr_utils.data import load_clouds
from jetcorr_utils.errors import InputError
from jetcorr_utils.run import RunFolder
from jetcorr_utils.training import load_model, train_models

SMALL = {"conv_layers": 1, "conv_dim": 8, "fc_dim": 8, "training": TrainingSettings(epochs=2, batch_size=200)}
MODELS = {
    "pfn": PfnSettings(architecture="pfn", **SMALL),
    "particlenet": ParticleNetSettings(architecture="particlenet", blocks=1, k=4, **SMALL),
}


@pytest.fixture
def clouds(sample, tmp_path):
    dataset = load_clouds(DataSettings(files=(str(sample),), directory=str(tmp_path / "data")), progress=False)
    return dict.fromkeys(MODELS, dataset)


def test_an_interrupted_study_does_not_repeat_the_trainings_that_were_done(clouds, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyError):  # the clouds of the second model are not there
        train_models(MODELS, {"pfn": clouds["pfn"]}, run, progress=False, workers=1)
    written = (run.model("pfn") / "checkpoint.pt").stat().st_mtime_ns
    first = (run.model("pfn") / "history.csv").read_text()
    results = train_models(MODELS, clouds, run, progress=False)
    assert list(results) == list(MODELS)
    assert (run.model("pfn") / "checkpoint.pt").stat().st_mtime_ns == written
    assert (run.model("pfn") / "history.csv").read_text() == first  # the seconds included
    assert not list(run.path.glob("model/*/state.pt"))
    assert {name: load_model(run.model(name)).settings for name in MODELS} == MODELS


def test_a_finished_training_is_found_and_another_or_a_damaged_one_is_repeated(clouds, tmp_path, monkeypatch):
    run, checkpoint = RunFolder(tmp_path / "run"), tmp_path / "run" / "model" / "pfn" / "checkpoint.pt"

    def trained(settings):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        result = train_models({"pfn": settings}, clouds, run, progress=False)["pfn"]
        return checkpoint.stat().st_mtime_ns != before, result.history["validation_mae"].to_list()

    first = trained(MODELS["pfn"])[1]
    assert trained(MODELS["pfn"]) == (False, first)
    other = MODELS["pfn"].model_copy(update={"conv_dim": 9})
    assert trained(other)[0]
    assert trained(MODELS["pfn"]) == (True, first)
    for name in ("checkpoint.pt", "history.csv", "model_card.md"):
        (checkpoint.parent / name).write_bytes(b"damaged")
        assert trained(MODELS["pfn"]) == (True, first)
    monkeypatch.setattr("jetcorr_utils.training.state.code_key", lambda *files: "of other code")
    assert trained(MODELS["pfn"]) == (True, first)


def test_a_training_whose_network_is_gone_is_repeated(clouds, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyError):
        train_models(MODELS, {"pfn": clouds["pfn"]}, run, progress=False, workers=1)
    (run.model("pfn") / "checkpoint.pt").unlink()
    train_models({"pfn": MODELS["pfn"]}, clouds, run, progress=False)
    assert load_model(run.model("pfn")).settings == MODELS["pfn"]


def until(there, seconds=120):
    """Wait until something is there."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_networks_trained_side_by_side_are_those_of_one_process(clouds, tmp_path):
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    seen: dict[str, list[int]] = {name: [] for name in MODELS}

    def watch(name):
        def follow(epoch, row):
            seen[name].append(epoch)
            if name == "particlenet" and epoch == 1:  # the longer one is trained here, the other beside it
                until((two.model("pfn") / "result.json").exists)

        return follow

    expected = train_models(MODELS, clouds, one, progress=False, workers=1)
    results = train_models(MODELS, clouds, two, progress=False, workers=2, watch=watch)
    assert list(results) == list(MODELS)
    assert seen == {name: [1, 2] for name in MODELS}
    for name in MODELS:
        columns = ["train_loss", "validation_loss", "learning_rate"]
        assert results[name].history[columns].equals(expected[name].history[columns])
        weights, others = (load_model(run.model(name)).state_dict() for run in (two, one))
        assert all(torch.equal(weights[key], others[key]) for key in others)
    assert not list(two.path.glob("model/*/state.pt"))
    assert multiprocessing.active_children() == []


def test_an_error_ends_the_processes_beside(clouds, tmp_path):
    def watch(name):
        def fail(epoch, row):
            raise ZeroDivisionError

        return fail

    with pytest.raises(ZeroDivisionError):
        train_models(MODELS, clouds, RunFolder(tmp_path / "run"), progress=False, workers=2, watch=watch)
    assert multiprocessing.active_children() == []


def test_what_a_killed_process_leaves_is_trained_here(clouds, tmp_path):
    run = RunFolder(tmp_path / "run")

    def watch(name):
        def kill(epoch, row):
            if epoch == 1:
                for process in multiprocessing.active_children():
                    process.kill()
                    process.join()

        return kill

    results = train_models(MODELS, clouds, run, progress=False, workers=2, watch=watch)
    assert {name: len(result.history) for name, result in results.items()} == dict.fromkeys(MODELS, 2)


def test_networks_that_nobody_watches_are_trained_beside(clouds, tmp_path):
    """As in notebook 02, where further seeds have no curve of their own."""
    run = RunFolder(tmp_path / "run")

    def wait(epoch, row):
        until((run.model("pfn") / "result.json").exists)

    results = train_models(MODELS, clouds, run, progress=False, workers=2, watch={"particlenet": wait}.get)
    assert list(results) == list(MODELS)


def test_what_cannot_be_trained_beside_is_an_error_here(clouds, tmp_path, capfd):
    run = RunFolder(tmp_path / "run")
    broken = dataclasses.replace(clouds["pfn"], target=np.full_like(clouds["pfn"].target, np.nan))
    with pytest.raises(InputError, match="no finite target"):
        train_models(MODELS, clouds | {"pfn": broken}, run, progress=False, workers=2)
    assert "Traceback" not in capfd.readouterr().err
    assert multiprocessing.active_children() == []

"""The trainings of a study: each once, whatever is interrupted."""

from __future__ import annotations

import pytest

from jetcorr_utils.config import DataSettings, ParticleNetSettings, PfnSettings, TrainingSettings
from jetcorr_utils.data import load_clouds
from jetcorr_utils.run import RunFolder
from jetcorr_utils.training import load_model, train_models

SMALL = {"conv_layers": 1, "conv_dim": 8, "fc_dim": 8, "training": TrainingSettings(epochs=2, batch_size=200)}
MODELS = {
    "pfn": PfnSettings(architecture="pfn", **SMALL),
    "particlenet": ParticleNetSettings(architecture="particlenet", blocks=1, k=4, **SMALL),
}


@pytest.fixture
def clouds(sample, tmp_path):
    dataset = load_clouds(DataSettings(files=(str(sample),)), cache_dir=tmp_path / "cache", progress=False)
    return dict.fromkeys(MODELS, dataset)


def test_an_interrupted_study_does_not_repeat_the_trainings_that_were_done(clouds, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyError):  # the clouds of the second model are not there
        train_models(MODELS, {"pfn": clouds["pfn"]}, run, progress=False)
    written = (run.model("pfn") / "checkpoint.pt").stat().st_mtime_ns
    first = (run.model("pfn") / "history.csv").read_text()
    results = train_models(MODELS, clouds, run, progress=False)
    assert list(results) == list(MODELS)
    assert (run.model("pfn") / "checkpoint.pt").stat().st_mtime_ns == written
    assert (run.model("pfn") / "history.csv").read_text() == first  # the seconds included
    assert not list(run.path.glob("model/*/state.pt"))
    assert {name: load_model(run.model(name)).settings for name in MODELS} == MODELS


def test_a_finished_study_is_trained_anew(clouds, tmp_path):
    run = RunFolder(tmp_path / "run")
    pfn = {"pfn": MODELS["pfn"]}
    train_models(pfn, clouds, run, progress=False)
    written = (run.model("pfn") / "checkpoint.pt").stat().st_mtime_ns
    train_models(pfn, clouds, run, progress=False)
    assert (run.model("pfn") / "checkpoint.pt").stat().st_mtime_ns > written


def test_a_training_whose_network_is_gone_is_repeated(clouds, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyError):
        train_models(MODELS, {"pfn": clouds["pfn"]}, run, progress=False)
    (run.model("pfn") / "checkpoint.pt").unlink()
    train_models({"pfn": MODELS["pfn"]}, clouds, run, progress=False)
    assert load_model(run.model("pfn")).settings == MODELS["pfn"]

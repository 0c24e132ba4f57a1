"""The training: it learns, it is reproducible to the bit, it resumes, it reports, it fails with a reason."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jetcorr_utils.config import ParticleNetSettings, PfnSettings, TrainingSettings
from jetcorr_utils.data.ranges import jet_range
from jetcorr_utils.errors import InputError, Stopped, TrainingError
from jetcorr_utils.files import read_json, write_json
from jetcorr_utils.models import build_model
from jetcorr_utils.models.denormals import denormals_as_zero
from jetcorr_utils.models.losses import CorrectionLoss
from jetcorr_utils.training import find_learning_rate, load_model, load_result, predict, state, train
from tests.clouds import random_clouds

VALIDATION = random_clouds(200, seed=2)


def settings(architecture: str = "pfn", **training):
    options = TrainingSettings(**{"epochs": 3, "batch_size": 50, "learning_rate": 3e-3, **training})
    shape = {"conv_layers": 2, "conv_dim": 16, "fc_dim": 16, "dropout": 0.1, "training": options}
    if architecture == "pfn":
        return PfnSettings(architecture="pfn", **shape)
    return ParticleNetSettings(architecture="particlenet", blocks=2, k=4, **shape)


def checkpoint(folder: Path) -> bytes:
    return (folder / "checkpoint.pt").read_bytes()


@pytest.mark.parametrize("architecture", ["pfn", "particlenet"])
def test_learns_what_can_be_learned(architecture, tmp_path):
    result = train(settings(architecture, epochs=12), random_clouds(1000, seed=1), VALIDATION, tmp_path, progress=False)
    assert result.validation_mae < 0.6 * result.constant_mae
    assert result.validation_mae == result.history["validation_mae"][result.best_epoch - 1]
    assert result.parameters == sum(p.numel() for p in load_model(tmp_path).parameters())
    factor, sigma = predict(load_model(tmp_path), VALIDATION, batch_size=64)
    # Evaluated in batches of another size, in the order of the data set
    assert np.abs(VALIDATION.target - factor).mean() == pytest.approx(result.validation_mae, rel=1e-4)
    assert (sigma > 0).all()


def test_files_of_a_finished_training(tmp_path):
    result = train(settings(), random_clouds(200), VALIDATION, tmp_path, progress=False)
    files = {"checkpoint.pt", "settings.json", "history.csv", "result.json", "model_card.md", ".lock"}
    assert {p.name for p in tmp_path.iterdir()} == files
    again = load_result(tmp_path)
    pd.testing.assert_frame_equal(again.history, result.history)
    assert dataclasses.replace(again, history=None) == dataclasses.replace(result, history=None)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), result.history)
    columns = {"epoch", "train_loss", "train_mae", "validation_loss", "validation_mae", "validation_quantiles",
               "learning_rate", "seconds"}  # fmt: skip
    assert set(result.history.columns) == columns
    assert PfnSettings(**json.loads((tmp_path / "settings.json").read_text())) == settings()
    card = (tmp_path / "model_card.md").read_text()
    assert f"{result.validation_mae:.5f}" in card
    assert "200 jets" in card
    low, high = VALIDATION.multiplicity.min(), VALIDATION.multiplicity.max()
    assert jet_range(VALIDATION)["particles"] == [low, high]
    assert "| particles |" in card


def test_the_result_of_an_earlier_training_is_not_that_of_one_which_was_stopped(tmp_path):
    """Notebook 04 compares networks by it: it would have exported this one by the other one's error."""

    def stop(epoch, row):
        raise KeyboardInterrupt

    train(settings(), random_clouds(200), VALIDATION, tmp_path, progress=False)
    assert load_result(tmp_path).validation_mae > 0
    with contextlib.suppress(KeyboardInterrupt):
        train(settings(seed=9), random_clouds(200), VALIDATION, tmp_path, progress=False, callback=stop)
    with pytest.raises(InputError, match=r"checkpoint\.pt: damaged, or of a training that has not ended"):
        load_result(tmp_path)
    again = train(settings(seed=9), random_clouds(200), VALIDATION, tmp_path, progress=False)
    assert load_result(tmp_path).validation_mae == again.validation_mae


@pytest.mark.parametrize("change", [("validation_mae", 0.001), ("key", "another"), ("files", {})])
def test_a_changed_record_of_a_training_is_refused_and_says_what_helps(tmp_path, change):
    train(settings(), random_clouds(200), VALIDATION, tmp_path, progress=False)
    write_json(tmp_path / "result.json", read_json(tmp_path / "result.json") | dict([change]))
    with pytest.raises(InputError, match=r"result\.json: damaged, not as it was written; delete it"):
        load_result(tmp_path)
    (tmp_path / "result.json").unlink()
    train(settings(), random_clouds(200), VALIDATION, tmp_path, progress=False)
    assert load_result(tmp_path).validation_mae > 0


def test_a_training_that_has_not_ended_has_no_result(tmp_path):
    with pytest.raises(InputError, match=r"no training has ended here; train a model first"):
        load_result(tmp_path)


@pytest.mark.parametrize("architecture", ["pfn", "particlenet"])
def test_same_seed_same_bytes(architecture, tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        torch.rand(3)  # the state of the global generator does not matter
        options = settings(architecture, seed=seed, flavour_balance=0.3)
        train(options, random_clouds(150), VALIDATION, tmp_path / name, progress=False)
    assert checkpoint(tmp_path / "a") == checkpoint(tmp_path / "b")
    assert checkpoint(tmp_path / "a") != checkpoint(tmp_path / "c")


def test_weights_that_decay_to_nothing_become_zero(tmp_path, monkeypatch):
    """Denormal weights, below 1.2e-38, would make products many times slower."""

    def build_dead(settings):
        model = build_model(settings)
        with torch.no_grad():
            model.phi.lins[0].weight[0] = 1e-39
            model.phi.lins[0].bias[0] = -10.0  # its ReLU never opens, so nothing but the decay moves the weights
        return model

    monkeypatch.setattr(state, "build_model", build_dead)
    train(settings(epochs=1), random_clouds(60), VALIDATION, tmp_path, progress=False)
    with denormals_as_zero() as possible:
        assert torch.tensor([1e-39]).mul(0.5).item() == 0 or not possible
    if possible:
        assert (load_model(tmp_path).phi.lins[0].weight[0] == 0).all()
    assert torch.tensor([1e-39]).mul(0.5).item() > 0  # the caller's arithmetic is as it was


def test_the_random_state_of_the_caller_is_left_alone(tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(settings(epochs=1), random_clouds(60), VALIDATION, tmp_path, progress=False)
    assert torch.equal(torch.rand(3), expected)


class Stop(Exception):
    """What a pruner raises."""


@pytest.mark.parametrize("architecture", ["pfn", "particlenet"])
@pytest.mark.parametrize(("schedule", "shard"), [("cosine", None), ("plateau", 64)])
def test_resumed_equals_undisturbed(architecture, schedule, shard, tmp_path):
    options = settings(architecture, epochs=4, schedule=schedule, shard_jets=shard, flavour_balance=0.3)
    data = random_clouds(150)
    whole = train(options, data, VALIDATION, tmp_path / "whole", progress=False)

    def stop(epoch, row):
        if epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        train(options, data, VALIDATION, tmp_path / "parts", progress=False, callback=stop)
    epochs = []
    resumed = train(
        options, data, VALIDATION, tmp_path / "parts", progress=False, callback=lambda epoch, _: epochs.append(epoch)
    )
    assert epochs == [1, 2, 3, 4]  # those before the stop are shown again
    assert checkpoint(tmp_path / "parts") == checkpoint(tmp_path / "whole")
    same = [name for name in whole.history if name != "seconds"]
    pd.testing.assert_frame_equal(resumed.history[same], whole.history[same])


def test_another_training_is_not_resumed(tmp_path):
    data = random_clouds(60)

    def stop(epoch, row):
        raise Stop

    with pytest.raises(Stop):
        train(settings(), data, VALIDATION, tmp_path, progress=False, callback=stop)
    for other in ({"seed": 9}, {"epochs": 2}):
        epochs = []
        train(
            settings(**other),
            data,
            VALIDATION,
            tmp_path,
            progress=False,
            callback=lambda e, _: epochs.append(e),  # noqa: B023
        )
        assert epochs[0] == 1


TRAIN_FOREVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from tests.clouds import random_clouds
from tests.training.test_training import VALIDATION, settings
from jetcorr_utils.training import train
options = settings("particlenet", epochs=10, schedule="cosine", optimizer="ranger", flavour_balance=0.3, patience=10)
print("start", flush=True)
train(options, random_clouds(600), VALIDATION, Path(sys.argv[2]), progress=False, log_dir=sys.argv[2] + "/log")
"""


@pytest.mark.slow
def test_killed_and_resumed_equals_undisturbed(tmp_path):
    """SIGKILL at random moments: whatever was being written, the weights end the same to the bit."""
    root = str(Path(__file__).parents[2])
    rng = np.random.default_rng(4)

    def start(folder: Path) -> subprocess.Popen:
        command = [sys.executable, "-W", "ignore", "-c", TRAIN_FOREVER, root, str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "start\n"
        return process

    with start(tmp_path / "undisturbed") as undisturbed:
        assert undisturbed.wait() == 0
    kills = 0
    while kills < int(os.environ.get("JETCORR_KILLS", 2)):
        with start(tmp_path / "killed") as process:  # from the beginning, if the last one was faster than the kill
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=rng.uniform(0.2, 1.5))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
    with start(tmp_path / "killed") as process:
        assert process.wait() == 0
    assert checkpoint(tmp_path / "killed") == checkpoint(tmp_path / "undisturbed")


def test_two_trainings_do_not_share_a_folder(tmp_path):
    def second(epoch, row):
        with pytest.raises(InputError, match="another training is at work"):
            train(settings(seed=9), random_clouds(60), VALIDATION, tmp_path, progress=False)

    train(settings(epochs=1), random_clouds(60), VALIDATION, tmp_path, progress=False, callback=second)
    assert load_model(tmp_path).settings == settings(epochs=1)


def test_training_stops_early(tmp_path):
    data = random_clouds(60)
    data.target[:] = 0.01 * np.random.default_rng(1).normal(size=60)  # nothing to learn, only to overfit
    result = train(settings(epochs=60, patience=3, learning_rate=0.02), data, VALIDATION, tmp_path, progress=False)
    assert len(result.history) < 60
    assert len(result.history) == result.best_epoch + 3


def test_max_jets_takes_a_part(tmp_path):
    result = train(settings(epochs=1, max_jets=70), random_clouds(200), VALIDATION, tmp_path, progress=False)
    assert "70 jets" in (tmp_path / "model_card.md").read_text()
    assert result.jets_per_s > 0


@pytest.mark.parametrize("url", ["file", "memory://bucket/log"], ids=["folder", "fsspec URL"])
def test_tensorboard_log(url, tmp_path):
    log = url if "://" in url else tmp_path / url
    result = train(settings(), random_clouds(100), VALIDATION, tmp_path, log_dir=log, progress=False)
    events = EventAccumulator(str(log)).Reload()
    logged = [(event.step, event.value) for event in events.Scalars("validation/mae")]
    np.testing.assert_allclose(logged, result.history[["epoch", "validation_mae"]], rtol=1e-6)
    assert "head.output.weight" in events.Tags()["histograms"]


def test_a_loss_that_is_not_finite_ends_the_training_and_keeps_the_batch(tmp_path):
    data = random_clouds(60)
    with pytest.raises(TrainingError, match=r"epoch 1 is (nan|inf); the batch is in .*bad_batch.pt"):
        train(settings(learning_rate=1e30, warmup=0), data, VALIDATION, tmp_path, progress=False)
    batch = torch.load(tmp_path / "bad_batch.pt", weights_only=True)
    np.testing.assert_array_equal(batch["target"], data.target[batch["index"]])


def test_a_learning_rate_that_ruins_the_network_is_found_in_training(tmp_path, caplog):
    with pytest.raises(TrainingError, match=r"has ruined the network: .* that of a constant .*; lower training"):
        train(settings(learning_rate=1e4, warmup=0, epochs=1), random_clouds(60), VALIDATION, tmp_path, progress=False)
    assert not (tmp_path / "result.json").exists()
    train(settings(learning_rate=1e-9, epochs=1), random_clouds(60), VALIDATION, tmp_path / "slow", progress=False)
    assert "the network has learned nothing: its best validation error" in caplog.text


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "ranger", "rmsprop", "adagrad"])
@pytest.mark.parametrize("name", ["learning_rate", "weight_decay"])
def test_a_number_beyond_single_precision_is_refused_and_the_largest_other_has_no_traceback(name, optimizer, tmp_path):
    with pytest.raises(ValidationError, match=name):
        settings(**{name: 1e300})
    largest = settings(**{name: 1e30}, warmup=0, optimizer=optimizer)
    with contextlib.suppress(TrainingError):  # some are harmless
        train(largest, random_clouds(60), VALIDATION, tmp_path, progress=False)


def test_a_stopped_training_says_after_which_epoch_and_goes_on_with_its_history(tmp_path):
    def stop(epoch, row):
        if epoch == 2:
            raise KeyboardInterrupt

    data = random_clouds(60)
    with pytest.raises(Stopped, match="stopped after epoch 2 of 3; run this again to go on") as stopped:
        train(settings(), data, VALIDATION, tmp_path, progress=False, callback=stop)
    assert stopped.value._render_traceback_() == [f"Stopped: {stopped.value}"]
    seen = []
    result = train(settings(), data, VALIDATION, tmp_path, progress=False, callback=lambda epoch, row: seen.append(row))
    assert [row["epoch"] for row in seen] == [1, 2, 3]
    pd.testing.assert_frame_equal(pd.DataFrame(seen), result.history, check_dtype=False)


def test_a_gradient_that_is_not_finite_ends_the_training_and_keeps_the_batch(tmp_path, monkeypatch):
    total = CorrectionLoss.total
    monkeypatch.setattr(CorrectionLoss, "total", lambda self, terms: total(self, terms) + (0 * terms["mae"]).sqrt())
    with pytest.raises(TrainingError, match=r"gradient of a batch in epoch 1 has the norm nan; .*bad_batch.pt"):
        train(settings(), random_clouds(60), VALIDATION, tmp_path, progress=False)
    assert (tmp_path / "bad_batch.pt").is_file()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_validation_loss_that_is_not_finite_ends_the_training(tmp_path):
    """One step an epoch: it is the validation that first sees what this step has done."""
    options = settings(learning_rate=1e30, warmup=0, batch_size=1000)
    with pytest.raises(TrainingError, match="validation loss of epoch 1 is nan"):
        train(options, random_clouds(60), VALIDATION, tmp_path, progress=False)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_jets_without_generator_jet_are_refused(tmp_path):
    data = random_clouds(60)
    data.target[13] = np.nan
    with pytest.raises(InputError, match="1 jets have no finite target"):
        train(settings(), data, VALIDATION, tmp_path, progress=False)


def test_no_jets_no_training(tmp_path):
    data = random_clouds(20)
    with pytest.raises(InputError, match="cannot train on 0 jets and validate on 20"):
        train(settings(), data.slice(0, 0), data, tmp_path, progress=False)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_what_is_not_a_checkpoint_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(InputError, match="checkpoint"):
        load_model(tmp_path)


def test_a_checkpoint_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    torch.save({"settings": Evil(), "weights": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="not a checkpoint"):
        load_model(tmp_path)


def test_learning_rate_finder():
    rate, curve = find_learning_rate(settings(batch_size=500), random_clouds(500), steps=60, progress=False)
    assert 1e-4 < rate < 0.1
    assert (curve["learning_rate"].diff().dropna() > 0).all()
    assert curve["smooth"].min() < 0.9 * curve["smooth"][0]
    with pytest.raises(InputError, match="search"):
        find_learning_rate(settings(), random_clouds(50), lowest=1, highest=0.1)


@pytest.mark.parametrize("option", [{"amp": True}, {"compile": True}], ids=["bfloat16", "torch.compile"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_options_train_too(option, tmp_path, monkeypatch):
    # torch.compile traces the network; what its default backend makes of the trace needs a C++ compiler and a minute
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    result = train(settings(epochs=2), random_clouds(200), VALIDATION, tmp_path, progress=False, **option)
    assert np.isfinite(result.history).all().all()

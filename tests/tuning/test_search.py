"""The search: real trials on real jets, in one process and in two, stopped and taken up again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from jetcorr_utils.architectures import ModelSettings, expected_cost
from jetcorr_utils.errors import InputError, TrainingError
from jetcorr_utils.files import read_json
from jetcorr_utils.models.inputs import sample_rows
from jetcorr_utils.training import load_model, predict
from jetcorr_utils.tuning import load_search, search, train_best, trial_workers
from jetcorr_utils.tuning.space import draw, own_parameters
from jetcorr_utils.tuning.trial import TrialRecord, read_trial, run_trial
from jetcorr_utils.tuning.trial_metrics import constant_error
from jetcorr_utils.tuning.trial_workers import Job

TIMES = ["seconds", "jets_per_s", "train_jets_per_s"]  # what the clock decides


@pytest.fixture(scope="module")
def result(study, clouds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return search(study, *clouds, folder / "tuning", log_dir=folder / "tensorboard", progress=False)


def with_tuning(study, **changes):
    return study.model_copy(update={"tuning": study.tuning.model_copy(update=changes)})


def test_each_trial_is_recorded_with_its_settings_and_metrics(result, study, clouds):
    trials = result.trials
    assert list(trials.index) == list(range(6))
    assert set(trials["state"]) == {"complete"}
    assert trials["error"].isna().all()
    assert np.isfinite(trials[["mae", "resolution_gain", "flavour_spread", "closure"]].to_numpy(float)).all()
    assert (trials[["jets_per_s", "train_jets_per_s", "seconds", "parameters"]] > 0).all(axis=None)
    trained_on = clouds[0].select(sample_rows(900, 600, study.tuning.seed))
    assert trials["constant_mae"].unique() == pytest.approx(constant_error(trained_on, clouds[1]))
    assert (trials["epochs"] == 2).all()
    for number, row in trials.iterrows():
        settings = read_json(result.folder / f"{number:03d}" / "settings.json")
        assert settings["conv_layers"] == row["conv_layers"]
        assert settings["training"]["learning_rate"] == row["training.learning_rate"]
    assert list(result.histories.groupby("trial").size()) == [2] * 6


def test_the_first_trial_has_the_studys_own_settings_so_the_best_is_no_worse(result, study):
    own = own_parameters(study.models["pfn"], study.tuning.space)
    assert own["conv_dim"] == 32  # which the space does not hold
    assert {name: result.trials[name][0] for name in own} == own
    assert result.trials["mae"][result.best] == result.trials["mae"].min() <= result.trials["mae"][0]
    assert result.best_settings.training.epochs == study.models["pfn"].training.epochs
    assert own_parameters(result.best_settings, study.tuning.space) == result.best_values


def test_the_recorded_error_is_that_of_the_checkpoint(result, clouds):
    number = 3
    log_factor, _ = predict(load_model(result.folder / f"{number:03d}"), clouds[1])
    assert result.trials["mae"][number] == pytest.approx(np.abs(log_factor - clouds[1].target).mean(), rel=1e-5)
    response = np.exp(log_factor) * clouds[1].table["jetPt"] / clouds[1].table["genJetPt"]
    assert result.trials["closure"][number] == pytest.approx(np.median(response) - 1, abs=1e-6)


def test_a_search_that_is_done_is_not_done_again(result, study, clouds):
    before = {path: path.stat().st_mtime_ns for path in result.folder.glob("0*/*")}
    again = search(study, *clouds, result.folder, progress=False)
    pd.testing.assert_frame_equal(again.trials, result.trials)
    assert {path: path.stat().st_mtime_ns for path in result.folder.glob("0*/*")} == before


def test_two_processes_give_the_trials_of_one(result, study, clouds, tmp_path):
    both = search(study, *clouds, tmp_path / "tuning", workers=2, progress=False)
    pd.testing.assert_frame_equal(both.trials.drop(columns=TIMES), result.trials.drop(columns=TIMES), check_exact=True)
    for folder in ("000", "003"):
        checkpoints = [(search.folder / folder / "checkpoint.pt").read_bytes() for search in (both, result)]
        assert checkpoints[0] == checkpoints[1]


def test_long_trials_come_first_where_the_draws_do_not_depend_on_others(study, clouds, tmp_path):
    job = Job(study, *clouds, tmp_path)
    queue = job.queue()
    queue.fill({}, job.cost)
    taken, drawn = [], []
    for _ in range(study.tuning.trials):
        with queue.take() as (number, trial):
            taken.append(number)
            drawn.append(job.cost(draw(trial, study.tuning.space)))
    assert sorted(taken) == list(range(study.tuning.trials)) != taken
    assert drawn == sorted(drawn, reverse=True)


def test_trials_that_learn_from_others_keep_their_order(study, clouds, tmp_path):
    job = Job(with_tuning(study, sampler="tpe"), *clouds, tmp_path)
    queue = job.queue()
    queue.fill({}, job.cost)
    for number in range(3):
        with queue.take() as taken:
            assert taken[0] == number


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("pfn", {"conv_dim": 128}),
        ("pfn", {"conv_layers": 5}),
        ("pfn", {"fc_dim": 400}),
        ("particlenet", {"k": 20}),
        ("particlenet", {"blocks": 4}),
    ],
)
def test_a_larger_network_is_expected_to_take_longer(less, more):
    settings = TypeAdapter(ModelSettings).validate_python({"architecture": less})
    assert expected_cost(settings.model_copy(update=more), 25) > expected_cost(settings, 25)
    assert expected_cost(settings, 50) > expected_cost(settings, 25)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_a_worker_that_dies_is_replaced_and_its_trial_run_again(study, clouds, tmp_path, caplog):
    killer = threading.Thread(target=kill_a_worker_in_its_trial, args=(tmp_path,))
    killer.start()
    trials = search(with_tuning(study, trials=8, epochs=8), *clouds, tmp_path, workers=2, progress=False).trials
    killer.join()
    assert list(trials.index) == list(range(8))
    assert set(trials["state"]) <= {"complete", "constant"}
    (said,) = re.findall(r"trial (\d+): the worker process ended with exit code -9; it is run again", caplog.text)
    undisturbed = search(with_tuning(study, trials=8, epochs=8), *clouds, tmp_path / "two", progress=False).trials
    assert trials["mae"].equals(undisturbed["mae"]), said


def test_a_trial_in_which_two_workers_have_died_is_recorded_as_failed(study, clouds, tmp_path):
    queue = Job(with_tuning(study, trials=1), *clouds, tmp_path).queue()
    queue.fill({})
    for record in (None, TrialRecord(0, "failed", {}, error="death 2")):
        with queue.take():
            pass  # it dies without a word
        assert queue.again_or_failed("death 1" if record is None else "death 2")
        assert read_trial(queue.trial_folder(0)) == record
        assert queue.waiting() == (record is None)
    assert not queue.again_or_failed("nobody")


def die_in_trial_2(job: Job) -> None:
    """The main function of a worker process that never comes to the end of this trial."""

    def run(number, *arguments, **options):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_trial(number, *arguments, **options)

    trial_workers.run_trial = run
    trial_workers._worker(job)


def test_a_trial_that_kills_its_process_does_not_kill_that_of_the_search(study, clouds, tmp_path, monkeypatch):
    ran = []

    def run(number, *arguments, **options):
        while not ran and not (tmp_path / "002").exists():
            time.sleep(0.05)
        ran.append(number)
        return run_trial(number, *arguments, **options)

    monkeypatch.setattr(trial_workers, "_worker", die_in_trial_2)
    monkeypatch.setattr(trial_workers, "run_trial", run)
    few = with_tuning(study, trials=4, epochs=1, sampler="tpe")  # which takes them in their order
    trials = search(few, *clouds, tmp_path, workers=2, progress=False).trials
    assert 2 not in ran
    assert trials["state"].to_list() == ["complete", "complete", "failed", "complete"]
    assert trials["error"][2] == "the worker process ended with exit code -9"


def test_the_studys_own_trial_has_its_settings_also_when_it_is_run_again(study, clouds, tmp_path):
    queue = Job(with_tuning(study, trials=1), *clouds, tmp_path).queue()
    queue.fill({"conv_dim": 32})
    with queue.take():
        pass  # it dies before anything is drawn
    assert queue.again_or_failed("death")
    with queue.take() as (number, trial):
        assert number == 0
        assert trial.suggest_int("conv_dim", 8, 1024) == 32


def test_a_trial_that_is_run_again_counts_once_for_halving(study, clouds, tmp_path):
    queue = Job(with_tuning(study, trials=2, pruner="halving", sampler="tpe"), *clouds, tmp_path).queue()
    queue.fill({})
    with queue.take() as (_, trial):
        trial.report(0.5, 1)
        assert not trial.should_prune()
    assert queue.again_or_failed("death")
    with queue.take() as (number, trial):
        trial.report(0.6, 1)
        assert (number, trial.should_prune()) == (1, False)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("trial.json", r'"mae": 0\.\d+', '"mae": 0.001', r"001/trial\.json: damaged, not as it was written"),
        (
            "trial.json",
            r'"state": "complete"',
            '"state": "complet"',
            r"001/trial\.json: damaged, not as it was written",
        ),
        ("trial.json", r',\s*"digest": "\w+"', "", r"001/trial\.json: damaged, or of an earlier version"),
        ("history.csv", r"^1,0\.\d+", "1,0.01", r"001/history\.csv: damaged, .*; delete .*001/trial\.json to have"),
    ],
)
def test_numbers_of_a_trial_that_have_changed_are_refused(result, tmp_path, name, old, new, said):
    folder = Path(shutil.copytree(result.folder, tmp_path / "tuning"))
    text = (folder / "001" / name).read_text()
    (folder / "001" / name).write_text(re.sub(old, new, text, count=1, flags=re.MULTILINE))
    assert (folder / "001" / name).read_text() != text
    with pytest.raises(InputError, match=said):
        load_search(folder)


def kill_a_worker_in_its_trial(folder: Path) -> None:
    """SIGKILL for the first worker process that is seen in an epoch of a trial."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for worker in multiprocessing.active_children():
            with contextlib.suppress(OSError):
                locks = [Path(os.readlink(file)) for file in Path(f"/proc/{worker.pid}/fd").iterdir()]
                place = next((lock.parent for lock in locks if lock.name == "trial.lock"), None)
                if place and (place / "history.csv").exists() and not (place / "trial.json").exists():
                    worker.kill()
                    return
        time.sleep(0.01)


def test_a_search_goes_on_without_a_worker_that_cannot_start(study, clouds, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(trial_workers, "_worker", fail)
    trials = search(with_tuning(study, trials=2, epochs=1), *clouds, tmp_path, workers=2, progress=False).trials
    assert set(trials["state"]) == {"complete"}
    assert "a worker process ended with exit code 3; the search goes on without" in caplog.text


def fail(_job) -> None:
    sys.exit(3)


def test_another_seed_draws_other_trials_and_replaces_the_search(study, clouds, tmp_path, capsys):
    short = with_tuning(study, trials=2, epochs=1, max_jets=200)
    first = search(short, *clouds, tmp_path, progress=False)
    second = search(with_tuning(short, seed=2), *clouds, tmp_path, progress=False)
    assert "holds another search, which is removed" in capsys.readouterr().out
    assert first.trials["training.learning_rate"][0] == second.trials["training.learning_rate"][0]
    assert first.trials["training.learning_rate"][1] != second.trials["training.learning_rate"][1]


def test_more_trials_go_on_with_those_that_are_there(study, clouds, tmp_path):
    short = with_tuning(study, trials=2, epochs=1, max_jets=200)
    first = search(short, *clouds, tmp_path, progress=False)
    more = search(with_tuning(short, trials=4), *clouds, tmp_path, progress=False)
    assert list(more.trials.index) == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(more.trials[:2], first.trials)


def test_a_trial_that_fails_is_recorded_and_the_others_go_on(study, clouds, tmp_path):
    data = study.model_dump()
    # A batch of infinite learning rate: the loss is not finite after its first step.
    data["tuning"]["space"] = {"training.learning_rate": {"choices": (1e-3, 1e30)}}
    data["tuning"] |= {"trials": 5, "epochs": 1}
    result = search(type(study).model_validate(data), *clouds, tmp_path, progress=False)
    failed = result.trials[result.trials["training.learning_rate"] == 1e30]
    assert 0 < len(failed) < 5
    assert set(failed["state"]) == {"failed"}
    assert failed["error"].str.startswith("TrainingError: the loss of a batch in epoch 1 is nan").all()
    assert set(result.trials.drop(failed.index)["state"]) == {"complete"}
    assert result.best not in failed.index


def test_a_search_in_which_all_trials_fail_says_why(study, clouds, tmp_path):
    data = study.model_dump()
    data["models"]["pfn"]["training"]["learning_rate"] = 1e30
    data["tuning"]["space"] = {"training.learning_rate": {"choices": (1e30,)}}
    data["tuning"] |= {"trials": 2, "epochs": 1}
    with pytest.raises(TrainingError, match=r"no trial of the search ran to its end: TrainingError: the loss"):
        search(type(study).model_validate(data), *clouds, tmp_path, progress=False)


def test_a_trial_that_stays_with_the_constant_predictor_is_stopped_and_marked(study, clouds, tmp_path):
    data = study.model_dump()
    data["tuning"]["space"] = {"training.learning_rate": {"choices": (1e-9,)}}
    data["tuning"] |= {"trials": 2, "epochs": 3, "grace": 1}
    result = search(type(study).model_validate(data), *clouds, tmp_path, progress=False)
    assert list(result.trials["state"]) == ["complete", "constant"]  # the study's own settings are never stopped
    assert result.trials["epochs"][1] == 1
    assert result.trials["mae"][1] > 0.99 * result.trials["constant_mae"][1]
    assert not (tmp_path / "001" / "state.pt").exists()


def test_successive_halving_stops_the_worse_trials_but_never_the_studys_own(study, clouds, tmp_path):
    data = study.model_dump()
    data["tuning"]["space"] = {"training.learning_rate": {"min": 1e-6, "max": 3e-3, "log": True}}
    data["tuning"] |= {"trials": 7, "epochs": 4, "max_jets": 300, "grace": 4, "pruner": "halving", "sampler": "tpe"}
    trials = search(type(study).model_validate(data), *clouds, tmp_path, progress=False).trials
    assert trials["state"][0] == "complete"
    pruned = trials[trials["state"] == "pruned"]
    assert len(pruned) > 0
    assert (pruned["epochs"] < 4).all()
    assert pruned["mae"].mean() > trials["mae"][trials["state"] == "complete"].mean()


def test_the_best_network_is_trained_at_full_length(result, study, clouds, tmp_path):
    trained = train_best(study, result, *clouds, tmp_path / "best", progress=False)
    if result.best == 0:
        assert trained is None
    else:
        assert len(trained.history) == study.models["pfn"].training.epochs
        assert load_model(tmp_path / "best").settings == result.best_settings


def test_nothing_is_trained_if_the_studys_own_settings_are_the_best(study, clouds, tmp_path):
    only = search(with_tuning(study, trials=1, epochs=1, max_jets=200), *clouds, tmp_path / "tuning", progress=False)
    (tmp_path / "best").mkdir()
    assert train_best(study, only, *clouds, tmp_path / "best", progress=False) is None
    assert not (tmp_path / "best").exists()


def test_a_folder_without_a_search_is_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no search here; run `jetcorr tune` or notebook 03 first"):
        load_search(tmp_path)

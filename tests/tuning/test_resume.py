"""A search that is killed: nothing lost, nothing counted twice, the same trials in the end."""

from __future__ import annotations

import pickle
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter

import optuna
import pandas as pd
import psutil
import pytest

from jetcorr_utils.errors import InputError
from jetcorr_utils.tuning import load_search, search
from jetcorr_utils.tuning.queue import JOURNAL, TrialQueue
from jetcorr_utils.tuning.space import draw

SCRIPT = """
import pickle, sys
from pathlib import Path
from jetcorr_utils.tuning import search
if __name__ == "__main__":
    study, clouds = pickle.loads(Path(sys.argv[1]).read_bytes())
    search(study, *clouds, Path(sys.argv[2]), workers=int(sys.argv[3]), progress=False)
"""


@pytest.fixture(scope="module")
def long_study(study):
    """Trials long enough to be killed in their midst."""
    return study.model_copy(update={"tuning": study.tuning.model_copy(update={"trials": 8, "epochs": 12})})


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kills"), [(1, 5), (2, 1)])
def test_killed_at_random_moments_and_taken_up_again(long_study, clouds, tmp_path, workers, kills):
    expected = search(long_study, *clouds, tmp_path / "undisturbed", progress=False)
    (tmp_path / "job").write_bytes(pickle.dumps((long_study, clouds)))
    (tmp_path / "script.py").write_text(SCRIPT)
    folder = tmp_path / "killed"
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "job"), str(folder), str(workers)]
    randomness = random.Random(workers)
    for _ in range(kills):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (folder / JOURNAL).exists():
            time.sleep(0.05)
        wait_for_a_trial(folder, process)
        time.sleep(randomness.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
    result = search(long_study, *clouds, folder, progress=False)
    columns = ["state", "mae", "epochs", *long_study.tuning.space]
    pd.testing.assert_frame_equal(result.trials[columns], expected.trials[columns], rtol=1e-4)
    # Optuna's own record, which the samplers learn from, has each trial that ended well exactly once.
    optuna_study = TrialQueue(folder, long_study.tuning).study
    done = optuna_study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert Counter(trial.user_attrs["number"] for trial in done) == Counter(result.complete.index)
    assert {t.user_attrs["number"]: t.value for t in done} == result.complete["mae"].to_dict()


def wait_for_a_trial(folder, process) -> None:
    """Wait until the process is at work on a trial, which is after its imports."""
    ended = len(load_search(folder).trials)
    while process.poll() is None and len(load_search(folder).trials) == ended:
        histories = folder.glob("[0-9]*/history.csv")
        if any(not (path.parent / "trial.json").exists() for path in histories):
            return
        time.sleep(0.02)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("drawn", [0, 1, None])
def test_a_trial_killed_in_the_midst_of_its_draw_is_drawn_as_if_it_had_not_been(study, tmp_path, sampler, drawn):
    tuning = study.tuning.model_copy(update={"trials": 2, "sampler": sampler})
    draws = []
    for folder, kill in ((tmp_path / "undisturbed", False), (tmp_path / "killed", True)):
        folder.mkdir()
        queue = TrialQueue(folder, tuning)
        queue.fill({})
        with queue.take():  # the trial 0, whose parameters are given, is at work
            if kill:
                with queue.take() as (_, trial):
                    draw(trial, dict(list(tuning.space.items())[:drawn]))
                queue.fill({})
            with queue.take() as (number, trial):
                draws.append((number, draw(trial, tuning.space)))
    assert len(tuning.space) > 1
    assert draws[0] == draws[1]


def test_a_torn_line_at_the_end_of_the_journal_is_dropped(study, clouds, tmp_path):
    short = study.model_copy(update={"tuning": study.tuning.model_copy(update={"trials": 2, "epochs": 1})})
    search(short, *clouds, tmp_path, progress=False)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    more = study.model_copy(update={"tuning": short.tuning.model_copy(update={"trials": 3})})
    assert len(search(more, *clouds, tmp_path, progress=False).trials) == 3
    assert journal.read_bytes().startswith(whole + b'{"')


def test_a_trial_that_another_process_runs_is_left_to_it(study, clouds, tmp_path):
    short = study.model_copy(update={"tuning": study.tuning.model_copy(update={"trials": 2, "epochs": 1})})
    tmp_path.joinpath("000").mkdir()
    first, second = TrialQueue(tmp_path, short.tuning), TrialQueue(tmp_path, short.tuning)
    first.fill({})
    with first.take() as taken:
        assert taken[0] == 0
        second.fill({})  # sees trial 0 running and held
        with second.take() as other:
            assert other[0] == 1
            with second.take() as none:
                assert none is None
    second.fill({})  # both were given up without an end: they wait again
    with second.take() as again:
        assert again[0] == 0


def damage(lines: list[bytes], how: str) -> tuple[bytes, int]:
    """A journal whose line `int` Optuna did not write."""
    bad = {"binary": b"\x80\xff\x00", "type": b"[1, 2]", "number": b"7", "foreign": b'{"op_code": 99, "worker_id": ""}',
           "cut": lines[2][:20]}[how]  # fmt: skip
    return b"\n".join([*lines[:2], bad, *lines[3:]]) + b"\n", 3


@pytest.mark.parametrize("how", ["binary", "type", "number", "foreign", "cut"])
def test_a_damaged_journal_is_named_with_its_line(study, tmp_path, how):
    TrialQueue(tmp_path, study.tuning).fill({})
    journal = tmp_path / JOURNAL
    content, line = damage(journal.read_bytes().splitlines(), how)
    journal.write_bytes(content)
    with pytest.raises(InputError, match=rf"journal\.jsonl: damaged, line {line} is no entry"):
        TrialQueue(tmp_path, study.tuning)


def test_of_a_last_line_that_was_cut_off_it_is_said(study, tmp_path, caplog):
    queue = TrialQueue(tmp_path, study.tuning)
    queue.fill({})
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-9])
    again = TrialQueue(tmp_path, study.tuning)
    again.fill({})
    assert again.waiting() == queue.waiting() == study.tuning.trials
    assert "its last line was cut off" in caplog.text


def test_a_lack_of_memory_is_no_failed_trial(study, clouds, tmp_path):
    """torch says it by a RuntimeError; here a network of four gigabytes finds two."""
    models = {"pfn": study.models["pfn"].model_copy(update={"fc_dim": 4096, "fc_layers": 64})}
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2 * 1024**3, before[1]))
    try:
        with pytest.raises(MemoryError, match="can't allocate memory"):
            search(study.model_copy(update={"models": models}), *clouds, tmp_path, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert not list(tmp_path.glob("*/trial.json"))

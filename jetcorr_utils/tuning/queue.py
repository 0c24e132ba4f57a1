"""The queue of a search: numbered trials in an Optuna study on a journal file that several processes share.

Optuna keeps the states and gives the samplers their history; three things are added here so that a search can be
stopped at any moment and taken up again with no trial lost or counted twice:

- the numbers are ours (a user attribute of the Optuna trial), so that a trial that is run again keeps its number;
- a process holds a lock on a trial's folder while it runs it, and the kernel frees the lock of a process that dies, so
  a running trial whose lock is free is dead; it is run again, unless its worker has died for the second time;
- the sampler is seeded anew for each number, so that a draw does not depend on who makes it or when.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from ..config import TuningSettings
from ..errors import InputError, JetcorrError
from ..files import Lock, open_own
from .space import Parameters, draw
from .trial import RECORD, TrialRecord, read_trial, write_record

__all__ = ["TrialQueue", "quiet_optuna"]

JOURNAL = "journal.jsonl"
NUMBER = "number"
AGAIN = "again"
"""Of a trial whose worker process has died in it once."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna from telling of each study that is made: the progress bar has what matters."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


class TrialQueue:
    """The trials of one search and who runs them.

    Parameters
    ----------
    folder
        The search's folder; it holds the journal and a folder for each trial.
    tuning
        The settings of the search.

    Raises
    ------
    InputError
        If the journal is damaged. Of a last line that was cut off it is only said: its process was killed.
    """

    def __init__(self, folder: Path, tuning: TuningSettings) -> None:
        self.folder, self.tuning = folder, tuning
        self._own: Parameters = {}
        self._lock = Lock(folder / "queue.lock", "search")
        journal = str(folder / JOURNAL)
        open_own(journal).close()  # Optuna would make it wherever a link leads
        with quiet_optuna(), _named_line(journal):
            self.study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(journal, lock_obj=_JournalLock(journal))),
                study_name="jetcorr", sampler=_SamplerByNumber(lambda number: _sampler(tuning, number)),
                pruner=_pruner(tuning), direction="minimize", load_if_exists=True,
            )  # fmt: skip
            for frozen in self._trials(None):
                int(frozen.user_attrs[NUMBER])

    def trial_folder(self, number: int) -> Path:
        """Where the trial `number` keeps its files."""
        return self.folder / f"{number:03d}"

    def fill(self, own: Parameters, cost: Callable[[Parameters], float] | None = None) -> None:
        """Put in the queue each trial that is neither there nor done; take up those whose process has died.

        Parameters
        ----------
        own
            The parameters of the trial 0: the study's own settings.
        cost
            How long a trial with these parameters takes, compared with others. Where the draws do not depend on other
            trials, the long ones come first, so that no worker begins a long one while the others have nothing left.
        """
        self._own = own
        with self._lock:
            fixed = self._bury_dead() | {0: own}
            living = (TrialState.WAITING, TrialState.RUNNING)
            there = {frozen.user_attrs[NUMBER] for frozen in self._trials(living)} | self.ended()
            numbers = sorted(set(range(self.tuning.trials)) - there)
            if cost is not None and (self.tuning.sampler, self.tuning.pruner) == ("random", "none"):
                numbers.sort(key=lambda number: -cost(fixed.get(number) or self._draw(number)))
            numbers.sort(key=self.fatal().__contains__)
            for number in numbers:
                self.study.enqueue_trial(fixed.get(number, {}), user_attrs={NUMBER: number})

    def _draw(self, number: int) -> Parameters:
        """What the random sampler will draw for a trial, because it looks at no other trial."""
        with quiet_optuna():
            study = optuna.create_study(sampler=_sampler(self.tuning, number))
        return draw(study.ask(), self.tuning.space)

    def again_or_failed(self, error: str) -> bool:
        """Put the running trials whose process has died in the queue again, and record as failed those that have been
        put there before; whether there were any.
        """
        with self._lock:
            before, running = self.fatal(), len(self._trials((TrialState.RUNNING,)))
            for number, values in self._bury_dead().items():
                if number in before:
                    write_record(self.trial_folder(number), TrialRecord(number, "failed", values, error=error))
                else:
                    log.warning("trial %d: %s; it is run again", number, error)
                    self.study.enqueue_trial(values, user_attrs={NUMBER: number, AGAIN: True})
            return len(self._trials((TrialState.RUNNING,))) < running

    def fatal(self) -> set[int]:
        """The numbers of the trials in which a worker process has died."""
        return {frozen.user_attrs[NUMBER] for frozen in self._trials(None) if AGAIN in frozen.user_attrs}

    def _bury_dead(self) -> dict[int, Parameters]:
        """End the running trials whose process has died; the parameters of those that were not done, by number."""
        dead = {}
        for frozen in self._trials((TrialState.RUNNING,)):
            number = frozen.user_attrs[NUMBER]
            lock = self._trial_lock(number)
            if not lock.acquire(wait=False):
                continue
            try:
                record = read_trial(self.trial_folder(number))
                self._tell(frozen.number, record)
                if record is None:
                    # Of a draw that was cut short nothing is kept: what follows it would be drawn from another state
                    whole = frozen.params.keys() == self.tuning.space.keys()
                    dead[number] = self._own if number == 0 else dict(frozen.params) if whole else {}
            finally:
                lock.release()
        return dead

    @contextlib.contextmanager
    def take(self, *, fatal: bool = True) -> Iterator[tuple[int, Trial] | None]:
        """Take the next waiting trial and hold its lock; None if there is none, or it is one of `fatal` and not to be.

        These are the last ones that wait.
        """
        with self._lock:
            waiting = self._trials((TrialState.WAITING,))
            if not waiting or (not fatal and waiting[0].user_attrs[NUMBER] in self.fatal()):
                yield None
                return
            trial = self.study.ask()
            number = trial.user_attrs[NUMBER]
            self.trial_folder(number).mkdir(exist_ok=True)
            lock = self._trial_lock(number)
            lock.acquire()
        try:
            yield number, trial
        finally:
            lock.release()

    def tell(self, trial: Trial, record: TrialRecord) -> None:
        """Enter the end of a trial."""
        self._tell(trial.number, record)

    def ended(self) -> set[int]:
        """The numbers of the trials that have ended, those that failed included."""
        return {n for n in range(self.tuning.trials) if (self.trial_folder(n) / RECORD).is_file()}

    def waiting(self) -> int:
        """How many trials nobody has begun."""
        return len(self._trials((TrialState.WAITING,)))

    def _tell(self, optuna_number: int, record: TrialRecord | None) -> None:
        if record is None or record.state == "failed":
            self.study.tell(optuna_number, state=TrialState.FAIL)
        elif record.state == "complete":
            self.study.tell(optuna_number, record.metrics["mae"])
        else:
            self.study.tell(optuna_number, state=TrialState.PRUNED)

    def _trials(self, states: tuple[TrialState, ...] | None = None) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)

    def _trial_lock(self, number: int) -> Lock:
        self.trial_folder(number).mkdir(exist_ok=True)
        return Lock(self.trial_folder(number) / "trial.lock", "trial")


class _SamplerByNumber(BaseSampler):
    """A fresh sampler for each trial, seeded by the trial's number: a draw depends on nothing but seed and history."""

    def __init__(self, make: Callable[[int], BaseSampler]) -> None:
        self._make = make
        self._sampler = make(0)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler = self._make(trial.user_attrs[NUMBER])
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


class _JournalLock:
    """A lock on the journal that the kernel frees if its holder dies (Optuna's own stays for 30 seconds)."""

    def __init__(self, journal: str) -> None:
        self._journal, self._lock = journal, Lock(f"{journal}.lock", "search")

    def acquire(self) -> bool:
        self._lock.acquire()
        _drop_torn_line(self._journal)
        return True

    def release(self) -> None:
        self._lock.release()


def _drop_torn_line(path: str) -> None:
    """Cut off what stands after the last line end: an entry whose writer died, which would spoil the next one."""
    if not os.path.lexists(path):
        return
    with open_own(path, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - 65536)
        file.seek(start)
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            log.warning("%s: its last line was cut off, as by a process that was killed; it is left out", path)
            file.truncate(start + tail.rfind(b"\n") + 1)


@contextlib.contextmanager
def _named_line(journal: str) -> Iterator[None]:
    """Turn whatever Optuna raises at a line that it did not write into an error that names it."""
    try:
        yield
    except (JetcorrError, OSError, MemoryError):
        raise
    except Exception as error:
        line = _first_bad_line(Path(journal).read_bytes().splitlines())
        raise InputError(
            f"{journal}: damaged, line {line} is no entry of Optuna's; delete the file: the trials that have ended are "
            "kept"
        ) from error


def _first_bad_line(lines: list[bytes]) -> int:
    """The number of the first line that Optuna cannot replay, counted from 1."""
    read: list[int] = []

    class OneByOne(BaseJournalBackend):
        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
            read.append(log_number_from)
            return iter([json.loads(line) for line in lines[log_number_from : log_number_from + 1]])

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            raise NotImplementedError

    with contextlib.suppress(Exception):
        storage = JournalStorage(OneByOne())
        for _ in lines:
            storage.get_all_studies()
    return min(read[-1] + 1, len(lines))


def _sampler(tuning: TuningSettings, number: int) -> BaseSampler:
    seed = int(np.random.SeedSequence([tuning.seed, number]).generate_state(1)[0])
    return RandomSampler(seed) if tuning.sampler == "random" else TPESampler(seed=seed)


class _Halving(SuccessiveHalvingPruner):
    """Compares a trial with those that count: not with one whose process has died, which is run again."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        compared = copy.copy(study)
        compared.get_trials = lambda *_, **__: [t for t in study.get_trials(False) if t.state != TrialState.FAIL]
        return super().prune(compared, trial)


def _pruner(tuning: TuningSettings) -> optuna.pruners.BasePruner:
    if tuning.pruner == "none":
        return optuna.pruners.NopPruner()
    return _Halving(min_resource=1, reduction_factor=2)

"""Who runs the trials of a search: this process, and worker processes beside it, on the same queue.

Any number of processes may work on one queue, also those of a second `jetcorr tune` on the same folder.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

import optuna
from tqdm.auto import tqdm

from ..architectures import expected_cost
from ..config import Study
from ..data.dataset import CloudDataset
from ..errors import stopping
from ..files import has_locks
from ..models.threads import one_thread
from ..processes import check_main_guard, server_context, start_process
from .hparams import write_hparams
from .queue import TrialQueue
from .search_result import SearchResult, load_search
from .space import Parameters, apply_parameters, draw, inside, own_parameters
from .trial import PrunedTrial, TrialRecord, run_trial, trial_settings

__all__ = ["Job", "run_queue"]

_log = logging.getLogger(__name__)

POLL = 0.3  # seconds between two looks at the workers
_NO_MEMORY = 12
"""Exit code of a worker process whose memory was not enough: a fault of the machine, and not of its trial."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to run the trials of a search."""

    study: Study
    training: CloudDataset
    validation: CloudDataset
    folder: Path
    log_dir: str | Path | None = None

    def queue(self) -> TrialQueue:
        return TrialQueue(self.folder, self.study.tuning)

    def cost(self, values: Parameters) -> float:
        """How long a trial with these parameters will take, compared with others."""
        settings = apply_parameters(self.study.models[self.study.tuning.model], values)
        return expected_cost(settings, len(self.training.particles) / max(len(self.training), 1))


def run_queue(
    job: Job, workers: int, *, progress: bool = True, watch: Callable[[SearchResult], object] | None = None
) -> None:
    """Run trials until all have ended, with a progress bar over them.

    This process is one of the workers, so that the time in which the others start is not lost. Trials that another
    process is at work on are waited for, and run again here if that process dies.

    Parameters
    ----------
    workers
        Processes, this one included.
    watch
        Called with the result so far whenever trials have ended.
    """
    check_main_guard()
    if workers > 1 and not has_locks(job.folder):
        workers = 1  # without locks, several processes would spoil the queue
    queue, total = job.queue(), job.study.tuning.trials
    settings = job.study.models[job.study.tuning.model]
    own = inside(own_parameters(settings, job.study.tuning.space), job.study.tuning.space)
    queue.fill(own, job.cost)
    bar = tqdm(total=total, desc=f"trials of {job.study.tuning.model}", disable=not progress)
    so_far = stopping(lambda: f"stopped: {len(queue.ended())} of {total} trials have ended")
    with so_far, bar, _Crew(job, queue, min(workers, queue.waiting() + len(queue.fatal())) - 1) as crew:
        follow = _follow(job, queue, bar, watch)
        while len(queue.ended()) < total:
            _work(job, queue, follow, lambda: not crew.tend())
            while crew.tend():
                follow()
                time.sleep(POLL)
            if len(queue.ended()) < total:
                time.sleep(POLL)
                queue.fill(own, job.cost)
        follow()


def _work(
    job: Job,
    queue: TrialQueue,
    each_epoch: Callable[[], object] = lambda: None,
    alone: Callable[[], bool] = lambda: True,
) -> None:
    """Run waiting trials until there are none; those in which a worker has died only where no other one is at work."""
    with one_thread():
        while True:
            with queue.take(fatal=alone()) as taken:
                if taken is None:
                    return
                number, trial = taken
                record = _run_one(job, queue, number, trial, each_epoch)
                queue.tell(trial, record)
            each_epoch()


def _run_one(
    job: Job, queue: TrialQueue, number: int, trial: optuna.Trial, each_epoch: Callable[[], object]
) -> TrialRecord:
    tuning, settings = job.study.tuning, job.study.models[job.study.tuning.model]
    own = own_parameters(settings, tuning.space)
    if number == 0:
        draw(trial, {name: tuning.space[name] for name in inside(own, tuning.space)})
    values = own if number == 0 else draw(trial, tuning.space)

    def report(epoch: int, error: float) -> None:
        trial.report(error, epoch)
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            raise SystemExit("the process that started the search has died")
        each_epoch()
        if number and trial.should_prune():
            raise PrunedTrial

    log_dir = f"{job.log_dir}/{queue.trial_folder(number).name}" if job.log_dir else None
    record = run_trial(
        number, values, trial_settings(settings, values, tuning), job.training, job.validation,
        queue.trial_folder(number), grace=tuning.grace if number else tuning.epochs, report=report, log_dir=log_dir,
    )  # fmt: skip
    if log_dir is not None:
        write_hparams(log_dir, record)
    return record


class _Crew:
    """Worker processes; one that dies in a trial is replaced and the trial run again, once, and by a worker.

    They are forked from a server process that has imported this module, and nothing else: the imports take seconds and
    are made once for all of them, and no threads or locks of this process are copied.
    """

    def __init__(self, job: Job, queue: TrialQueue, size: int) -> None:
        self._job, self._queue, self._size = job, queue, size
        self._context = server_context(__name__)

    def __enter__(self) -> Self:
        self._workers: list[BaseProcess] = []
        self._ended = False
        # In a thread, because it waits for the server's imports: meanwhile this process has trials to run
        self._starter = threading.Thread(target=self._start, args=(self._size,), daemon=True)
        self._starter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._starter.join()
        for worker in self._workers:
            worker.terminate()
            worker.join()

    def tend(self) -> bool:
        """Replace those that have died in a trial; whether any is at work."""
        starting = self._starter.is_alive()
        for worker in [w for w in self._workers if not w.is_alive()]:
            self._workers.remove(worker)
            if not worker.exitcode:
                continue
            if worker.exitcode == _NO_MEMORY:
                raise MemoryError("a worker process of the search had not enough")
            if self._queue.again_or_failed(f"the worker process ended with exit code {worker.exitcode}"):
                self._start(1)
            else:  # the next one would not come farther
                _log.warning("a worker process ended with exit code %s; the search goes on without", worker.exitcode)
        return starting or bool(self._workers)

    def _start(self, number: int) -> None:
        for _ in range(number):
            if not self._ended:
                self._workers.append(start_process(self._context, _worker, self._job))


def _worker(job: Job) -> None:
    """The main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends this process
    try:
        _work(job, job.queue())
    except MemoryError:
        raise SystemExit(_NO_MEMORY) from None


def _follow(
    job: Job, queue: TrialQueue, bar: tqdm, watch: Callable[[SearchResult], object] | None
) -> Callable[[], None]:
    """A function that moves the bar to the number of trials that have ended, and shows what they gave."""

    def follow() -> None:
        ended = len(queue.ended())
        if ended <= bar.n:
            return
        bar.update(ended - bar.n)
        result = load_search(job.folder)
        if not result.complete.empty:
            bar.set_postfix(best=result.best, mae=f"{result.complete['mae'].min():.5f}")
        if watch is not None:
            watch(result)

    return follow

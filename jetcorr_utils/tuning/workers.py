"""Who runs the trials of a search: this process, or worker processes beside it, on the same queue.

Any number of processes may work on one queue, also those of a second `jetcorr tune` on the same folder.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
from tqdm.auto import tqdm

from ..config import Study
from ..data.clouds import CloudDataset
from ..errors import TrainingError
from .hparams import write_hparams
from .queue import TrialQueue
from .results import load_search
from .space import draw, inside, own_parameters
from .trial import PrunedTrial, TrialRecord, run_trial, trial_settings

__all__ = ["Job", "run_queue"]

POLL = 0.3  # seconds between two looks at the workers


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


def run_queue(job: Job, workers: int, *, progress: bool = True) -> None:
    """Run trials until all have ended, with a progress bar over them.

    Trials that another process is at work on are waited for, and run again here if that process dies.
    """
    queue, total = job.queue(), job.study.tuning.trials
    settings = job.study.models[job.study.tuning.model]
    own = inside(own_parameters(settings, job.study.tuning.space), job.study.tuning.space)
    with tqdm(total=total, desc=f"trials of {job.study.tuning.model}", disable=not progress) as bar:
        queue.fill(own)
        while len(queue.ended()) < total:
            if workers == 1:
                _work(job, queue, bar)
            else:
                _run_crew(job, queue, workers, bar)
            _advance(bar, job)
            if len(queue.ended()) < total:
                time.sleep(POLL)
                queue.fill(own)
        _advance(bar, job)


def _work(job: Job, queue: TrialQueue, bar: tqdm | None = None) -> None:
    """Run waiting trials until there are none."""
    with _one_thread():
        while True:
            with queue.take() as taken:
                if taken is None:
                    return
                number, trial = taken
                record = _run_one(job, queue, number, trial)
                queue.tell(trial, record)
            if bar is not None:
                _advance(bar, job)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch and our kernels compute on one thread.

    The order of a sum depends on the number of threads. With one for each trial the trials are the same, bit for bit,
    for any number of workers, and several cores are used by several workers, without overhead.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run_one(job: Job, queue: TrialQueue, number: int, trial: optuna.Trial) -> TrialRecord:
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


def _run_crew(job: Job, queue: TrialQueue, workers: int, bar: tqdm) -> None:
    """Let worker processes run the waiting trials; one that dies is replaced and its trial recorded as failed."""
    context = multiprocessing.get_context("spawn")

    def start() -> BaseProcess:
        process = context.Process(target=_worker, args=(job,))
        process.start()
        return process

    crew = [start() for _ in range(workers)]
    try:
        while crew:
            time.sleep(POLL)
            _advance(bar, job)
            for worker in [w for w in crew if not w.is_alive()]:
                crew.remove(worker)
                if worker.exitcode:
                    if not queue.fail_dead(f"the worker process ended with exit code {worker.exitcode}"):
                        raise TrainingError(f"a worker process of the search ended with exit code {worker.exitcode}")
                    crew.append(start())
    finally:
        for worker in crew:
            worker.terminate()
            worker.join()


def _worker(job: Job) -> None:
    """The main function of a worker process."""
    _work(job, job.queue())


def _advance(bar: tqdm, job: Job) -> None:
    """Move the progress bar to the number of trials that have ended."""
    result = load_search(job.folder)
    if len(result.trials) > bar.n:
        bar.update(len(result.trials) - bar.n)
        if not result.complete.empty:
            bar.set_postfix(best=result.best, mae=f"{result.complete['mae'].min():.5f}")

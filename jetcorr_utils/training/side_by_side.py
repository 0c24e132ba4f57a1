"""The trainings of a study, each done once however often the process is killed in between.

Several networks are trained side by side, each on one thread: a training does not use two cores as well as two
trainings do, and its result does not depend on how many there are beside it.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from tqdm.auto import tqdm

from ..architectures import NetworkSettings, expected_cost
from ..errors import JetcorrError, stopping
from ..models.process_sums import process_count
from ..models.threads import one_thread
from ..processes import check_main_guard, end_with_parent, server_context, start_process
from ..run import RunFolder
from .loop import tell_earlier, train
from .result import TrainingResult

if TYPE_CHECKING:
    from ..data.dataset import CloudDataset

__all__ = ["train_models"]

_log = logging.getLogger(__name__)

POLL = 0.3  # seconds between two looks at the processes beside this one

Row = dict[str, float]
Callback = Callable[[int, Row], None]
Watch = Callable[[str], Callback | None]


def train_models(
    models: Mapping[str, NetworkSettings],
    clouds: Mapping[str, CloudDataset],
    run: RunFolder,
    *,
    log_dir: str | Path | None = None,
    watch: Watch | None = None,
    progress: bool = True,
    device: str | None = None,
    workers: int | None = None,
) -> dict[str, TrainingResult]:
    """Train all models of a study.

    Parameters
    ----------
    models
        Settings by name.
    clouds
        For each name the jets, with the features that the model takes.
    run
        Gets each model in its folder.
    log_dir
        Folder or URL of the TensorBoard logs, one of each model; default: that of the run.
    watch
        Makes the callback of a training, or none, by the name of its model: see `train`.
    progress
        Whether to show progress bars.
    device
        Where to train; default: the GPU, where there is one.
    workers
        Processes that train, this one included; default: as many as torch has threads here, and one on a GPU and under
        torchrun.

    Returns
    -------
    How each training went. One that has ended before, with the same settings, jets and code, is not repeated; one that
    was interrupted goes on where it was.
    """
    job = _Job(models, clouds, run, log_dir, device)
    if not job.on_processors or process_count() > 1:
        workers = 1
    workers = min(workers or torch.get_num_threads(), len(models))
    if workers > 1:
        check_main_guard()
    shares = _shares(job, workers) if workers > 1 else [list(models)]
    results: dict[str, TrainingResult] = {}
    callbacks = {name: _Follower(watch(name) if watch else None) for name in models}
    with (
        one_thread() if job.on_processors and len(models) > 1 else contextlib.nullcontext(),
        stopping(lambda: _how_far(models, callbacks)),
    ):
        with _Beside(job, shares[1:], callbacks, progress) as beside:
            for name in shares[0]:
                results[name] = job.train(name, progress, beside.relaying(callbacks[name]))
                callbacks[name].ended = True
                beside.ended()
            beside.wait()
        for name in models:  # those of the others: done, which is found at once; or left, and then done here
            if name not in results:
                results[name] = job.train(name, progress, callbacks[name])
    return {name: results[name] for name in models}


class _Follower:
    """A callback that knows how far its training is."""

    def __init__(self, callback: Callback | None) -> None:
        self._callback, self.epoch, self.ended = callback, 0, False

    def __call__(self, epoch: int, row: Row) -> None:
        self.epoch = epoch
        if self._callback is not None:
            self._callback(epoch, row)

    def earlier(self, rows: Sequence[Row]) -> None:
        """The epochs of a training that goes on, before it was followed."""
        self.epoch = int(rows[-1]["epoch"])
        if self._callback is not None:
            tell_earlier(self._callback, rows)


def _how_far(models: Mapping[str, NetworkSettings], followers: Mapping[str, _Follower]) -> str:
    """What is done of some trainings, for somebody who has stopped them."""
    parts = []
    for name, follower in followers.items():
        epochs = models[name].training.epochs
        done = "at its end" if follower.ended else f"after epoch {follower.epoch} of {epochs}"
        parts.append(f"{name} {done if follower.ended or follower.epoch else 'before its first epoch'}")
    return f"stopped: {', '.join(parts)}"


@dataclass(frozen=True)
class _Job:
    """What a process needs to train some of the models."""

    models: Mapping[str, NetworkSettings]
    clouds: Mapping[str, CloudDataset]
    run: RunFolder
    log_dir: str | Path | None
    device: str | None

    @property
    def on_processors(self) -> bool:
        return (self.device or ("cuda" if torch.cuda.is_available() else "cpu")) == "cpu"

    def train(self, name: str, progress: bool, callback: Callback | None) -> TrainingResult:
        parts = self.clouds[name].split("train"), self.clouds[name].split("validation")
        return train(
            self.models[name], *parts, self.run.model(name), log_dir=f"{self.log_dir or self.run.tensorboard}/{name}",
            progress=progress, callback=callback, device=self.device,
        )  # fmt: skip

    def cost(self, name: str) -> float:
        """How long the training of a model will take, compared with others."""
        settings, data = self.models[name], self.clouds[name].split("train")
        jets = min(settings.training.max_jets or len(data), len(data))
        multiplicity = len(data.particles) / max(len(data), 1)
        return expected_cost(settings, multiplicity) * jets * settings.training.epochs


def _shares(job: _Job, workers: int) -> list[list[str]]:
    """The models of each process: the longest first, each to the process that has least to do."""
    costs = {name: job.cost(name) for name in job.models}
    shares: list[list[str]] = [[] for _ in range(workers)]
    for name in sorted(costs, key=lambda name: costs[name], reverse=True):
        min(shares, key=lambda share: sum(costs[other] for other in share)).append(name)
    return shares


class _Beside:
    """Processes that train their shares of the models beside this one, and what they tell of it.

    They are forked from a server process that has imported this module, and nothing else. One that dies leaves its
    models to this process, which then meets the same error, if it was one.
    """

    def __init__(self, job: _Job, shares: list[list[str]], callbacks: Mapping[str, _Follower], progress: bool) -> None:
        self._job, self._shares, self._callbacks = job, shares, callbacks
        self._processes: list[tuple[BaseProcess, Connection]] = []
        self._bar = tqdm(total=len(job.models), desc="networks", disable=not (progress and shares))

    def __enter__(self) -> Self:
        if self._shares:
            context = server_context(__name__)
            for share in self._shares:
                news, teller = context.Pipe(duplex=False)
                process = start_process(context, _train_share, self._job, share, teller)
                teller.close()
                self._processes.append((process, news))
        return self

    def __exit__(self, *_: object) -> None:
        for process, news in self._processes:
            process.terminate()
            process.join()
            news.close()
        self._bar.close()

    def ended(self) -> None:
        """One more network is trained."""
        self._bar.update()

    def relaying(self, callback: _Follower) -> Callback:
        """A callback that also passes on what the other processes have told meanwhile."""
        return _Relaying(callback, self._relay)

    def wait(self) -> None:
        """Wait until the other processes have ended."""
        while any(process.is_alive() for process, _ in self._processes):
            self._relay()
            time.sleep(POLL)
        self._relay()
        for process, _ in self._processes:
            if process.exitcode:
                _log.warning("a process that trained beside this one ended with exit code %s", process.exitcode)

    def _relay(self) -> None:
        for _, news in self._processes:
            with contextlib.suppress(EOFError, OSError):
                while news.poll():
                    name, rows, before = news.recv()
                    if rows is None:
                        self._callbacks[name].ended = True
                        self.ended()
                    elif before:
                        self._callbacks[name].earlier(rows)
                    else:
                        self._callbacks[name](int(rows[-1]["epoch"]), rows[-1])


@dataclass
class _Relaying:
    """A callback that also lets others be told."""

    callback: _Follower
    relay: Callable[[], None]

    def __call__(self, epoch: int, row: Row) -> None:
        self.callback(epoch, row)
        self.relay()

    def earlier(self, rows: Sequence[Row]) -> None:
        self.callback.earlier(rows)


@dataclass
class _Teller:
    """A callback that tells another process: the model, rows of its history, and whether they are earlier ones."""

    name: str
    connection: Connection

    def __call__(self, epoch: int, row: Row) -> None:
        self.connection.send((self.name, [row], False))

    def earlier(self, rows: Sequence[Row]) -> None:
        self.connection.send((self.name, list(rows), True))

    def end(self) -> None:
        self.connection.send((self.name, None, False))


def _train_share(job: _Job, names: list[str], teller: Connection) -> None:
    """The main function of a process beside. What it cannot train is left to the parent, which then says why."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends this process
    end_with_parent()
    with one_thread(), contextlib.suppress(JetcorrError):
        for name in names:
            tell = _Teller(name, teller)
            job.train(name, False, tell)
            tell.end()

"""Blocks of events on several processes: the same blocks in the same order, whatever the number of processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..files import scratch_folder
from ..processes import worker_processes
from .events import Events, simulate_events
from .generator import make_pythia, pythia_seed
from .parameters import Parameters
from .particles import Particles
from .pileup import join_pool, make_pool_part

__all__ = ["Blocks"]

_POOL_PART = 250  # events
_POOL_KEY = 2**31  # keeps the seeds of the pool apart from those of the blocks

Reduce = Callable[[Events, int, int], Any]
"""What to keep of a block: from its events, the seed and the number of the block. Must be picklable."""


class _Worker:
    """One process's Pythia and pool; what a task needs and cannot be sent each time."""

    def __init__(self, parameters: Parameters, seed: int) -> None:
        self.parameters, self.seed = parameters, seed
        self.soft: Any = None
        self.pythia: Any = None
        self.pool: Particles

    def pool_part(self, part: int) -> Particles:
        settings, detector = self.parameters.pileup, self.parameters.detector
        if self.soft is None:
            self.soft = make_pythia(self.parameters.generator, detector, "SoftQCD:inelastic")
        seed = pythia_seed(np.random.SeedSequence([self.seed, _POOL_KEY + part]))
        return make_pool_part(self.soft, seed, min(_POOL_PART, settings.pool_events - part * _POOL_PART), detector)

    def block(self, number: int, pool_file: Path, reduce: Reduce) -> tuple[Any, float]:
        if self.pythia is None:
            self.pythia = make_pythia(self.parameters.generator, self.parameters.detector)
            with np.load(pool_file) as columns:
                self.pool = Particles(**columns)
        events = simulate_events(self.pythia, self.pool, self.parameters, self.seed, number)
        return reduce(events, self.seed, number), events.pythia_seconds


_worker: _Worker  # one for each process of the executor, set by its initializer


def _start(parameters: Parameters, seed: int) -> None:
    global _worker
    _worker = _Worker(parameters, seed)


def _pool_part(part: int) -> Particles:
    return _worker.pool_part(part)


def _block(number: int, pool_file: Path, reduce: Reduce) -> tuple[Any, float]:
    return _worker.block(number, pool_file, reduce)


class Blocks:
    """Simulated blocks of events; a context manager that ends its processes.

    Parameters
    ----------
    parameters, seed
        They alone decide what the blocks hold.
    workers
        Processes; with one, the work is done in this process.
    """

    def __init__(self, parameters: Parameters, seed: int, workers: int) -> None:
        self.parameters, self.seed, self.workers = parameters, seed, workers
        self.pythia_seconds = 0.0

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._pool_file = self._stack.enter_context(scratch_folder()) / "pool.npz"
        self._executor = None
        self._local = _Worker(self.parameters, self.seed)
        if self.workers > 1:
            self._executor = self._stack.enter_context(
                worker_processes(self.workers, _start, self.parameters, self.seed)
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _make_pool(self) -> None:
        parts = range(-(-self.parameters.pileup.pool_events // _POOL_PART))
        make = map if self._executor is None else self._executor.map
        pool = join_pool(list(make(self._local.pool_part if self._executor is None else _pool_part, parts)))
        np.savez(self._pool_file, **asdict(pool))

    def run(self, reduce: Reduce, first: int, expected: int) -> Iterator[Any]:
        """Yield what `reduce` keeps of the blocks first, first + 1, …, in order, for as long as one asks.

        Blocks beyond `expected` are not begun before they are asked for.
        """
        self._make_pool()
        number, waiting = first, deque[Future]()
        while True:
            if self._executor is None:
                result, seconds = self._local.block(number, self._pool_file, reduce)
                number += 1
            else:
                ahead = self.workers + 1 if number < first + expected else 1
                while len(waiting) < ahead:
                    waiting.append(self._executor.submit(_block, number, self._pool_file, reduce))
                    number += 1
                    ahead = self.workers + 1 if number < first + expected else 1
                result, seconds = waiting.popleft().result()
            self.pythia_seconds += seconds
            yield result

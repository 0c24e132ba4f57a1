"""How fast jets are simulated, and how two workers compare with one."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator

from jetcorr_utils.simulation.calibration import CORRECTIONS
from jetcorr_utils.simulation.event_blocks import Blocks
from jetcorr_utils.simulation.parameters import Parameters
from jetcorr_utils.simulation.production import block_of_jets

BLOCKS, SEED = 12, 77


def _rate(workers: int) -> tuple[float, float]:
    """Jets/s of all workers together once they run, and Pythia's share of their time."""
    parameters = Parameters()
    with Blocks(parameters, SEED, workers) as source:
        blocks = source.run(functools.partial(block_of_jets, corrections=CORRECTIONS), 0, BLOCKS + 2 * workers)
        for _ in range(workers):
            next(blocks)  # each process has made its pool, Pythia and compiled code by then
        start, pythia = time.perf_counter(), source.pythia_seconds
        jets = sum(len(next(blocks)) for _ in range(BLOCKS))
        seconds = time.perf_counter() - start
        return jets / seconds, (source.pythia_seconds - pythia) / (seconds * workers)


def benchmarks() -> Iterator[dict]:
    """Yield the line `simulate/workers`."""
    one, share = _rate(1)
    two, _ = _rate(2)
    yield {
        "name": "simulate/workers", "ours": two, "peer": one, "ratio": two / one, "unit": "jets/s",
        "peer_is": "one worker", "n": 1, "pythia_share": share,
    }  # fmt: skip

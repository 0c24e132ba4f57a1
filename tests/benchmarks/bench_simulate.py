"""How fast jets are simulated on one core, how two workers compare with one, and what using collisions again brings."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator

from jetcorr_utils.simulation.calibration import CORRECTIONS
from jetcorr_utils.simulation.event_blocks import Blocks
from jetcorr_utils.simulation.parameters import Generator, Parameters
from jetcorr_utils.simulation.production import block_of_jets

BLOCKS, SEED = 12, 77
WANTED = 250
"""Jets/s a core, at least."""
COPIES = 3


def _rate(workers: int, reuse: int = 1) -> tuple[float, float]:
    """Jets/s of all workers together once they run, and Pythia's share of their time."""
    with Blocks(Parameters(generator=Generator(reuse=reuse)), SEED, workers) as source:
        count = max(BLOCKS // reuse, 1)
        blocks = source.run(functools.partial(block_of_jets, corrections=CORRECTIONS), 0, count + 2 * workers)
        for _ in range(workers):
            next(blocks)  # each process has made its pool, Pythia and compiled code by then
        start, pythia = time.perf_counter(), source.pythia_seconds
        jets = sum(len(next(blocks)) for _ in range(count))
        seconds = time.perf_counter() - start
        return jets / seconds, (source.pythia_seconds - pythia) / (seconds * workers)


def benchmarks() -> Iterator[dict]:
    """Yield the lines `simulate`, `simulate/workers` and `simulate/reuse`."""
    one, share = _rate(1)
    yield {
        "name": "simulate", "ours": one, "peer": WANTED, "ratio": one / WANTED, "unit": "jets/s a core",
        "peer_is": "what is asked", "n": 1, "pythia_share": share,
    }  # fmt: skip
    two, _ = _rate(2)
    yield {
        "name": "simulate/workers", "ours": two, "peer": one, "ratio": two / one, "unit": "jets/s",
        "peer_is": "one worker", "n": 1, "pythia_share": share,
    }  # fmt: skip
    again, share = _rate(1, COPIES)
    yield {
        "name": "simulate/reuse", "ours": again, "peer": one, "ratio": again / one, "unit": "jets/s a core",
        "peer_is": "each collision once", "n": 1, "copies": COPIES, "pythia_share": share,
    }  # fmt: skip

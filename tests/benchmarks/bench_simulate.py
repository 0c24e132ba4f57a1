"""How fast jets are simulated on one core, how two workers compare with one, and what using collisions again brings."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

import awkward as ak

from jetcorr_utils.simulation.calibration import CORRECTIONS
from jetcorr_utils.simulation.event_blocks import Blocks
from jetcorr_utils.simulation.parameters import Generator, Parameters
from jetcorr_utils.simulation.production import block_of_jets
from tests.benchmarks.turns import compared

ROUNDS, BLOCKS, SEED = 3, 4, 77
WANTED = 250
"""Jets/s a core, at least."""
COPIES = 3


def _rates(workers: int, reuse: int = 1) -> tuple[list[float], dict[str, float]]:
    """Jets/s of all workers together in each round, once they run; Pythia's share of their time, and the jets' size."""
    with Blocks(Parameters(generator=Generator(reuse=reuse)), SEED, workers) as source:
        count = max(BLOCKS // reuse, 1)
        total = ROUNDS * count + 2 * workers
        blocks = source.run(functools.partial(block_of_jets, corrections=CORRECTIONS), 0, total)
        for _ in range(workers):
            first = next(blocks)  # each process has made its pool, Pythia and compiled code by then
        rates, begin, pythia = [], time.perf_counter(), source.pythia_seconds
        for _ in range(ROUNDS):
            start = time.perf_counter()
            jets = sum(len(next(blocks)) for _ in range(count))
            rates.append(jets / (time.perf_counter() - start))
        seconds = time.perf_counter() - begin
        return rates, {
            "pythia_share": round((source.pythia_seconds - pythia) / (seconds * workers), 3),
            "mean_multiplicity": round(float(ak.mean(ak.sum(first["PF_fromAK4Jet"] > 0, axis=-1))), 1),
        }


def benchmarks() -> Iterator[dict[str, Any]]:
    """Yield the lines `simulate`, `simulate/workers` and `simulate/reuse`."""
    one, more = _rates(1)
    yield {
        "name": "simulate", **compared(one, [WANTED]), "unit": "jets/s a core", "peer_is": "what is asked", **more,
    }  # fmt: skip
    two, more = _rates(2)
    yield {
        "name": "simulate/workers", **compared(two, one), "unit": "jets/s", "peer_is": "one worker", "threads": 2,
        **more,
    }  # fmt: skip
    again, more = _rates(1, COPIES)
    yield {
        "name": "simulate/reuse", **compared(again, one), "unit": "jets/s a core", "peer_is": "each collision once",
        "copies": COPIES, **more,
    }  # fmt: skip

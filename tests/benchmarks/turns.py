"""How two sides are timed: in turns, so that what else the machine does meets both, after one round to warm up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jetcorr_utils.data.dataset import Clouds

Side = Callable[[], object]


def in_turns(
    sides: Mapping[str, Side], rounds: int, clock: Callable[[], float] = time.process_time, before: Side = lambda: None
) -> dict[str, list[float]]:
    """Seconds of each round of each side; `before` each, untimed, the same is done.

    The clock is the CPU time of the process, so that other work on the machine does not count; where a side has
    threads or processes that share the work it must be `time.perf_counter`.
    """
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for round_ in range(-1, rounds):
        for side, function in sides.items():
            before()
            start = clock()
            function()
            if round_ >= 0:
                seconds[side].append(clock() - start)
    return seconds


def compared(ours: Sequence[float], peer: Sequence[float], best: bool = False) -> dict[str, Any]:
    """The part of a line that compares the rates of two sides in their rounds: the medians, or the best of both.

    ``spread`` has the lowest and the highest rate of each.
    """
    of_rounds = np.max if best else np.median
    rates = [float(of_rounds(rounds)) for rounds in (ours, peer)]
    return {
        "ours": _rounded(rates[0]), "peer": _rounded(rates[1]), "ratio": _rounded(rates[0] / rates[1]),
        "n": len(ours),
        "spread": {side: [_rounded(min(rounds)), _rounded(max(rounds))]
                   for side, rounds in (("ours", ours), ("peer", peer))},
    }  # fmt: skip


def multiplicity(clouds: Clouds) -> dict[str, float]:
    """The part of a line that says how large the jets are that both sides have."""
    return {"mean_multiplicity": round(float(clouds.multiplicity.mean()), 1)}


def rates(jets: int, seconds: Sequence[float]) -> list[float]:
    """Jets a second of each round."""
    return [jets / value for value in seconds]


def _rounded(value: float) -> float:
    """To four digits."""
    return float(f"{value:.4g}")

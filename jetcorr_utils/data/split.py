"""Which events train, validate and test: decided by a hash of the event's own numbers.

All jets of an event fall on the same side, since they share its pileup and balance each other. The answer depends on
the event alone: it does not move when files are added, reordered or read by another number of workers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..config import SplitSettings

__all__ = ["SPLITS", "split_of"]

SPLITS = {"train": 0, "validation": 1, "test": 2}
"""The code of each part."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): each input bit moves half of the output bits."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def split_of(run: ArrayLike, lumi: ArrayLike, event: ArrayLike, settings: SplitSettings) -> NDArray[np.uint8]:
    """The part that each event belongs to.

    Parameters
    ----------
    run, lumi, event
        The numbers of the events, `(B,)`.
    settings
        The shares held out and the seed. The test events are those below ``settings.test`` of the hash: they stay
        the same when only the share for validation changes.

    Returns
    -------
    `(B,)`: 0 train, 1 validation, 2 test.
    """
    state = _mix(np.full(np.shape(event), settings.seed, dtype=np.int64).view(np.uint64))
    for number in (run, lumi, event):
        state = _mix(state ^ np.asarray(number).astype(np.uint64))
    uniform = (state >> np.uint64(11)) * 2.0**-53
    split = np.full(uniform.shape, SPLITS["train"], dtype=np.uint8)
    split[uniform < settings.test + settings.validation] = SPLITS["validation"]
    split[uniform < settings.test] = SPLITS["test"]
    return split

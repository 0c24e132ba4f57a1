"""SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): random numbers that depend on an event's own numbers alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["GOLDEN", "event_hash", "finalise", "mix"]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The step of the generator's state."""


def finalise(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function: each bit of a state moves half of the bits that come out."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The next output of a generator in the state `x`."""
    return finalise(x + GOLDEN)


def event_hash(run: ArrayLike, lumi: ArrayLike, event: ArrayLike, seed: int) -> NDArray[np.uint64]:
    """A number for each event, `(B,)`, that depends on its numbers and on the seed alone."""
    state = mix(np.full(np.shape(event), seed, dtype=np.int64).view(np.uint64))
    for number in (run, lumi, event):
        state = mix(state ^ np.asarray(number).astype(np.uint64))
    return state

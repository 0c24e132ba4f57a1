"""SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): random numbers that depend on an event's own numbers alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["GOLDEN", "finalise"]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The step of the generator's state."""


def finalise(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function: each bit of a state moves half of the bits that come out."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))

"""Lists of different lengths as one flat array: where each begins and ends, and which rows belong to which.

`ptr` (or offsets), `(B + 1,)`: the particles of jet i are the rows ``ptr[i]`` to ``ptr[i + 1]``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["offsets_of", "owners", "rows_of"]


def offsets_of(counts: ArrayLike) -> NDArray[np.int64]:
    """`ptr` `(B + 1,)` from the lengths of the lists, `(B,)`."""
    offsets = np.zeros(len(np.asarray(counts)) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def owners(ptr: NDArray[np.int64]) -> NDArray[np.int64]:
    """The list that each row belongs to, `(N,)`."""
    return np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))


def rows_of(ptr: NDArray[np.int64], index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of some of the lists, one after the other: `(n,)`, and the `ptr` of these rows, `(b + 1,)`.

    Parameters
    ----------
    ptr
        Of all lists.
    index
        Which lists, `(b,)`.
    """
    first = ptr[index]
    count = ptr[index + 1] - first
    new = offsets_of(count)
    return np.repeat(first - new[:-1], count) + np.arange(new[-1]), new

"""The arrays of a tree as they lie in its decompressed baskets, gathered in one pass.

A JetNTuple holds all candidates within a window around a jet, five times as many as are clustered in it. uproot's own
jagged arrays copy and swap the bytes of all of them; here only those that are needed are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import uproot
from numpy.typing import DTypeLike, NDArray

__all__ = ["AsPieces", "Jagged"]


@dataclass(frozen=True)
class Jagged:
    """The arrays of b entries: entry i has the values ``offsets[i]`` to ``offsets[i + 1]`` of all pieces in a row."""

    offsets: NDArray[np.int64]
    pieces: Sequence[NDArray]

    def values(self, dtype: DTypeLike, rows: NDArray[np.int64] | None = None) -> NDArray:
        """The values of increasing `rows`, or all of them, in the machine's byte order."""
        if rows is None:
            return np.concatenate(self.pieces or [np.zeros(0)]).astype(dtype)
        values = np.empty(len(rows), dtype=dtype)
        start = first = 0
        for piece in self.pieces:
            last = int(np.searchsorted(rows, start + len(piece)))
            values[first:last] = piece[rows[first:last] - start]
            start, first = start + len(piece), last
        return values

    def positive(self) -> NDArray[np.int64]:
        """The rows of the values above zero."""
        starts = np.cumsum([0, *map(len, self.pieces)])
        rows = [np.flatnonzero(piece > 0) + start for piece, start in zip(self.pieces, starts[:-1], strict=True)]
        return np.concatenate(rows or [np.zeros(0, dtype=np.int64)])


class AsPieces(uproot.AsJagged):
    """Interpret a branch of arrays as `Jagged`; for trees that are read with ``library="np"``."""

    def final_array(
        self, basket_arrays: Any, entry_start: int, entry_stop: int, entry_offsets: Any, *_: object
    ) -> Jagged:
        """The part of the baskets that holds the entries `entry_start` to `entry_stop`."""
        counts, pieces = [np.zeros(1, dtype=np.int64)], []
        for number, (start, stop) in enumerate(pairwise(entry_offsets)):
            if max(start, entry_start) < min(stop, entry_stop):
                basket = basket_arrays[number]
                offsets = basket.offsets[max(entry_start - start, 0) : entry_stop - start + 1]
                counts.append(np.diff(offsets))
                pieces.append(basket.content[offsets[0] : offsets[-1]])
        return Jagged(np.cumsum(np.concatenate(counts), dtype=np.int64), pieces)

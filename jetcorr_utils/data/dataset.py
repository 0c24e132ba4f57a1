"""Particle clouds in memory or mapped from disk: the particles of all jets in one matrix, jet after jet.

`ptr` tells where each cloud begins and ends, so that nothing is padded. The arrays of a cache are memory maps: a data
set larger than the memory opens at once, and only what a batch needs is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .features import PARTICLE_COLUMNS, POINT_COLUMNS, Features
from .split import SPLITS

__all__ = ["CloudDataset", "CloudLike", "rows_of"]


_ORIGIN = ("selection", "split", "candidates")


class CloudLike(Protocol):
    """Ragged clouds, from a file or in memory: `CloudDataset`, or `export.padding.Clouds`."""

    particles: NDArray[np.float32]
    ptr: NDArray[np.int64]
    jets: NDArray[np.float32]


def rows_of(ptr: NDArray[np.int64], index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the particles of some jets, jet after jet, and the `ptr` of the rows.

    Parameters
    ----------
    ptr
        `(B + 1,)`: the particles of jet i are the rows ``ptr[i]`` to ``ptr[i + 1]``.
    index
        Which jets, `(b,)`.

    Returns
    -------
    rows `(n,)` and ptr `(b + 1,)`
    """
    first = ptr[index]
    count = ptr[index + 1] - first
    new = np.zeros(len(index) + 1, dtype=np.int64)
    np.cumsum(count, out=new[1:])
    return np.repeat(first - new[:-1], count) + np.arange(new[-1]), new


@dataclass(frozen=True, eq=False)
class CloudDataset:
    """B jets as clouds of N particles in all.

    Attributes
    ----------
    particles
        `(N, 2 + F)` float32, the columns of `jetcorr_utils.data.features`, in physical units.
    ptr
        `(B + 1,)` int64: the particles of jet i are the rows ``ptr[i]`` to ``ptr[i + 1]``.
    jets
        `(B, 10)` float32, the columns `JET_COLUMNS`.
    target
        `(B,)` float32, log(genJetPt/jetPt); NaN for a jet without a generator jet.
    part
        `(B,)` uint8, the code of the split of each jet, see `jetcorr_utils.data.split`.
    table
        Identifiers, truth and binning variables by name, `(B,)` each.
    features
        ``"open"`` or ``"rich"``.
    key
        A text that is equal for equal content.
    place
        The folder of the cache that holds these jets, and the first of its rows and the one behind the last; None for
        jets in memory. Another process is given this, and maps the same files: see `__reduce_ex__`.
    """

    particles: NDArray[np.float32]
    ptr: NDArray[np.int64]
    jets: NDArray[np.float32]
    target: NDArray[np.float32]
    part: NDArray[np.uint8]
    table: dict[str, NDArray]
    features: Features
    key: str
    info: dict[str, Any] = field(default_factory=dict, repr=False)
    place: tuple[str, int, int] | None = field(default=None, repr=False)

    def __reduce_ex__(self, protocol: Any) -> str | tuple[Any, ...]:
        """What pickle writes: the place in a cache instead of its content, which may be larger than the memory."""
        mapped = (self.particles, self.jets, self.target, *self.table.values())
        if self.place is None or not all(getattr(column, "filename", None) for column in mapped):  # `replace` was used
            return super().__reduce_ex__(protocol)
        from .clouds import map_clouds

        return map_clouds, (*self.place, self.features, self.key)

    def __len__(self) -> int:
        """The number of jets."""
        return len(self.target)

    @property
    def origin(self) -> dict[str, Any] | None:
        """What the jets were made from: checksums of the files, selection, split; None for jets that no cache holds."""
        if "recipe" not in self.info:
            return None
        return {"files": self.info["files"], **{name: self.info["recipe"][name] for name in _ORIGIN}}

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of `particles`."""
        return POINT_COLUMNS + PARTICLE_COLUMNS[self.features]

    @property
    def multiplicity(self) -> NDArray[np.int64]:
        """The number of particles of each jet, `(B,)`."""
        return np.diff(self.ptr)

    def slice(self, start: int, stop: int) -> CloudDataset:
        """The jets `start` to `stop`, without a copy of their particles."""
        first, last = int(self.ptr[start]), int(self.ptr[stop])
        return replace(
            self,
            particles=self.particles[first:last],
            ptr=self.ptr[start : stop + 1] - first,
            jets=self.jets[start:stop],
            target=self.target[start:stop],
            part=self.part[start:stop],
            table={name: column[start:stop] for name, column in self.table.items()},
            key=f"{self.key}[{start}:{stop}]",
            place=self.place and (self.place[0], self.place[1] + start, self.place[1] + stop),
        )

    def select(self, index: ArrayLike) -> CloudDataset:
        """The jets of the rows `index` (or of a boolean mask), in this order, copied into memory."""
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
        if len(index) and (index.min() < 0 or index.max() >= len(self)):
            raise InputError(f"select: there are {len(self)} jets, the index goes from {index.min()} to {index.max()}")
        rows, ptr = rows_of(self.ptr, index)
        return replace(
            self,
            particles=np.take(self.particles, rows, axis=0),
            ptr=ptr,
            jets=np.take(self.jets, index, axis=0),
            target=np.take(self.target, index),
            part=np.take(self.part, index),
            table={name: np.take(column, index) for name, column in self.table.items()},
            key=f"{self.key}/{_digest(index)}",
            place=None,
        )

    def split(self, name: Literal["train", "validation", "test"]) -> CloudDataset:
        """The jets of one part; without a copy where they lie together, as they do in a cache."""
        index = np.flatnonzero(self.part == SPLITS[name])
        if len(index) == 0:
            return self.slice(0, 0)
        if index[-1] - index[0] + 1 == len(index):
            return self.slice(int(index[0]), int(index[-1]) + 1)
        return self.select(index)


def _digest(index: NDArray[np.int64]) -> str:
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(index).tobytes()).hexdigest()[:12]

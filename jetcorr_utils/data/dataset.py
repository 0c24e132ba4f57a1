"""Particle clouds in memory or mapped from disk: the particles of all jets in one matrix, jet after jet.

`ptr` tells where each cloud begins and ends, so that nothing is padded. The arrays of a cache are memory maps: a data
set larger than the memory opens at once, and only what a batch needs is read.
"""

from __future__ import annotations

import hashlib
import mmap
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..files import read_json
from ..jets.columns import OF_VERTICES, Features, candidates_of, jet_columns, particle_columns, with_vertices
from ..jets.ragged import offsets_of, rows_of
from .features import TABLE_COLUMNS, jet_matrix, particle_matrix, points_of
from .split import SPLITS
from .store import META

__all__ = ["CloudDataset", "Clouds", "clouds_from_jets"]


_ORIGIN = ("selection", "split", "candidates", "target", "neutrinos", "corrections")
"""The last three are noted where they are not the default."""


@dataclass(frozen=True, eq=False)
class Clouds:
    """What a network is given of B jets with N particles in all, in physical units.

    Attributes
    ----------
    particles
        `(N, 2 + F)` float32, in the columns that `columns` names.
    ptr
        `(B + 1,)` int64: the particles of jet i are the rows ``ptr[i]`` to ``ptr[i + 1]``.
    jets
        `(B, J)` float32, in the columns that `jet_columns` names.
    features
        Which columns these are, see `jets.columns`.
    """

    particles: NDArray[np.float32]
    ptr: NDArray[np.int64]
    jets: NDArray[np.float32]
    features: Features

    def __len__(self) -> int:
        """The number of jets."""
        return len(self.ptr) - 1

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of `particles`."""
        return particle_columns(self.features)

    @property
    def jet_columns(self) -> tuple[str, ...]:
        """The names of the columns of `jets`."""
        return jet_columns(self.features)

    @property
    def multiplicity(self) -> NDArray[np.int64]:
        """The number of particles of each jet, `(B,)`."""
        return np.diff(self.ptr)

    def particle(self, name: str) -> NDArray[np.float32]:
        """A column of the particles, `(N,)`."""
        return np.asarray(self.particles[:, self.columns.index(name)])

    def jet(self, name: str) -> NDArray[np.float32]:
        """A column of the jets, `(B,)`."""
        return np.asarray(self.jets[:, self.jet_columns.index(name)])

    def with_features(self, features: Features) -> Clouds:
        """The same jets in the columns of other features, which must be among these.

        Raises
        ------
        InputError
            If they are not, or if they are of other candidates.
        """
        if candidates_of(features, "jet") != candidates_of(self.features, "jet"):
            raise InputError(f"features {features!r} are of other candidates than those of these clouds")
        particles, jets = particle_columns(features), jet_columns(features)
        if missing := [name for name in (*particles, *jets) if name not in (*self.columns, *self.jet_columns)]:
            raise InputError(f"features {features!r} need {', '.join(missing)}, which these clouds do not have")
        matrix, ptr = self.particles, self.ptr
        if with_vertices(self.features) and not with_vertices(features):  # without the points that are vertices
            mark = next(name for name in self.columns if name.startswith(OF_VERTICES))
            rows = np.flatnonzero(self.particle(mark) == 0)
            matrix, ptr = matrix[rows], np.searchsorted(rows, ptr)
        return Clouds(
            _columns_of(matrix, self.columns, particles), ptr,
            _columns_of(self.jets, self.jet_columns, jets), features,
        )  # fmt: skip


def _columns_of(matrix: NDArray, names: tuple[str, ...], wanted: tuple[str, ...]) -> NDArray:
    """Some columns of a matrix; the first ones without a copy."""
    if names[: len(wanted)] == wanted:
        return matrix[:, : len(wanted)]
    return matrix[:, [names.index(name) for name in wanted]]


@dataclass(frozen=True, eq=False)
class CloudDataset(Clouds):
    """B jets as clouds, with what they are to be trained on and compared with.

    Attributes
    ----------
    target
        `(B,)` float32, log(genJetPt/jetPt); NaN for a jet without a generator jet.
    part
        `(B,)` uint8, the code of the split of each jet, see `jetcorr_utils.data.split`.
    table
        Identifiers, truth and binning variables by name, `(B,)` each.
    key
        A text that is equal for equal content.
    info
        What is noted beside a cache.
    place
        The folder of the cache that holds these jets, and the first of its rows and the one behind the last; None for
        jets in memory. Another process is given this, and maps the same files: see `__reduce_ex__`.
    """

    target: NDArray[np.float32]
    part: NDArray[np.uint8]
    table: dict[str, NDArray]
    key: str
    info: dict[str, Any] = field(default_factory=dict, repr=False)
    place: tuple[str, int, int] | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls, folder: str | Path, features: Features, key: str, start: int = 0, stop: int | None = None
    ) -> CloudDataset:
        """The jets `start` to `stop` of a cache, mapped; by default all. See `store` for what is in its folder."""
        folder = Path(folder)
        meta = read_json(folder / META)
        recipe = meta.get("recipe", {})

        def column(name: str) -> np.ndarray:
            return np.load(folder / f"{name}.npy", mmap_mode="r")

        jets = sum(meta["jets"].values())
        whole = cls(
            particles=column("particles"), ptr=column("ptr"), jets=column("jets"), target=column("target"),
            part=np.repeat(np.array(list(SPLITS.values()), dtype=np.uint8), [meta["jets"][split] for split in SPLITS]),
            table={name: column(f"table.{name}") for name in (*TABLE_COLUMNS, *recipe.get("further", ()))},
            features=features, key=key, info=meta,
            place=(str(folder.absolute()), 0, jets),
        )  # fmt: skip
        stop = jets if stop is None else stop
        return whole if (start, stop) == (0, jets) else replace(whole.slice(start, stop), key=key)

    def __reduce_ex__(self, protocol: Any) -> str | tuple[Any, ...]:
        """What pickle writes: the place in a cache instead of its content, which may be larger than the memory."""
        mapped = (self.particles, self.jets, self.target, *self.table.values())
        if self.place is None or not all(getattr(column, "filename", None) for column in mapped):  # `replace` was used
            return super().__reduce_ex__(protocol)
        folder, start, stop = self.place
        return CloudDataset.open, (folder, self.features, self.key, start, stop)

    @property
    def origin(self) -> dict[str, Any] | None:
        """What the jets were made from: checksums of the files, selection, split; None for jets that no cache holds."""
        if (known := self.info.get("recipe")) is None:
            return None
        return {"files": self.info["files"], **{name: known[name] for name in _ORIGIN if name in known}}

    def slice(self, start: int, stop: int) -> CloudDataset:
        """The jets `start` to `stop`, without a copy of their particles."""
        first, last = int(self.ptr[start]), int(self.ptr[stop])
        return replace(
            self, particles=self.particles[first:last], ptr=self.ptr[start : stop + 1] - first,
            jets=self.jets[start:stop], target=self.target[start:stop], part=self.part[start:stop],
            table={name: column[start:stop] for name, column in self.table.items()}, key=f"{self.key}[{start}:{stop}]",
            place=self.place and (self.place[0], self.place[1] + start, self.place[1] + stop),
        )  # fmt: skip

    def read_at_once(self, start: int, stop: int) -> None:
        """Tell the system that the jets `start` to `stop` are read next, and in any order.

        It then reads their pages in one go; and for those that it has had to drop again nothing but these, where it
        would read megabytes around each jet. Nothing happens for what is in memory.
        """
        self._advise(start, stop, "MADV_RANDOM", "MADV_WILLNEED")

    def read_in_order(self) -> None:
        """Take that back."""
        self._advise(0, len(self), "MADV_NORMAL")

    def _advise(self, start: int, stop: int, *advice: str) -> None:
        _advise(self.particles[int(self.ptr[start]) : int(self.ptr[stop])], advice)
        for column in (self.jets, self.target, *self.table.values()):
            _advise(column[start:stop], advice)

    def first(self, most: int) -> CloudDataset:
        """The first jets, `most` at most, without a copy."""
        return self.slice(0, min(len(self), most))

    def select(self, index: ArrayLike) -> CloudDataset:
        """The jets of the rows `index` (or of a boolean mask), in this order, copied into memory."""
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else np.ascontiguousarray(index, dtype=np.int64)
        if len(index) and (index.min() < 0 or index.max() >= len(self)):
            raise InputError(f"select: there are {len(self)} jets, the index goes from {index.min()} to {index.max()}")
        rows, ptr = rows_of(self.ptr, index)
        return replace(
            self, particles=np.take(self.particles, rows, axis=0), ptr=ptr, jets=np.take(self.jets, index, axis=0),
            target=np.take(self.target, index), part=np.take(self.part, index),
            table={name: np.take(column, index) for name, column in self.table.items()},
            key=f"{self.key}/{hashlib.sha256(index.tobytes()).hexdigest()[:12]}", place=None,
        )  # fmt: skip

    def split(self, name: Literal["train", "validation", "test"]) -> CloudDataset:
        """The jets of one part; without a copy where they lie together, as they do in a cache."""
        index = np.flatnonzero(self.part == SPLITS[name])
        if len(index) == 0:
            return self.slice(0, 0)
        if index[-1] - index[0] + 1 == len(index):
            return self.slice(int(index[0]), int(index[-1]) + 1)
        return self.select(index)


def _advise(column: NDArray, advice: tuple[str, ...]) -> None:
    """Tell the system how the pages of a mapped column are read; not all systems have words for it."""
    mapped = getattr(column, "_mmap", None)
    if mapped is None or not column.size or not hasattr(mmap, "MADV_WILLNEED"):
        return
    start = column.ctypes.data - np.frombuffer(mapped, dtype=np.uint8).ctypes.data
    page = start - start % mmap.PAGESIZE
    for word in advice:
        mapped.madvise(getattr(mmap, word), page, start - page + column.nbytes)


def clouds_from_jets(jets: ak.Array, features: Features) -> Clouds:
    """The model inputs of jets in the schema of JetNTuple, see `data.read_jets`."""
    jets = points_of(jets, features)
    ptr = offsets_of(ak.to_numpy(ak.num(jets.particles)))
    return Clouds(particle_matrix(jets, features), ptr, jet_matrix(jets, features), features)

"""Reader of JetNTuple files: one entry a jet, its candidates in arrays counted by nPF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from ..errors import InputError
from .baskets import AsPieces, Jagged
from .quark_gluon import quark_gluon
from .schema import CORE, GENERATOR, JET_TYPES, NECESSARY, PARTICLE_TYPES, PARTICLES, RICH, Candidates

__all__ = ["TREE", "JetNTuple"]

TREE = "AK4jets/jetTree"

_COUNTER = "nPF"
_MOST_JETS = 1000  # in one event
SIMULATED = "jetcorr simulation"
"""What made the jets, where it was `jetcorr simulate`."""
_MAKERS = {"Jets (JetNTuple)": SIMULATED, "jetTree": "CMS open simulation"}
"""Who gives the tree which title: our simulation, and CMS's tool."""


class JetNTuple:
    """An open JetNTuple file.

    Parameters
    ----------
    path
        For messages.
    tree
        Its tree `TREE`.

    Raises
    ------
    InputError
        If a necessary branch is missing or has another type.
    """

    format = "JetNTuple"

    def __init__(self, path: str, tree: uproot.TTree) -> None:
        self.path, self.tree = path, tree
        types = {name: tree[name].typename for name in (*JET_TYPES, *PARTICLE_TYPES, _COUNTER) if name in tree}
        missing = [name for name in NECESSARY + PARTICLES if name not in types]
        if missing:
            raise InputError(f"{path}: tree {TREE} lacks the necessary branches {', '.join(missing)}")
        self.scalars = [name for name in JET_TYPES if name in types]
        self.particles = [name for name in PARTICLE_TYPES if name in types]
        for name in self.scalars:
            _check_type(path, name, types[name], JET_TYPES[name], array=False)
        for name in self.particles:
            _check_type(path, name, types[name], PARTICLE_TYPES[name], array=True)
        self.counter = [_COUNTER] if _COUNTER in types else []
        self.filled = tuple(name for name in CORE if name not in types)

    @property
    def jets(self) -> int:
        """The number of jets."""
        return self.tree.num_entries

    @property
    def made_by(self) -> str:
        """What made the jets, for figures."""
        return _MAKERS.get(self.tree.title, "JetNTuple")

    @property
    def has_generator(self) -> bool:
        """Whether there are generator jets to train on."""
        return "genJetPt" in self.scalars

    @property
    def has_candidates(self) -> bool:
        """Whether the jets have particles; always so in this format."""
        return True

    @property
    def has_rich(self) -> bool:
        """Whether the calorimeter fractions are there."""
        return set(RICH) <= set(self.particles)

    def iterate(
        self,
        step: int | str,
        scalars: Sequence[str] | None = None,
        particles: Sequence[str] | None = None,
        candidates: Candidates = "window",
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[ak.Array]:
        """Yield the jets in their order.

        Parameters
        ----------
        step
            Jets at once, or a size such as "50 MB".
        scalars, particles
            Columns to read; default: all of the format that the file has, and the core columns.
        candidates
            All that are stored, or only those that were clustered into the jet (PF_fromAK4Jet).
        start, stop
            Range of the jets; default: all.
        """
        wanted = list(dict.fromkeys((*self.scalars, *CORE) if scalars is None else scalars))
        columns = self.particles if particles is None else [name for name in particles if name in self.particles]
        filled = [name for name in wanted if name not in self.scalars]
        # what the filled columns are computed from
        needed = ("run", "lumi", "event", "jetMass", "jetRawPt", "jetPt") if filled else ()
        read = [name for name in dict.fromkeys((*wanted, *needed)) if name in self.scalars]
        if any(name.startswith("QG_") for name in filled):
            columns = list(dict.fromkeys((*columns, *PARTICLES)))
        arrays = dict.fromkeys((*columns, "PF_fromAK4Jet") if candidates == "jet" else columns)
        branches = {name: self.tree[name].interpretation for name in (*read, *self.counter)}
        branches |= {name: _as_pieces(self.tree[name].interpretation) for name in arrays}
        previous = self._before(start) if "jetPtOrder" in filled else None
        for chunk in self.tree.iterate(
            branches, step_size=step, library="np", how=dict, entry_start=start, entry_stop=stop
        ):
            record = {name: chunk[name].astype(JET_TYPES[name], copy=False) for name in read}
            offsets = self._offsets({name: chunk[name] for name in arrays}, chunk)
            cloud = _cloud(chunk, columns, offsets, candidates)
            previous = _fill(record, filled, cloud, previous)
            yield ak.zip({**{name: record[name] for name in wanted}, "particles": cloud}, depth_limit=1)

    def ranges(self, step: int | str) -> list[tuple[int, int]]:
        """Ranges of about `step` jets that together are all, for `iterate`."""
        size = step if isinstance(step, int) else self.tree.num_entries_for(step)
        return [(start, min(start + size, self.jets)) for start in range(0, self.jets, size)]

    def _before(self, start: int) -> tuple | None:
        """What `_order` needs to go on at a jet in the midst of the file."""
        if start == 0:
            return None
        names = ("run", "lumi", "event")
        record = self.tree.arrays(
            names, entry_start=max(0, start - _MOST_JETS), entry_stop=start, library="np", how=dict
        )
        return _order(record, None)[1]

    def _offsets(self, arrays: dict[str, Jagged], chunk: dict[str, NDArray]) -> NDArray[np.int64]:
        """Where the candidates of each jet begin and end, `(b + 1,)`; all arrays must have the same lengths."""
        (first, reference), *others = arrays.items()
        offsets = reference.offsets
        for name, column in others:
            if not np.array_equal(column.offsets, offsets):
                jet = _first_difference(column.offsets, offsets)
                raise InputError(
                    f"{self.path}: branches {first} and {name} have different numbers of candidates, first "
                    f"{offsets[jet] - offsets[jet - 1]} and {column.offsets[jet] - column.offsets[jet - 1]}"
                )
        if self.counter and not np.array_equal(np.diff(offsets), chunk[_COUNTER]):
            jet = _first_difference(np.diff(offsets), chunk[_COUNTER])
            raise InputError(
                f"{self.path}: branch {_COUNTER} says {chunk[_COUNTER][jet]} candidates, "
                f"the arrays have {offsets[jet + 1] - offsets[jet]}"
            )
        return offsets


def _first_difference(a: NDArray, b: NDArray) -> int:
    return int(np.flatnonzero(a != b)[0])


def _as_pieces(interpretation: uproot.AsJagged) -> AsPieces:
    """The same branch, with its bytes left as they are in the file."""
    return AsPieces(uproot.AsDtype(interpretation.content.from_dtype, interpretation.content.from_dtype))


def _cloud(
    chunk: dict[str, Jagged], columns: Sequence[str], offsets: NDArray[np.int64], candidates: Candidates
) -> ak.Array:
    """The candidates as one list of records a jet, `(b, var)`."""
    rows = None
    if candidates == "jet":
        rows = chunk["PF_fromAK4Jet"].positive()
        offsets = np.searchsorted(rows, offsets)
    contents = [ak.contents.NumpyArray(chunk[name].values(PARTICLE_TYPES[name], rows)) for name in columns]
    record = ak.contents.RecordArray(contents, list(columns))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))


def _check_type(path: str, name: str, found: str, expected: str, *, array: bool) -> None:
    """A branch may be wider than the schema says, but not of another kind or shape."""
    kinds = {"float": "f", "double": "f"}
    base = found.removesuffix("[]")
    integer = base.replace("_t", "").removeprefix("u") in {"int", "int8", "int16", "int32", "int64", "bool"}
    kind = kinds.get(base, "i" if integer else "?")
    if kind != ("f" if expected.startswith("float") else "i") or found.endswith("[]") != array:
        wanted = f"{expected}{'[]' if array else ''}"
        raise InputError(f"{path}: branch {name} has type {found}, expected {wanted}")


def _fill(record: dict[str, NDArray], filled: Sequence[str], cloud: ak.Array, previous: tuple | None) -> tuple | None:
    """Fill absent scalars by the rules of `schema.DEFAULTS`; returns what the next chunk needs to go on."""
    size = len(cloud)
    quality = quark_gluon(cloud) if any(name.startswith("QG_") for name in filled) else {}
    for name in filled:
        if name in quality:
            record[name] = quality[name]
        elif name == "eventWeight":
            record[name] = np.ones(size, dtype=np.float32)
        elif name in GENERATOR:
            record[name] = np.zeros(size, dtype=JET_TYPES[name])
        elif name == "jetRawMass":
            scale = np.divide(
                record["jetRawPt"], record["jetPt"], out=np.zeros(size, np.float32), where=record["jetPt"] > 0
            )
            record[name] = record["jetMass"] * scale
        elif name == "jetPtOrder":
            record[name], previous = _order(record, previous)
        else:
            raise InputError(f"column {name} is not one of this format: {', '.join(CORE)}")
    return previous


def _order(record: dict[str, NDArray], previous: tuple | None) -> tuple[NDArray, tuple]:
    """The place of each jet in its event, whose jets follow each other; an event may go on from the last chunk."""
    identity = np.stack([record[name].astype(np.uint64) for name in ("run", "lumi", "event")])
    size = identity.shape[1]
    new = np.ones(size, dtype=bool)
    new[1:] = (identity[:, 1:] != identity[:, :-1]).any(axis=0)
    start = np.maximum.accumulate(np.where(new, np.arange(size), 0))
    order = np.arange(size) - start
    if previous is not None and size and np.array_equal(identity[:, 0], previous[0]):
        order[start == 0] += previous[1] + 1
    return order.astype(np.int32), (identity[:, -1], int(order[-1]))

"""What all readers of jets have in common: which columns a file has, chunks of jets, and columns that are filled.

A format is a subclass of `JetReader` that says which columns of the tables (`jets.columns`) its file has and reads
them; see `data.formats` for how one is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..jets.columns import (
    BRANCHES,
    JETS,
    OF_VERTICES,
    PARTICLES,
    VERTICES,
    Candidates,
    Column,
    Features,
    core,
    jet_columns,
    particle_columns,
    with_vertices,
)
from .selection import clustered

__all__ = ["EventOrder", "JetReader"]

_EVENT = ("run", "lumi", "event")
_MOST_JETS = 1000  # in one event


class JetReader:
    """A file of jets, open.

    Attributes
    ----------
    format
        Name of the format.
    path
        For messages.
    columns
        The columns of both tables that the file has; a format sets them.
    has_vertices
        Whether the jets have secondary vertices; by default not.
    entries
        How many entries it has; a format sets it. One is a jet, unless a format overrides `jets`.
    """

    format: str
    path: str
    columns: frozenset[str]
    entries: int
    has_vertices: bool = False

    def read(self, start: int, stop: int, names: Sequence[str]) -> dict[str, ak.Array | NDArray]:
        """Some of `columns` of a range of entries, which a format defines: `(B,)` of jets, `(B, var)` of particles."""
        raise NotImplementedError

    @property
    def jets(self) -> int:
        """The number of jets."""
        return self.entries

    @property
    def made_by(self) -> str:
        """What made the jets, for figures."""
        return self.format

    @property
    def energy(self) -> str:
        """The energy of the collisions, such as ``13 TeV``; empty where the file does not tell."""
        return ""

    @property
    def filled(self) -> tuple[str, ...]:
        """The core columns that the file lacks, and those of the particles, as far as they can be filled."""
        names = core()
        if self.has_candidates:
            wanted = [column for column in PARTICLES.values() if column.fill and column.group]
            names += [column.name for column in wanted if column.name in BRANCHES]
        else:
            names = [name for name in names if not ((fill := JETS[name].fill) and PARTICLES.keys() & set(fill.needs))]
        return tuple(name for name in names if name not in self.columns)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What else is taken to be so, for lack of a branch that would tell, in words."""
        return ()

    @property
    def attached(self) -> bool:
        """Whether particles are attached to jets by indices, which may be those of other jets, or weights differ."""
        return False

    @property
    def has_generator(self) -> bool:
        """Whether there are generator jets to train on."""
        return "genJetPt" in self.columns

    @property
    def has_candidates(self) -> bool:
        """Whether the jets have particles."""
        return "PF_pT" in self.columns

    def vertices(self, start: int, stop: int) -> ak.Array:
        """The secondary vertices of the jets of a range of entries, `(b, var)` records of `VERTICES`."""
        raise NotImplementedError

    def lacks(self, features: Features) -> list[str]:
        """The inputs of a network that the file does not have, and that nothing fills."""
        names = (*particle_columns(features), *jet_columns(features))
        vertices = VERTICES if with_vertices(features) and not self.has_vertices else ()
        return [*(name for name in names if name not in self.columns and not _column(name).fill), *vertices]

    def ranges(self, step: int | str) -> list[tuple[int, int]]:
        """Ranges of entries of about `step` jets (or of a size such as "50 MB") that together are all."""
        size = self.entries_of(step)
        return [(start, min(start + size, self.entries)) for start in range(0, self.entries, size)]

    def entries_of(self, step: int | str) -> int:
        """The number of entries that hold about `step` jets."""
        return step if isinstance(step, int) else 10_000

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
            About so many jets at once, or a size such as "50 MB".
        scalars, particles
            Columns to read; default: all that the file has, and the core columns. With columns of secondary vertices
            (``PF_vertex…``), which have to be asked for, the jets have these as ``vertices``, `(b, var)`.
        candidates
            All that are stored, or only those that were clustered into the jet (PF_fromAK4Jet).
        start, stop
            Range of the entries; default: all.
        """
        wanted, columns = self._wanted(scalars, particles)
        asked = any(name.startswith(OF_VERTICES) for name in columns)
        extra = ["vertices"] if asked and self.has_vertices else []
        filled = self._filled((*wanted, *columns))
        needed = [name for column in filled for name in column.fill.needs]
        read = _those_in(self.columns, (*wanted, *columns, *needed), JETS)
        arrays = _those_in(self.columns, (*columns, *needed), PARTICLES)
        order = EventOrder()
        if start and any(column.name == "jetPtOrder" for column in filled):
            before = self.chunks(_MOST_JETS, _EVENT, (), "window", max(0, start - _MOST_JETS), start)
            for record, _ in before:
                order(record)
        last = self.entries if stop is None else stop
        for record, cloud in self.chunks(step, [*read, *extra], arrays, candidates, start, last):
            yield self.complete(record, cloud, wanted, columns, order)

    def chunks(
        self, step: int | str, names: Sequence[str], particles: Sequence[str], candidates: Candidates, start: int,
        stop: int,
    ) -> Iterator[tuple[dict[str, NDArray], ak.Array]]:  # fmt: skip
        """Yield some columns of the jets of a range of entries, and some of their particles, `(b,)` and `(b, var)`.

        With ``vertices`` among the names there is an entry with the secondary vertices, `(b, var)`, see `vertices`.
        """
        size, scalars = self.entries_of(step), [name for name in names if name != "vertices"]
        arrays = dict.fromkeys((*particles, *(("PF_fromAK4Jet",) if candidates == "jet" else ())))
        for first in range(start, stop, size):
            found = self.read(first, min(first + size, stop), [*scalars, *arrays])
            cloud = ak.zip({name: found[name] for name in arrays}) if arrays else None
            cloud = clustered(cloud) if candidates == "jet" else cloud
            record = {name: ak.to_numpy(found[name]).astype(JETS[name].dtype, copy=False) for name in scalars}
            if "vertices" in names:
                record["vertices"] = self.vertices(first, min(first + size, stop))
            yield record, cloud

    @np.errstate(invalid="ignore", over="ignore")  # damaged values are named by `selection`
    def complete(
        self,
        record: dict[str, NDArray],
        cloud: ak.Array,
        scalars: Sequence[str],
        particles: Sequence[str],
        order: EventOrder | None = None,
    ) -> ak.Array:
        """The wanted columns of some jets with their particles, those that are not in `record` and `cloud` filled."""
        filled = self._filled((*scalars, *particles))
        known = record | {name: cloud[name] for name in cloud.fields} if filled else record
        for column in filled:
            if column.name == "jetPtOrder" and order is not None:
                known[column.name] = order(record)
            elif column.name not in known:
                known |= column.fill.make(known)
        for name in particles:
            if name not in cloud.fields:
                cloud = ak.with_field(cloud, ak.values_astype(known[name], PARTICLES[name].dtype), name)
        jets = {name: known[name].astype(JETS[name].dtype, copy=False) for name in scalars}
        if "vertices" in record:
            jets["vertices"] = record["vertices"]
        return ak.zip({**jets, "particles": cloud[list(particles)]}, depth_limit=1)

    def _wanted(self, scalars: Sequence[str] | None, particles: Sequence[str] | None) -> tuple[list[str], list[str]]:
        """The columns to give: those asked for, as far as particles have them, or all."""
        jets = [*_those_in(self.columns, JETS, JETS), *core()] if scalars is None else scalars
        known = [column.name for column in PARTICLES.values() if column.group or column.fill]
        everything = [name for name in known if not name.startswith(OF_VERTICES)]
        arrays = everything if particles is None else particles
        return (
            list(dict.fromkeys(jets)),
            [name for name in dict.fromkeys(arrays) if name in self.columns or PARTICLES[name].fill],
        )

    def _filled(self, names: Iterable[str]) -> list[Column]:
        """Those of some columns that the file lacks, and before each those that it is made of."""
        found: dict[str, Column] = {}
        for name in names:
            if name in self.columns or name in found:
                continue
            if name not in {**JETS, **PARTICLES} or not _column(name).fill:
                raise InputError(
                    f"{self.path}: column {name} is not one of this file: {', '.join(sorted(self.columns))}"
                )
            found |= {column.name: column for column in self._filled(_column(name).fill.needs)} | {name: _column(name)}
        return list(found.values())


class EventOrder:
    """The place of each jet in its event, whose jets follow each other; an event may go on in the next chunk."""

    def __init__(self) -> None:
        self._last: tuple[NDArray[np.uint64], int] | None = None

    def __call__(self, record: dict[str, NDArray]) -> NDArray[np.int32]:
        """The places of the jets of the next chunk, `(b,)`, from their run, lumi and event."""
        identity = np.stack([record[name].astype(np.uint64) for name in _EVENT])
        size = identity.shape[1]
        new = np.ones(size, dtype=bool)
        new[1:] = (identity[:, 1:] != identity[:, :-1]).any(axis=0)
        start = np.maximum.accumulate(np.where(new, np.arange(size), 0))
        order = np.arange(size) - start
        if size:
            if self._last is not None and np.array_equal(identity[:, 0], self._last[0]):
                order[start == 0] += self._last[1] + 1
            self._last = identity[:, -1], int(order[-1])
        return order.astype(np.int32)


def _column(name: str) -> Column:
    return PARTICLES[name] if name in PARTICLES else JETS[name]


def _those_in(columns: frozenset[str], names: Iterable[str], table: dict[str, Column]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name in columns and name in table]

"""Reader of JetNTuple files: one entry a jet, its candidates in arrays counted by nPF.

Files that ROOT's RDataFrame has written again are read, too: with the arrays as vectors, or as an RNTuple.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from ..errors import InputError
from ..jets.columns import JETS, PARTICLES, TREE, VERTICES, Candidates, necessary
from .baskets import AsPieces, Jagged
from .reader import JetReader

__all__ = ["SIMULATED", "JetNTuple"]

_COUNTER = "nPF"
SIMULATED = "jetcorr simulation"
"""What made the jets, where it was `jetcorr simulate`."""
_VECTOR = re.compile(r"(?:std::|ROOT::)?(?:VecOps::)?R?[vV]ec(?:tor)?<(?P<of>.+)>")
_MAKERS = {"Jets (JetNTuple)": SIMULATED, "jetTree": "CMS open simulation"}
"""Who gives the tree which title: our simulation, and CMS's tool."""


class JetNTuple(JetReader):
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
        self.path, self.tree, self.entries = path, tree, tree.num_entries
        known = {**JETS, **PARTICLES}
        self.branches = {name: column.sources.get(self.format, name) for name, column in known.items()}
        there = set(tree.keys())
        types = {name: _plain(tree[branch].typename) for name, branch in self.branches.items() if branch in there}
        missing = [name for name in necessary(known) if name not in types]
        if missing:
            raise InputError(f"{path}: tree {TREE} lacks the necessary branches {', '.join(missing)}")
        for name, found in types.items():
            _check_type(path, self.branches[name], found, known[name].dtype, array=name in PARTICLES)
        self.columns = frozenset(types)
        self.has_vertices = there >= set(VERTICES)
        self.counter = [_COUNTER] if _COUNTER in there else []

    @property
    def made_by(self) -> str:
        """What made the jets, for figures."""
        return _MAKERS.get(getattr(self.tree, "title", ""), self.format)  # an RNTuple has none

    @property
    def energy(self) -> str:
        """Of all jets that this format is used for."""
        return "13 TeV"

    def entries_of(self, step: int | str) -> int:
        """The number of jets of a size such as "50 MB"."""
        return step if isinstance(step, int) else self.tree.num_entries_for(step)

    def chunks(
        self, step: int | str, names: Sequence[str], particles: Sequence[str], candidates: Candidates, start: int,
        stop: int,
    ) -> Iterator[tuple[dict[str, NDArray], ak.Array]]:  # fmt: skip
        """See `JetReader.chunks`; in one pass over the baskets."""
        if not isinstance(self.tree, uproot.TTree):
            yield from super().chunks(step, names, particles, candidates, start, stop)
            return
        arrays = dict.fromkeys((*particles, "PF_fromAK4Jet") if candidates == "jet" else particles)
        with_vertices, names = "vertices" in names, [name for name in names if name != "vertices"]
        plain = {name: self.tree[self.branches[name]].interpretation for name in names}
        jagged = {name: _as_pieces(self.tree[self.branches[name]].interpretation) for name in arrays}
        branches = {self.branches[name]: how for name, how in (plain | jagged).items()}
        branches |= {name: self.tree[name].interpretation for name in self.counter}
        options = {"step_size": step, "library": "np", "how": dict, "entry_start": start, "entry_stop": stop}
        for chunk in self.tree.iterate(branches, **options):
            record = {name: chunk[self.branches[name]].astype(JETS[name].dtype, copy=False) for name in names}
            found = {name: chunk[self.branches[name]] for name in arrays}
            size = len(next(iter(chunk.values())))
            if with_vertices:
                record["vertices"] = self.vertices(start, start + size)
            start += size
            yield record, self._cloud(found, chunk, particles, candidates) if arrays else None

    def read(self, start: int, stop: int, names: Sequence[str]) -> dict[str, ak.Array | NDArray]:
        """See `JetReader.read`; of an RNTuple."""
        return {name: self.tree[self.branches[name]].array(entry_start=start, entry_stop=stop) for name in names}

    def vertices(self, start: int, stop: int) -> ak.Array:
        """See `JetReader.vertices`."""
        arrays = {name: self.tree[name].array(entry_start=start, entry_stop=stop) for name in VERTICES}
        return ak.zip({name: ak.values_astype(values, VERTICES[name]) for name, values in arrays.items()})

    def _cloud(
        self, arrays: dict[str, Jagged], chunk: dict[str, NDArray], names: Sequence[str], candidates: Candidates
    ) -> ak.Array:
        """The candidates as one list of records a jet, `(b, var)`."""
        rows, offsets = None, self._offsets(arrays, chunk)
        if candidates == "jet":
            rows = arrays["PF_fromAK4Jet"].positive()
            offsets = np.searchsorted(rows, offsets)
        contents = [ak.contents.NumpyArray(arrays[name].values(PARTICLES[name].dtype, rows)) for name in names]
        record = ak.contents.RecordArray(contents, list(names))
        return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))

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
    content = uproot.AsDtype(interpretation.content.from_dtype, interpretation.content.from_dtype)
    return AsPieces(content, header_bytes=interpretation.header_bytes)  # those of vectors


def _plain(found: str) -> str:
    """A type as a branch with a counter has it: ``std::vector<float>`` is ``float[]``."""
    vector = _VECTOR.fullmatch(found)
    return f"{vector['of']}[]".replace("std::", "") if vector else found.replace("std::", "")


def _check_type(path: str, name: str, found: str, expected: str, *, array: bool) -> None:
    """A branch may be wider than the schema says, but not of another kind or shape."""
    kinds = {"float": "f", "double": "f"}
    base = found.removesuffix("[]")
    integer = base.replace("_t", "").removeprefix("u") in {"int", "int8", "int16", "int32", "int64", "bool"}
    kind = kinds.get(base, "i" if integer else "?")
    if kind != ("f" if expected.startswith("float") else "i") or found.endswith("[]") != array:
        wanted = f"{expected}{'[]' if array else ''}"
        raise InputError(f"{path}: branch {name} has type {found}, expected {wanted}")

"""The files of a cache of clouds: one .npy a column, mapped by whoever reads; and how they grow while it is built.

A part holds the selected jets of one input file, apart for training, validation and test. The finished cache is the
parts one after the other, first all jets that train, then those that validate, then those that test, so that each of
the three is one contiguous piece of every column. What is written is noted with its checksum: of the files of a part
when they are joined, of the columns when a cache is opened, see `check`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import awkward as ak
import numpy as np
import xxhash
from numpy.typing import NDArray

from ..errors import InputError
from ..files import read_json, write_json
from ..jets.columns import Features, jet_columns, particle_columns
from ..jets.ragged import offsets_of, rows_of
from .features import TABLE_COLUMNS, as_seen, jet_matrix, particle_matrix, points_of, regression_target, table
from .fingerprints import Fingerprints
from .split import SPLITS

__all__ = ["LEFT_OUT", "META", "DamagedError", "PartWriter", "check", "columns", "merge", "read_meta", "write_meta"]

META = "meta.json"

LEFT_OUT = 255
"""In the place of the code of a split: the jet is not written."""


class DamagedError(InputError):
    """A part or a cache is not any more what was written; `folder` is which."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(f"{folder}: damaged, {what}")
        self.folder = folder


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Write what describes a part or a cache, with a checksum of its own: the folder is complete then."""
    write_json(folder / META, {**meta, "checksum": _checksum(meta)})


def read_meta(folder: Path) -> dict[str, Any]:
    """What `write_meta` wrote.

    Raises
    ------
    DamagedError
        If it is not there, or not any more what was written.
    """
    try:
        meta = read_json(folder / META)
        checksum = meta.pop("checksum", None)
    except (FileNotFoundError, InputError, AttributeError, TypeError):
        raise DamagedError(folder, f"it has no {META} that can be read") from None
    if checksum != _checksum(meta):
        raise DamagedError(folder, f"{META} has another checksum than when it was written")
    return meta


def _checksum(meta: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(meta, sort_keys=True).encode())


def check(folder: Path, features: Features, known: Fingerprints) -> dict[str, Any]:
    """The meta data of a cache, all of whose columns are what was written.

    Raises
    ------
    DamagedError
        If a column is missing, or has another checksum.
    """
    meta = read_meta(folder)
    further = meta.get("recipe", {}).get("further", ())
    for name in [*(name for name in columns(features, further) if name != "multiplicity"), "ptr"]:
        try:
            found = known.of(folder / f"{name}.npy")
        except FileNotFoundError:
            raise DamagedError(folder, f"{name}.npy is missing") from None
        if found != meta.get("checksums", {}).get(name):
            raise DamagedError(folder, f"{name}.npy has another checksum than when it was written")
    return meta


class _Digested:
    """A file that is written, and the checksum of what was."""

    def __init__(self, path: Path) -> None:
        self._file, self._digest = path.open("wb"), xxhash.xxh3_128()

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)

    def checksum(self) -> str:
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def columns(features: Features, further: Sequence[str] = ()) -> dict[str, tuple[np.dtype, int]]:
    """The columns of a cache: type, and width of a row (0 for a plain number); `further` ones of the table."""
    single = np.dtype(np.float32)
    return {
        "particles": (single, len(particle_columns(features))), "multiplicity": (np.dtype(np.int32), 0),
        "jets": (single, len(jet_columns(features))), "target": (single, 0),
        **{f"table.{name}": (dtype, 0) for name, dtype in TABLE_COLUMNS.items()},
        **{f"table.{name}": (single, 0) for name in further},
    }  # fmt: skip


class PartWriter:
    """Write the jets of one input file, chunk by chunk, into the folder of a part.

    Parameters
    ----------
    folder
        Where the part is written; `complete` adds its `META`.
    features
        Columns of the particles.
    further
        Columns of the table, besides those that it always has.
    target
        What networks correct, see `as_seen`.
    """

    def __init__(
        self, folder: Path, features: Features, further: Sequence[str] = (), target: str = "corrected"
    ) -> None:
        self.folder, self.features, self.further, self.target = folder, features, further, target
        self.jets = dict.fromkeys(SPLITS, 0)
        self.particles = dict.fromkeys(SPLITS, 0)
        self._stack = contextlib.ExitStack()  # one more level of `with` for each of the columns' files
        self._files = {
            (split, name): self._stack.enter_context(_Digested(folder / f"{split}.{name}"))
            for split in SPLITS
            for name in columns(features, further)
        }

    def append(self, jets: ak.Array, part: NDArray[np.uint8]) -> None:
        """Add jets, each to the split of its code in `part`, `(B,)`, or to none for `LEFT_OUT`."""
        jets = points_of(jets, self.features)
        matrix, seen = particle_matrix(jets, self.features), as_seen(jets, self.target)
        count = ak.to_numpy(ak.num(jets["particles"])).astype(np.int32)
        values = {
            "multiplicity": count, "jets": jet_matrix(seen, self.features), "target": regression_target(seen),
            **{f"table.{name}": column for name, column in table(jets, self.further).items()},
        }  # fmt: skip
        ptr = offsets_of(count)
        for split, code in SPLITS.items():
            index = np.flatnonzero(part == code)
            rows, _ = rows_of(ptr, index)
            self._files[split, "particles"].write(np.take(matrix, rows, axis=0).tobytes())
            for name, column in values.items():
                self._files[split, name].write(column[index].tobytes())
            self.jets[split] += len(index)
            self.particles[split] += len(rows)

    def __enter__(self) -> Self:
        """The writer, whose files are closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._stack.close()

    def complete(self, **meta: Any) -> None:
        """Mark the part as complete; `meta` is kept beside the numbers of jets and particles."""
        checksums = {f"{split}.{name}": file.checksum() for (split, name), file in self._files.items()}
        write_meta(self.folder, {"jets": self.jets, "particles": self.particles, "checksums": checksums, **meta})


def merge(parts: Sequence[Path], folder: Path, features: Features, further: Sequence[str] = ()) -> dict[str, Any]:
    """Join complete parts in `folder`: one .npy file a column, and `ptr.npy`.

    Returns
    -------
    The numbers of jets and particles by split, summed over the parts, and the checksums of the columns.

    Raises
    ------
    DamagedError
        If a part is not any more what was written.
    """
    metas = [read_meta(part) for part in parts]
    jets, particles = (
        {split: sum(meta[kind][split] for meta in metas) for split in SPLITS} for kind in ("jets", "particles")
    )
    checksums = {}
    for name, (dtype, width) in columns(features, further).items():
        rows = sum((particles if name == "particles" else jets).values())
        with _Digested(folder / f"{name}.npy") as target:
            _write_header(target, dtype, (rows, width) if width else (rows,))
            for split in SPLITS:
                for part, meta in zip(parts, metas, strict=True):
                    _append(part, f"{split}.{name}", meta["checksums"], target)
            checksums[name] = target.checksum()
    del checksums["multiplicity"]
    checksums["ptr"] = _write_ptr(folder, sum(jets.values()))
    return {"jets": jets, "particles": particles, "checksums": checksums}


def _append(part: Path, name: str, checksums: dict[str, str], target: _Digested) -> None:
    """Copy a file of a part, a block at a time."""
    digest = xxhash.xxh3_128()
    try:
        with open(part / name, "rb") as source:
            while block := source.read(1 << 22):
                digest.update(block)
                target.write(block)
    except FileNotFoundError:
        raise DamagedError(part, f"{name} is missing") from None
    if digest.hexdigest() != checksums[name]:
        raise DamagedError(part, f"{name} has another checksum than when it was written")


def _write_header(file: Any, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _write_ptr(folder: Path, jets: int) -> str:
    """Running sums of the multiplicities, a chunk at a time; the multiplicities are not needed then."""
    multiplicity = np.load(folder / "multiplicity.npy", mmap_mode="r") if jets else np.zeros(0, dtype=np.int32)
    total = 0
    with _Digested(folder / "ptr.npy") as file:
        _write_header(file, np.dtype(np.int64), (jets + 1,))
        file.write(np.zeros(1, dtype=np.int64).tobytes())
        for start in range(0, jets, 1 << 20):
            running = total + np.cumsum(multiplicity[start : start + (1 << 20)], dtype=np.int64)
            total = int(running[-1])
            file.write(running.tobytes())
        checksum = file.checksum()
    del multiplicity
    os.unlink(folder / "multiplicity.npy")
    return checksum

"""Particle clouds from the files of a study: read once, in chunks, into a memory-mapped cache.

The cache is named by the content of the inputs and by the settings that shape it, so that it is found again wherever
the same files come from, and never used after a change. It is complete or absent, and one that was damaged since is
built again. Each input file becomes a part of its own first: an interrupted run goes on with the files that are left.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from ..config import DataSettings
from ..errors import InputError
from ..files import atomic_folder, locked, read_json
from .dataset import CloudDataset
from .features import JET_COLUMNS, PARTICLE_COLUMNS, POINT_COLUMNS, TABLE_COLUMNS, Features
from .fingerprints import Fingerprints
from .locations import data_directory, ensure_files
from .reading import STEP, iterate_jets, open_jets
from .selection import MISMATCHED, UNUSABLE, reasons
from .split import SPLITS, split_of
from .store import LEFT_OUT, META, DamagedError, PartWriter, check, columns, merge, read_meta, write_meta

__all__ = ["CloudDataset", "load_clouds"]

log = logging.getLogger(__name__)

VERSION = 2
"""Raised when the same inputs and settings give another cache than before."""

TOLERATED = 0.01
"""Largest share of unusable jets in a file; a file with more is taken to be corrupted."""

_SCALARS = tuple(dict.fromkeys((*JET_COLUMNS, *TABLE_COLUMNS, "jetPhi")))


class SubmitsTasks(Protocol):
    """What runs functions elsewhere: executors of `concurrent.futures`, and Dask's `Client`."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Start `function(*arguments)`; the returned object has `result()`."""


def load_clouds(
    settings: DataSettings,
    features: Features = "open",
    cache_dir: str | Path | None = None,
    progress: bool = True,
    *,
    executor: SubmitsTasks | None = None,
) -> CloudDataset:
    """The selected jets of a study as clouds, mapped from the cache, which is built if it is not there.

    Parameters
    ----------
    settings
        Files, selection, split and candidates.
    features
        Columns of the particles.
    cache_dir
        Folder of the caches; default: ``cache`` in the study's data directory.
    progress
        Show a progress bar while building.
    executor
        Reads the files side by side: a `concurrent.futures.ProcessPoolExecutor`, or the client of a Dask cluster whose
        workers see the same folders. The cache does not depend on it.

    Raises
    ------
    InputError
        If a file cannot be used, is there twice, or if no jet is left.
    """
    cache = data_directory(settings) / "cache" if cache_dir is None else Path(cache_dir)
    cache.mkdir(parents=True, exist_ok=True)
    files = ensure_files(settings, progress)
    with locked(cache, "building of particle clouds"):
        known = Fingerprints(cache / "checksums.json")
        prints = [known.of(file) for file in files]
        _refuse_twins(files, prints)
        recipe = _recipe(settings, features)
        key = _key({"files": prints, **recipe})
        folder = cache / key
        parts = [cache / "parts" / _key({"file": checksum, **recipe}) for checksum in prints]
        if not _intact(folder, lambda: check(folder, features, known)):
            arguments = (folder, parts, files, prints, settings, features, recipe, progress, executor)
            try:
                _build(*arguments)
            except DamagedError as error:
                _discard(error)  # a part, which the second time is made again
                _build(*arguments)
            known.remember({folder / f"{name}.npy": value for name, value in read_meta(folder)["checksums"].items()})
        for part in parts:
            shutil.rmtree(part, ignore_errors=True)
    return _open(folder, features, key)


def _intact(folder: Path, look: Callable[[], object]) -> bool:
    """Whether a part or a cache is there and `look` finds it as it was written; a damaged one is removed."""
    if not folder.exists():
        return False
    try:
        look()
    except DamagedError as error:
        _discard(error)
        return False
    return True


def _discard(error: DamagedError) -> None:
    try:
        shutil.rmtree(error.folder)
    except OSError as problem:
        raise InputError(f"{error}; it cannot be removed: {problem.strerror}; use another data directory") from None
    log.warning("%s; it is made again", error)


def _recipe(settings: DataSettings, features: Features) -> dict:
    """All that shapes the clouds, besides the files."""
    return {
        "version": VERSION,
        "features": features,
        "columns": [*columns(features), *POINT_COLUMNS, *PARTICLE_COLUMNS[features], *JET_COLUMNS],
        "selection": settings.selection.model_dump(mode="json"),
        "split": settings.split.model_dump(mode="json"),
        "candidates": settings.candidates,
    }


def _key(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _refuse_twins(files: Sequence[str], prints: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for file, checksum in zip(files, prints, strict=True):
        if checksum in first:
            raise InputError(f"{file}: has the same content as {first[checksum]}; name each file once")
        first[checksum] = file


def _build(
    folder: Path,
    parts: Sequence[Path],
    files: Sequence[str],
    prints: Sequence[str],
    settings: DataSettings,
    features: Features,
    recipe: dict,
    progress: bool,
    executor: SubmitsTasks | None,
) -> None:
    """Make the parts that are missing and join them."""
    total, reported = 0, set()
    for file in files:
        with open_jets(file) as source:
            _check_trainable(file, source, features)
            total += source.jets
    with tqdm(total=total, unit=" jets", desc="particle clouds", disable=not progress) as bar:
        there = {part for part in parts if _intact(part, partial(read_meta, part))}
        missing = [(part, file) for part, file in zip(parts, files, strict=True) if part not in there]
        bar.update(sum(read_meta(part)["read"] for part in there))
        if executor is None:
            for part, file in missing:
                _make_part(part, file, settings, features, bar.update, reported)
        else:
            tasks = [executor.submit(_make_part, *which, settings, features) for which in missing]
            for task in tasks:
                bar.update(task.result())
    lost = sum((Counter(read_meta(part)["left_out"]) for part in parts), Counter())
    with atomic_folder(folder) as temporary:
        meta = merge(parts, temporary, features)
        if sum(meta["jets"].values()) == 0:
            why = ", ".join(f"{count} {reason}" for reason, count in lost.items() if count)
            raise InputError(f"no jets are left by the selection: {why or 'the files are empty'}")
        write_meta(temporary, {**meta, "left_out": dict(lost), "read": total, "recipe": recipe, "files": prints})
    for reason in (UNUSABLE, MISMATCHED):
        if lost[reason]:
            log.warning("%d of %d jets were left out: %s", lost[reason], total, reason)


def _check_trainable(file: str, source, features: Features) -> None:
    if not source.has_candidates:
        raise InputError(f"{file}: its jets have no particle-flow candidates, so no network can be trained on them")
    if features == "rich" and not source.has_rich:
        raise InputError(
            f"{file}: features 'rich' need PF_caloFraction and PF_hcalFraction, which it lacks; use features: open"
        )
    if not source.has_generator:
        raise InputError(f"{file}: has no generator jets (genJetPt), so no network can be trained on it")


def _make_part(
    part: Path,
    file: str,
    settings: DataSettings,
    features: Features,
    advance: Callable[[int], object] = lambda jets: None,
    reported: set[str] | None = None,
) -> int:
    """Read one file into the folder `part`; returns the number of jets that were read."""
    with atomic_folder(part) as temporary:
        return _write_part(temporary, file, settings, features, advance, reported)


def _write_part(
    folder: Path,
    file: str,
    settings: DataSettings,
    features: Features,
    advance: Callable[[int], object],
    reported: set[str] | None,
) -> int:
    lost, read = Counter(), 0
    wanted = POINT_COLUMNS + PARTICLE_COLUMNS[features]
    with PartWriter(folder, features) as writer:
        options = {"scalars": _SCALARS, "particles": wanted, "candidates": settings.candidates, "reported": reported}
        for jets in iterate_jets(file, STEP, **options):
            part = split_of(jets["run"], jets["lumi"], jets["event"], settings.split)
            for reason, mask in reasons(jets, settings.selection).items():
                part[mask] = LEFT_OUT  # cheaper than to cut the particles of these jets out of the chunk
                lost[reason] += int(mask.sum())
            writer.append(jets, part)
            read += len(jets)
            advance(len(jets))
    for reason in (UNUSABLE, MISMATCHED):
        if lost[reason] > TOLERATED * read:
            raise InputError(f"{file}: {lost[reason]} of {read} jets have {reason}; is the file corrupted?")
    writer.complete(left_out=dict(lost), read=read)
    return read


def map_clouds(folder: str, start: int, stop: int, features: Features, key: str) -> CloudDataset:
    """The jets `start` to `stop` of a cache's folder: what a pickled `CloudDataset` says of itself."""
    return replace(_open(Path(folder), features, key).slice(start, stop), key=key)


def _open(folder: Path, features: Features, key: str) -> CloudDataset:
    meta = read_json(folder / META)

    def column(name: str) -> np.ndarray:
        return np.load(folder / f"{name}.npy", mmap_mode="r")

    return CloudDataset(
        particles=column("particles"),
        ptr=column("ptr"),
        jets=column("jets"),
        target=column("target"),
        part=np.repeat(np.array(list(SPLITS.values()), dtype=np.uint8), [meta["jets"][split] for split in SPLITS]),
        table={name: column(f"table.{name}") for name in TABLE_COLUMNS},
        features=features,
        key=key,
        info=meta,
        place=(str(folder.absolute()), 0, sum(meta["jets"].values())),
    )

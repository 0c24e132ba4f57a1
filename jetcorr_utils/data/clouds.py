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
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..config import DataSettings
from ..errors import InputError
from ..files import atomic_folder, fingerprint, locked
from ..jets.columns import JETS, Features, candidates_of, jet_columns, particle_columns
from ..jets.regressions import REGRESSIONS
from .belonging import STRANGERS, refuse_strangers, strangers
from .dataset import CloudDataset, clouds_from_jets
from .features import FILE_PT, START_PT, TABLE_COLUMNS
from .fingerprints import Fingerprints
from .locations import data_directory, ensure_files
from .nanoaod import AK4
from .reader import JetReader
from .reading import STEP, common_regressions, iterate_jets, official_corrections, open_jets
from .selection import MISMATCHED, UNUSABLE, reasons
from .split import split_of
from .store import LEFT_OUT, DamagedError, PartWriter, check, columns, merge, read_meta, write_meta

__all__ = ["CloudDataset", "load_clouds"]

log = logging.getLogger(__name__)

VERSION = 3
"""Raised when the same inputs and settings give another cache than before."""

TOLERATED = 0.01
"""Largest share of unusable jets in a file; a file with more is taken to be corrupted."""


def load_clouds(settings: DataSettings, features: Features = "open", progress: bool = True) -> CloudDataset:
    """The selected jets of a study as clouds, mapped from the cache, which is built if it is not there.

    Parameters
    ----------
    settings
        Files, selection, split and candidates.
    features
        Columns of the particles.
    progress
        Show a progress bar while building.

    Raises
    ------
    InputError
        If a file cannot be used, is there twice, or if no jet is left.
    """
    chosen, most = candidates_of(features, settings.candidates)
    if chosen == "window" and most is None and "PF_fromAK4Jet" not in particle_columns(features):
        raise InputError("data.candidates: window needs features of the group clustering, which tell a jet's own apart")
    cache = data_directory(settings) / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    files = ensure_files(settings, progress)
    with locked(cache, "building of particle clouds"):
        known = Fingerprints(cache / "checksums.json")
        prints = [known.of(file) for file in files]
        _refuse_twins(files, prints)
        recipe = _recipe(settings, features, files)
        key = _key({"files": prints, **recipe})
        folder = cache / key
        parts = [cache / "parts" / _key({"file": checksum, **recipe}) for checksum in prints]
        if not _intact(folder, lambda: check(folder, features, known)):
            sources = dict(zip(parts, files, strict=True))
            notes = {"recipe": recipe, "files": prints}
            try:
                _build(folder, sources, settings, features, notes, progress)
            except DamagedError as error:
                _discard(error)  # a part, which the second time is made again
                _build(folder, sources, settings, features, notes, progress)
            known.remember({folder / f"{name}.npy": value for name, value in read_meta(folder)["checksums"].items()})
        for part in parts:
            shutil.rmtree(part, ignore_errors=True)
    return CloudDataset.open(folder, features, key)


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


def _recipe(settings: DataSettings, features: Features, files: Sequence[str]) -> dict:
    """All that shapes the clouds, besides the files."""
    further = _further(settings, files)
    choice = official_corrections(settings)
    options = {
        "further": further, "target": settings.target if settings.target != "corrected" else None,
        "neutrinos": settings.neutrinos or None, "corrections": choice and [fingerprint(choice.path), choice.compound],
    }  # fmt: skip
    return {
        "version": VERSION, "features": features,
        "columns": [*columns(features, further), *particle_columns(features), *jet_columns(features)],
        "selection": settings.selection.model_dump(mode="json"), "split": settings.split.model_dump(mode="json"),
        "candidates": candidates_of(features, settings.candidates)[0],
        **({} if settings.collection == AK4 else {"collection": settings.collection}),
        **{name: value for name, value in options.items() if value},
    }  # fmt: skip


def _further(settings: DataSettings, files: Sequence[str]) -> list[str]:
    """The columns of the table besides those that it always has: CMS's own regressions, where all files have them."""
    known = common_regressions(files, settings.collection)
    further = [column for name in known for column in REGRESSIONS[name].columns]
    further += [FILE_PT] if settings.corrections else []
    return further + ([START_PT] if settings.target == "raw" else [])


def _key(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _refuse_twins(files: Sequence[str], prints: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for file, checksum in zip(files, prints, strict=True):
        if checksum in first:
            raise InputError(f"{file}: has the same content as {first[checksum]}; name each file once")
        first[checksum] = file


def _build(
    folder: Path, sources: dict[Path, str], settings: DataSettings, features: Features, notes: dict, progress: bool
) -> None:
    """Make the parts that are missing, each of a file, and join them."""
    total, reported = 0, set()
    for file in sources.values():
        with open_jets(file, settings.collection) as source:
            _check_trainable(file, source, features)
            total += source.jets
    with tqdm(total=total, unit=" jets", desc="particle clouds", disable=not progress) as bar:
        for part, file in sources.items():
            if _intact(part, partial(read_meta, part)):
                bar.update(read_meta(part)["read"])
            else:
                _make_part(part, file, settings, features, notes["recipe"].get("further", []), bar, reported)
    lost = sum((Counter(read_meta(part)["left_out"]) for part in sources), Counter())
    with atomic_folder(folder) as temporary:
        meta = merge(list(sources), temporary, features, notes["recipe"].get("further", []))
        if sum(meta["jets"].values()) == 0:
            why = ", ".join(f"{count} {reason}" for reason, count in lost.items() if count)
            raise InputError(f"no jets are left by the selection: {why or 'the files are empty'}")
        write_meta(temporary, {**meta, "left_out": dict(lost), "read": total, **notes})
    for reason in (UNUSABLE, MISMATCHED):
        if lost[reason]:
            log.warning("%d of %d jets were left out: %s", lost[reason], total, reason)


def _check_trainable(file: str, source: JetReader, features: Features) -> None:
    if not source.has_candidates:
        raise InputError(f"{file}: its jets have no particle-flow candidates, so no network can be trained on them")
    if lost := source.lacks(features):
        raise InputError(
            f"{file}: features {features!r} need {' and '.join(lost)}, which it lacks"
            + ("" if source.lacks("open") else "; use features: open")
        )
    if not source.has_generator:
        raise InputError(f"{file}: has no generator jets (genJetPt), so no network can be trained on it")


def _make_part(
    part: Path, file: str, settings: DataSettings, features: Features, further: list[str], bar: tqdm, reported: set[str]
) -> None:
    """Read one file into the folder `part`."""
    lost, read = Counter(), 0
    kept = [name for name in further if name in JETS]
    scalars = dict.fromkeys((*jet_columns(features), *TABLE_COLUMNS, *kept))
    options = {"scalars": list(scalars), "particles": particle_columns(features), "settings": settings}
    options |= {"candidates": candidates_of(features, settings.candidates)[0]}
    options |= {"collection": settings.collection, "reported": reported}
    with open_jets(file, settings.collection) as source:
        attached = source.attached
    tally: Counter[str] = Counter()
    with atomic_folder(part) as temporary, PartWriter(temporary, features, further, settings.target) as writer:
        for jets in iterate_jets(file, STEP, **options):
            codes = split_of(jets["run"], jets["lumi"], jets["event"], settings.split)
            for reason, mask in reasons(jets, settings.selection).items():
                codes[mask] = LEFT_OUT  # cheaper than to cut the particles of these jets out of the chunk
                lost[reason] += int(mask.sum())
            if attached:
                own = np.flatnonzero(codes != LEFT_OUT)
                strange, found = strangers(clouds_from_jets(jets[own], features), jets, codes != LEFT_OUT, file)
                codes[own[strange]] = LEFT_OUT
                lost[STRANGERS] += int(strange.sum())
                tally += found
            writer.append(jets, codes)
            read += len(jets)
            bar.update(len(jets))
        refuse_strangers(tally, file, tolerated=settings.tolerated_strangers)
        for reason in (UNUSABLE, MISMATCHED):
            if lost[reason] > TOLERATED * read:
                raise InputError(f"{file}: {lost[reason]} of {read} jets have {reason}; is the file corrupted?")
        writer.complete(left_out=dict(lost), read=read)

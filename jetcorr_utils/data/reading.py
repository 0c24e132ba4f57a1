"""Open any file of jets: the format is found out, and every format gives the same record of a jet."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from ..addresses import refuse_secrets
from ..config import DataSettings, RemoteSettings, project_root
from ..errors import InputError
from ..files import NO_NAME, refuse_special, version_of
from ..jec import OfficialCorrection, correct_jets, load_official
from ..jerc import CorrectionsChoice
from ..jets.columns import (
    FEATURE_SETS,
    JETS,
    PARTICLES,
    WITH_NEUTRINOS,
    Candidates,
    jet_columns,
    particle_columns,
)
from ..jets.regressions import REGRESSIONS, regressions_in
from .belonging import DISTANCE, MANY, TYPICAL, candidate_sums
from .dataset import clouds_from_jets
from .features import FILE_PT, START_PT
from .formats import FORMATS, ROOT, format_of
from .nanoaod import AK4
from .reader import JetReader
from .remote import client_options, explain, is_remote, reason_of
from .selection import select_jets

__all__ = [
    "Block", "FileInfo", "common_regressions", "describe", "iterate_jets", "list_blocks", "official_corrections",
    "open_jets", "read_block", "read_jets",
]  # fmt: skip

log = logging.getLogger(__name__)

STEP = 10_000
"""Jets that are in memory at once."""
EMPTY = "it has no jets"
"""Why a file cannot be used, if there is nothing else to say against it."""
_ALL = 10**9  # jets at once: more than a block has
_MOST = 1000
"""Jets in a byte of a file: more than any compression can have put there."""


@functools.cache  # once for all blocks, as long as the files stay the same
def _official(files: tuple[str, ...], versions: object, simulation: bool) -> OfficialCorrection:
    return load_official(files, simulation=simulation)


@dataclass(frozen=True)
class FileInfo:
    """What is in a file, and whether it can be used."""

    path: str
    format: str
    jets: int
    usable: bool
    reason: str
    notes: tuple[str, ...] = ()
    regressions: tuple[str, ...] = ()

    def text(self) -> str:
        """A few lines for the terminal."""
        verdict = "can be used for training and correction" if self.usable else f"cannot be used: {self.reason}"
        if self.usable and self.reason:
            verdict = self.reason
        return "\n".join([f"{self.path}: {self.format}, {self.jets} jets", verdict, *self.notes])


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn whatever a damaged file raises, deep in a decoder, into one line that names the file."""
    try:
        yield
    except (InputError, GeneratorExit, KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        if is_remote(path):
            raise InputError(f"{path}: {explain(error) or f'cannot be read ({reason_of(error)})'}") from None
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{path}: there is no such file") from None
        if isinstance(error, PermissionError):
            raise InputError(f"{path}: permission denied") from None
        lines = str(error).strip().splitlines() or [""]
        raise InputError(
            f"{path}: cannot be read, damaged or truncated? ({type(error).__name__}: {lines[0]})"
        ) from error


@contextlib.contextmanager
def open_jets(path: str | Path, collection: str = AK4) -> Iterator[JetReader]:
    """Open a file of jets; the format is found out from what the file begins with, and from its trees.

    Parameters
    ----------
    path
        The file.
    collection
        Which of its jets, for formats that have several collections, such as ``Jet`` and ``FatJet`` of NanoAOD.

    Raises
    ------
    InputError
        If the file is absent, is damaged, or is of none of the `FORMATS`; the message says which.
    """
    path = str(path)
    if not path.removeprefix("file://"):
        raise InputError(NO_NAME)
    if not is_remote(path):
        path = path.removeprefix("file://")
    with _reading(path), contextlib.ExitStack() as stack:
        if Path(path).is_dir():
            raise InputError(f"{path}: is a folder; give the files in it, for example '{path}/*.root'")
        how: dict[str, Any] = {}
        if is_remote(path):
            refuse_secrets(path)
            how = client_options(path, RemoteSettings().timeout)
        else:
            refuse_special(Path(path))  # at a pipe one would wait for ever
            raw = stack.enter_context(open(path, "rb"))
            if not raw.peek(len(ROOT)).startswith(ROOT):
                other = [each for each in FORMATS.values() if raw.peek(len(each.magic)).startswith(each.magic)]
                if not other:
                    raise InputError(f"{path}: is not a ROOT file")
                yield other[0].reader(path, raw)
                return
            how = {"handler": uproot.MemmapSource}  # for a local file faster than uproot's default
        file = stack.enter_context(uproot.open({path: None}, **how))  # a colon belongs to the name
        kinds = file.classnames(cycle=False)
        known = format_of(path, sorted(key for key, kind in kinds.items() if kind in ("TTree", "ROOT::RNTuple")))
        if collection != AK4 and not known.collections:
            raise InputError(f"{path}: a file of {known.name} has one collection of jets, not {collection}")
        source = known.reader(path, file[known.tree], *([collection] if known.collections else []))
        size = file.file.source.num_bytes
        if source.jets > _MOST * size:
            raise InputError(f"{path}: damaged: it says that it has {source.jets} jets, and has {size} bytes")
        yield source


def describe(path: str | Path, collection: str = AK4) -> FileInfo:
    """What a file holds and whether it can be used; a file that cannot be opened is described too."""
    path = str(path)
    try:
        with open_jets(path, collection) as source:
            reason, usable = "", True
            if not source.has_candidates:
                reason, usable = "its jets have no particle-flow candidates (a file of PFNano type has)", False
            elif source.jets == 0:
                reason, usable = EMPTY, False
            elif not source.has_generator:
                reason = "can be used for correction only: there are no generator jets to train on"
            lost = {name: source.lacks(name) for name in FEATURE_SETS}
            notes = [f"features: {', '.join(name for name in lost if not lost[name])}"]
            notes += [f"not {name}: no {', '.join(lacks)}" for name, lacks in lost.items() if lacks]
            notes += [*_notes(source.filled), *source.remarks, *_notes_on_pt(source), *_notes_on_sums(source)]
            found = regressions_in(source.columns)
            if found:
                own = f"has CMS's own regressions {' and '.join(found)}, which `jetcorr results` measures"
                notes, reason = [*notes, own], reason if usable else f"{reason}; it {own}"
            return FileInfo(path, source.format, source.jets, usable, reason, tuple(notes) if usable else (), found)
    except InputError as error:
        return FileInfo(path, "unknown", 0, False, str(error).removeprefix(f"{path}: "))


def _notes(filled: Iterable[str]) -> list[str]:
    """One line a rule by which absent branches are filled."""
    by_rule: dict[str, list[str]] = {}
    for name in filled:
        by_rule.setdefault({**JETS, **PARTICLES}[name].fill.rule, []).append(name)
    return [f"{', '.join(names)} not in the file, filled: {rule}" for rule, names in by_rule.items()]


def _notes_on_pt(source: JetReader) -> list[str]:
    """A line if the first jets have no standard corrections."""
    if not source.has_candidates:
        return []
    stop = min(source.entries, source.entries_of(1000))
    raw = [
        bool(ak.all(jets["jetPt"] == jets["jetRawPt"]))
        for jets in source.iterate(_ALL, ["jetPt", "jetRawPt"], ["PF_pT"], stop=stop)
        if len(jets) >= MANY
    ]
    return ["its jets have no standard corrections: jetPt is the raw pt"] if any(raw) else []


def _notes_on_sums(source: JetReader) -> list[str]:
    """How far the candidates of the first jets sum up to other momenta than theirs, where links say whose they are."""
    stop = min(source.entries, source.entries_of(1000))
    if not (source.attached and source.has_candidates and stop):
        return []
    jets = next(source.iterate(_ALL, jet_columns("open"), particle_columns("open"), "jet", stop=stop))
    ratio, d_eta, d_phi = candidate_sums(clouds_from_jets(jets, "open"))
    judged = ~np.isnan(ratio)
    if not judged.any():
        return []
    difference = np.abs(ratio[judged] - 1)
    away = np.hypot(d_eta, d_phi)[judged] >= DISTANCE
    share = np.mean((difference > TYPICAL) | away)
    note = (
        f"the candidates of the first {judged.sum()} jets sum up to a pt that differs from the raw one by "
        f"{np.median(difference):.1%} (median); for {share:.0%} of the jets by more than {TYPICAL:.0%}, or in direction"
    )
    return [note]


def iterate_jets(
    paths: str | Path | Sequence[str | Path],
    step_size: int | str = STEP,
    *,
    scalars: Sequence[str] | None = None,
    particles: Sequence[str] | None = None,
    candidates: Candidates = "window",
    collection: str = AK4,
    settings: DataSettings | None = None,
    reported: set[str] | None = None,
) -> Iterator[ak.Array]:
    """Yield all jets of some files in their order, a chunk at a time; nothing is selected.

    Parameters
    ----------
    paths
        Local files.
    step_size
        Jets a chunk, or a size such as "50 MB".
    scalars, particles
        Columns; default: all.
    candidates
        All that are stored with a jet, or only those that were clustered into it, which is faster.
    collection
        Which of the files' jets, see `open_jets`.
    settings
        Of a study, which may want other corrections than the files have, or generator jets with neutrinos.
    reported
        Remarks that need not be made again; new ones are added.

    Yields
    ------
    Record arrays `(b,)` with the core columns and `particles`; absent branches are filled by the rules of the table
    `jets.columns.JETS`, which are logged once.
    """
    reported = set() if reported is None else reported
    for path in [paths] if isinstance(paths, str | Path) else paths:
        with open_jets(path, collection) as source:
            _report(source, reported)
            yield from _as_wanted(source, settings or DataSettings(), step_size, scalars, particles, candidates)


def _as_wanted(
    source: JetReader,
    settings: DataSettings,
    step_size: int | str,
    scalars: Sequence[str] | None,
    particles: Sequence[str] | None,
    candidates: Candidates,
) -> Iterator[ak.Array]:
    """The jets of a file, corrected anew and with the neutrinos in their generator jets where a study wants that."""
    choice = official_corrections(settings)
    corrections = choice.load(simulation=source.has_generator) if choice else None
    if settings.neutrinos and WITH_NEUTRINOS not in source.columns:
        raise InputError(f"{source.path}: data.neutrinos: it has no generator particles (GenPart of NanoAOD)")
    start = settings.target == "raw"
    if scalars is not None:
        scalars = [name for name in scalars if name not in (FILE_PT, START_PT)]
        scalars += [WITH_NEUTRINOS] if settings.neutrinos else []
        scalars += ["jetRawMass"] if corrections or start else []
    for jets in source.iterate(step_size, scalars, particles, candidates):
        if corrections:
            jets = ak.with_field(_anew(corrections.renew, jets, source.path), jets["jetPt"], FILE_PT)
        if settings.neutrinos:
            jets = ak.with_field(jets, jets[WITH_NEUTRINOS], "genJetPt")
        yield ak.with_field(jets, jets["jetRawPt"], START_PT) if start else jets


def official_corrections(settings: DataSettings) -> CorrectionsChoice | None:
    """The official corrections that a study wants jets to have; None where they stay as the files have them.

    Raises
    ------
    InputError
        If there is no such file.
    """
    if settings.corrections is None:
        return None
    for path in (Path(settings.corrections), project_root() / settings.corrections):
        if path.is_file():
            return CorrectionsChoice(str(path), settings.compound)
    raise InputError(f"data.corrections {settings.corrections}: there is no such file")


def common_regressions(files: Sequence[str | Path], collection: str = AK4) -> tuple[str, ...]:
    """CMS's own regressions (`REGRESSIONS`) that all of some files have."""
    names = tuple(REGRESSIONS)
    for file in files:
        with open_jets(file, collection) as source:
            here = regressions_in(source.columns)
        names = tuple(name for name in names if name in here)
        if not names:
            break
    return names


def _report(source: JetReader, reported: set[str]) -> None:
    """Log how absent branches are filled, each rule once."""
    for note in [*_notes(source.filled), *source.remarks, *_notes_on_pt(source)]:
        if note not in reported:
            reported.add(note)
            log.warning("%s: %s", source.path, note)


@dataclass(frozen=True)
class Block:
    """A part of a file, to be read by itself, in whatever process.

    Attributes
    ----------
    path
        The file.
    start, stop
        Range of its entries.
    collection
        Which of its jets.
    """

    path: str
    start: int
    stop: int
    collection: str = AK4


def list_blocks(paths: Sequence[str | Path], step_size: int | str = STEP, collection: str = AK4) -> list[Block]:
    """Parts of about `step_size` jets that together are all jets of some files, in their order.

    How absent branches are filled is logged.
    """
    blocks: list[ak.Array] = []
    reported: set[str] = set()
    for path in map(str, paths):
        with open_jets(path, collection) as source:
            _report(source, reported)
            blocks += [Block(path, start, stop, collection) for start, stop in source.ranges(step_size)]
    return blocks


def read_block(
    block: Block,
    *,
    scalars: Sequence[str] | None = None,
    particles: Sequence[str] | None = None,
    candidates: Candidates = "window",
    official: tuple[str, ...] = (),
    corrections: CorrectionsChoice | None = None,
    regressions: tuple[str, ...] = (),
) -> ak.Array:
    """The jets of a part of a file; columns and candidates as in `iterate_jets`.

    With the text files of an `official` correction, jetPt and jetMass are made anew from the raw ones, see `jec`; with
    `corrections` too, which also add the variations that were asked for, see `jerc`. The columns of some of CMS's
    `regressions` are read as well.
    """
    with open_jets(block.path, block.collection) as source:
        scalars = [*scalars, "jetRawMass"] if scalars is not None and (official or corrections) else scalars
        if scalars is not None:
            scalars = [*scalars, *(column for name in regressions for column in REGRESSIONS[name].columns)]
        jets = next(source.iterate(_ALL, scalars, particles, candidates, block.start, block.stop))
        simulation = source.has_generator
    if corrections:  # what is wrong with them is not laid to the file
        return _anew(corrections.load(simulation=simulation).apply, jets, block.path)
    if official:
        correction = _official(official, tuple(map(version_of, official)), simulation)
        return _anew(lambda jets: correct_jets(jets, correction), jets, block.path)
    return jets


def _anew(correct: Callable[[ak.Array], ak.Array], jets: ak.Array, path: str) -> ak.Array:
    """The jets as corrected; refused if that depends on their area and the file has none, so that it is 0."""
    new = correct(jets)
    if "jetArea" in jets.fields and len(jets) and not ak.any(jets["jetArea"]):
        other = correct(ak.with_field(jets, np.full(len(jets), 0.5, np.float32), "jetArea"))
        if not np.array_equal(*(ak.to_numpy(each["jetPt"]) for each in (new, other)), equal_nan=True):
            raise InputError(f"{path}: the corrections depend on the area of jets, and theirs is 0: they have none")
    return new


def read_jets(
    paths: str | Path | Sequence[str | Path], settings: DataSettings | None = None, *, max_jets: int | None = None
) -> ak.Array:
    """The jets of some files in memory.

    Parameters
    ----------
    paths
        Local files.
    settings
        Select the jets and their particles as a study does; default: all jets with all particles.
    max_jets
        Stop after so many jets; no more files are read than needed.

    Returns
    -------
    Record array `(B,)`.
    """
    chunks, count, reported = [], 0, set[str]()
    for path in [paths] if isinstance(paths, str | Path) else paths:
        with open_jets(path, settings.collection if settings else AK4) as source:
            without = not source.has_candidates
        for chunk in iterate_jets(path, collection=settings.collection if settings else AK4, settings=settings,
                                  reported=reported):  # fmt: skip
            if settings is not None:
                chunk, _ = select_jets(chunk, settings.selection, settings.candidates, without=without)
            chunks.append(chunk)
            count += len(chunk)
            if max_jets is not None and count >= max_jets:
                break
        if max_jets is not None and count >= max_jets:
            break
    if not chunks:
        raise InputError(f"no jets in {paths if isinstance(paths, str | Path) else ', '.join(map(str, paths))}")
    jets = ak.concatenate(_with_same_columns(chunks))
    return jets if max_jets is None else jets[:max_jets]


def _with_same_columns(chunks: list[ak.Array]) -> list[ak.Array]:
    """The columns, and those of the particles, that the jets of all files have; which others there are is said."""
    fields = [set(chunk.fields) for chunk in chunks]
    particles = [set(chunk["particles"].fields) for chunk in chunks]
    left = (set.union(*fields) - set.intersection(*fields)) | (set.union(*particles) - set.intersection(*particles))
    if not left:
        return chunks
    log.warning("%s: left out, since not all files have them", ", ".join(sorted(left)))
    own = [name for name in chunks[0]["particles"].fields if name not in left]
    shared = [name for name in chunks[0].fields if name not in left]
    return [ak.with_field(chunk[shared], chunk["particles"][own], "particles") for chunk in chunks]

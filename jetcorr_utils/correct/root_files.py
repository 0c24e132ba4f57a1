"""Correct the jets of files: JetNTuple or NanoAOD in, a ROOT file with corrected jets out, in constant memory.

The files are read in blocks, by this process or by several; the blocks are written in their order, so that jets keep
theirs. Only a few blocks are under way at a time.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..data import Block, describe, list_blocks, read_block
from ..data.belonging import TOLERATED, refuse_strangers
from ..data.drift import Drift, DriftCheck
from ..data.locations import each_once
from ..data.nanoaod import AK4
from ..data.reading import EMPTY
from ..errors import InputError
from ..files import at_home, local_path
from ..inference.open_predictors import open_predictors
from ..inference.predictor import Predictor, check_batch_size, in_order
from ..inference.triton_predictor import MemoryChoice
from ..jerc import CorrectionsChoice
from ..jets.regressions import REGRESSIONS
from ..processes import cores, worker_processes
from .jet_arrays import CorrectedChunk, Outside, check_outside, columns_needed, correct_chunk
from .predictions_writer import predictions_file

__all__ = ["CorrectionReport", "correct_files", "drift_lines"]

_LONGEST_NAME = 255  # bytes of a file's name, on all the usual file systems

REGRESSIONS_ONLY = "regressions"
"""In place of a model: CMS's own regressions alone, of files whose jets need no candidates."""
CHUNK = 20_000
"""Jets that are read, corrected and written at a time."""
MOST_DRIFTS = 5
"""Features that a report names, of those that differ from the training."""


@dataclass
class CorrectionReport:
    """What became of the jets.

    Attributes
    ----------
    out
        The file written.
    models
        The models that corrected them.
    corrected
        Number of jets in the file.
    skipped
        Number of jets left out, by reason.
    outside
        Number of jets in the file beyond the training range, by model.
    seconds
        Wall time.
    correcting
        That of reading, correcting and writing, without the start, s.
    drift
        The comparison with the training jets, by model, where the model describes them.
    empty
        Files that have no jets.
    """

    out: Path
    models: tuple[str, ...]
    corrected: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    correcting: float = 0.0
    drift: dict[str, DriftCheck] = field(default_factory=dict)
    empty: tuple[str, ...] = ()

    def add(self, chunk: CorrectedChunk) -> None:
        """Count the jets of a chunk."""
        self.corrected += int(chunk.good.sum())
        self.skipped += chunk.skipped
        self.outside += chunk.outside
        for name, check in chunk.drift.items():
            if name in self.drift:
                self.drift[name].merge(check)
            else:
                self.drift[name] = check

    def text(self) -> str:
        """The report in a few lines."""
        rate = f" ({self.corrected / self.correcting:.0f} jets/s)" if self.correcting else ""
        lines = [
            f"{self.corrected} jets corrected with {', '.join(self.models)}: {self.out}{rate}",
            f"{self.skipped.total()} jets not corrected",
            *(f"  {count}: {reason}" for reason, count in self.skipped.items()),
        ]
        lines += [f"{path}: has no jets" for path in self.empty]
        lines += [f"{count} jets beyond the training range of {name}, flagged" for name, count in self.outside.items()]
        return "\n".join(lines + drift_lines(self.drift))


def drift_lines(checks: Mapping[str, DriftCheck]) -> list[str]:
    """What differs from the training jets of some models, each feature once, the worst first; nothing if none does."""
    worst: dict[str, Drift] = {}
    models = [name for name, check in checks.items() if check.drifts()]
    for drift in (drift for name in models for drift in checks[name].drifts()):
        if drift.feature not in worst or drift.distance > worst[drift.feature].distance:
            worst[drift.feature] = drift
    if not worst:
        return []
    shown = sorted(worst.values(), key=lambda drift: -drift.distance)[:MOST_DRIFTS]
    differ = f"{len(worst)} feature{'s differ' if len(worst) > 1 else ' differs'}"
    return [f"the jets are not like those of the training of {', '.join(models)}; {differ}:"] + [
        f"  {drift.text()}" for drift in shown
    ]


def correct_files(
    inputs: Sequence[str | Path],
    model: str | Path | Mapping[str, Predictor],
    out: str | Path,
    *,
    batch_size: int = 1024,
    outside: Outside = "correct",
    workers: int = 1,
    shared_memory: MemoryChoice = "auto",
    step_size: int | str = CHUNK,
    official: Sequence[str | Path] = (),
    corrections: CorrectionsChoice | None = None,
    collection: str = AK4,
    tolerated: float = TOLERATED,
    replace: bool = True,
    progress: bool = True,
) -> CorrectionReport:
    """Correct the jets of files and write them to one file.

    Parameters
    ----------
    inputs
        JetNTuple files, or NanoAOD or Delphes files with particle-flow candidates; or patterns of them.
    model
        What `open_predictors` takes, or predictors by name; `REGRESSIONS_ONLY` for no network.
    out
        The ROOT file to write: tree `jets`, see `predictions`; ``<model>_in_range`` tells whether a jet is within the
        range of the model's training jets. Where all files have CMS's own regressions, these (`REGRESSIONS`, without
        neutrinos) are in it like models.
    batch_size
        Jets in a request.
    outside
        What to do with jets beyond the training range: ``"correct"`` them, or ``"keep"`` the standard correction.
    workers
        Processes that read and correct; with one it is this process, on all cores. The jets do not depend on it.
    shared_memory
        Of a server's predictors, see `TritonPredictor`.
    step_size
        How much to read at a time: a number of jets, or an amount of memory.
    official
        Text files of an official CMS correction: the jets are corrected anew by these first, from their raw pt.
    corrections
        The same from a file of correctionlib, instead of text files; the variations that it names become columns of the
        output, factors of any corrected pt and mass: ``JES_<source>_up``, ``JES_<source>_down``, ``JER``, ….
    collection
        Which of the files' jets, where they have several collections.
    tolerated
        Share of a file's jets whose candidates may not sum up to them; more of them, and the file is refused.
    replace
        Whether `out` may be a file that is there.
    progress
        Whether to show a progress bar.

    Returns
    -------
    CorrectionReport

    Raises
    ------
    InputError
        If a file or a model cannot be used, if the output is one of the inputs or an address, or if candidates are not
        those of their jets (`data.belonging`). The output file is then absent, or what it was before. A file without
        jets is named in the report only, unless there are no others.
    ServerError
        If the server does not answer, likewise.
    """
    check_outside(outside)
    check_batch_size(batch_size)
    if corrections and official:
        raise InputError("official corrections: give text files or a file of correctionlib, not both")
    start = time.monotonic()
    with ExitStack() as stack:
        predictors = stack.enter_context(_opened(model, workers, shared_memory))
        paths = each_once(inputs)
        _refuse_to_replace(out, [*paths, *([model] if isinstance(model, str | Path) else [])], replace)
        jets: dict[str, int] = {}
        regressions = tuple(REGRESSIONS)
        for path in paths:
            info = describe(path, collection)
            without = model == REGRESSIONS_ONLY and info.regressions
            if not info.usable and info.reason != EMPTY and not without:
                raise InputError(f"{path}: {info.reason}")
            jets[path] = info.jets
            regressions = tuple(name for name in regressions if name in info.regressions)
        if model == REGRESSIONS_ONLY and not regressions:
            known = ", ".join(known.columns[0] for known in REGRESSIONS.values())
            raise InputError(f"--model {REGRESSIONS_ONLY}: the files have none of CMS's own in common (Jet_{known})")
        blocks = list_blocks(paths, step_size, collection)
        options = {"batch_size": batch_size, "outside": outside}
        standard = {"official": tuple(map(str, official)), "corrections": corrections, "regressions": regressions}
        needed = columns_needed(predictors) | standard
        begun = time.monotonic()
        chunks = stack.enter_context(_corrected(blocks, model, predictors, workers, shared_memory, needed, options))
        names = tuple(predictors) or regressions
        report = CorrectionReport(Path(out), names, empty=tuple(path for path, number in jets.items() if not number))
        writer = stack.enter_context(predictions_file(out))
        bar = stack.enter_context(tqdm(total=sum(jets.values()), unit="jet", desc="correcting", disable=not progress))
        for path, of_file in itertools.groupby(zip(blocks, chunks, strict=True), lambda pair: pair[0].path):
            tally: Counter[str] = Counter()
            for _, chunk in of_file:
                tally += chunk.tally
                refuse_strangers(tally, path, jets[path], tolerated)  # before the whole file has been read
                if chunk.columns:
                    writer.append(chunk.columns)
                report.add(chunk)
                bar.update(len(chunk.good))
            refuse_strangers(tally, path, tolerated=tolerated)
        if not writer.jets:
            reasons = "; ".join(f"{count}: {reason}" for reason, count in report.skipped.items()) or "there are none"
            raise InputError(f"{', '.join(paths)}: no jet can be corrected ({reasons})")
    end = time.monotonic()
    report.seconds, report.correcting = end - start, end - begun
    return report


def _refuse_to_replace(out: str | Path, used: Sequence[str | Path], replace: bool) -> None:
    """Raise if the output is a file that is read, by whatever name (another path, a symbolic or a hard link), part of
    the model or of a run, or something else than a ROOT file; or any file that is there and is not to be replaced.
    """
    from ..run import ROOT_FILES

    out = local_path(out)
    if len(os.fsencode(out.name)) > _LONGEST_NAME:
        raise InputError(f"{out.name[:40]}…: a name of more than {_LONGEST_NAME} bytes; give the output a shorter one")
    folder = out.resolve().parent
    if out.name in ROOT_FILES and any((folder / name).exists() for name in ("run.json", "study.yaml")):
        raise InputError(f"{out}: the run in this folder has a file of this name; give the output another one")
    if not out.is_file():
        return
    with open(out, "rb") as file:
        jets = file.read(4) in (b"root", b"")
    for path in used:
        place = at_home(str(path).removeprefix("file://"))
        if place.exists() and out.samefile(place):
            raise InputError(f"{out}: is the input {path}, which would be lost; give the output another name")
        if out.resolve().is_relative_to(place.resolve()) and not jets:
            raise InputError(f"{out}: is a part of {path}, which is read; give the output another name")
    if not jets:
        raise InputError(f"{out}: is there, and no ROOT file; choose another name, or remove it")
    if not replace:
        raise InputError(f"{out}: is there already; choose another name, or replace it with --force")


@contextmanager
def _opened(
    model: str | Path | Mapping[str, Predictor], workers: int, shared_memory: MemoryChoice
) -> Iterator[dict[str, Predictor]]:
    """The predictors that `model` means, closed at the end unless they are the caller's."""
    if isinstance(model, Mapping):
        if workers > 1:
            raise InputError("several workers open the model themselves: give its path or its URL")
        yield dict(model)
        return
    with ExitStack() as stack:
        predictors = _open(model, shared_memory=shared_memory)
        for predictor in predictors.values():
            stack.callback(predictor.close)
        yield predictors


@contextmanager
def _corrected(
    blocks: Sequence[Block],
    model: str | Path | Mapping[str, Predictor],
    predictors: Mapping[str, Predictor],
    workers: int,
    shared_memory: MemoryChoice,
    needed: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Iterator[Iterator[CorrectedChunk]]:
    """The corrected blocks in their order."""
    with ExitStack() as stack:
        if workers == 1:
            reader = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="reader"))
            read = in_order(reader, lambda block: (block, read_block(block, **needed)), blocks, ahead=2)
            yield (correct_chunk(jets, predictors, where=block.path, **options) for block, jets in read)
        else:
            # Cores are shared; a worker's threads would only compete with those of the others
            threads = max(1, cores() // workers)
            notes = {name: predictor.metadata for name, predictor in predictors.items()}
            arguments = (str(model), notes, threads, shared_memory, dict(needed), dict(options))
            pool = stack.enter_context(worker_processes(workers, _start_worker, *arguments))
            yield in_order(pool, _correct_block, blocks, ahead=workers + 1)


def _open(model: str | Path, **options: Any) -> dict[str, Predictor]:
    """The predictors of a model; none where only CMS's regressions are asked for."""
    return {} if model == REGRESSIONS_ONLY else open_predictors(model, **options)


@dataclass
class _Worker:
    """What a worker process keeps from one block to the next."""

    predictors: dict[str, Predictor]
    needed: dict[str, Any]
    options: dict[str, Any]
    same: bool = True
    """Whether the models are those that the command has opened."""


_worker: _Worker  # one for each worker process, set when it starts


def _start_worker(
    model: str, notes: dict[str, dict[str, str]], threads: int, shared_memory: MemoryChoice, needed: dict[str, Any],
    options: dict[str, Any],
) -> None:  # fmt: skip
    global _worker
    predictors = _open(model, threads=threads, shared_memory=shared_memory)
    _worker = _Worker(predictors, needed, options)
    _worker.same = {name: predictor.metadata for name, predictor in predictors.items()} == notes


def _correct_block(block: Block) -> CorrectedChunk:
    if not _worker.same:
        raise InputError(f"model {', '.join(_worker.predictors)}: was replaced by another network; run this again")
    jets = read_block(block, **_worker.needed)
    return correct_chunk(jets, _worker.predictors, where=block.path, **_worker.options)

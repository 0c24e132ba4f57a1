"""Correct the jets of files: JetNTuple or NanoAOD in, a ROOT file with corrected jets out, in constant memory.

Jets keep their order. A jet that cannot be corrected is left out and counted by its reason. A jet beyond the range of
the jets that a model was trained on is flagged; by choice it keeps the standard correction.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import awkward as ak
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..config import SelectionSettings
from ..data import describe, iterate_jets
from ..data.features import (
    JET_COLUMNS,
    PARTICLE_COLUMNS,
    POINT_COLUMNS,
    TABLE_COLUMNS,
    jet_matrix,
    particle_matrix,
    table,
)
from ..data.selection import own_particles, reasons
from ..errors import InputError
from ..export.padding import Clouds
from ..export.predictor import Predictor
from .opening import open_predictors
from .predictions import IDENTIFIERS, corrected_columns, predictions_file

__all__ = ["CorrectionReport", "clouds_from_jets", "correct_files", "correct_jets", "within_range"]

CHUNK = 20_000
T = TypeVar("T")


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
    """

    out: Path
    models: tuple[str, ...]
    corrected: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def text(self) -> str:
        """The report in a few lines."""
        rate = self.corrected / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.corrected} jets corrected with {', '.join(self.models)}: {self.out} ({rate:.0f} jets/s)",
            f"{self.skipped.total()} jets not corrected",
            *(f"  {count}: {reason}" for reason, count in self.skipped.items()),
        ]
        lines += [f"{count} jets beyond the training range of {name}, flagged" for name, count in self.outside.items()]
        return "\n".join(lines)


def correct_files(
    inputs: Sequence[str | Path],
    model: str | Path | Mapping[str, Predictor],
    out: str | Path,
    *,
    batch_size: int = 1024,
    outside: Literal["correct", "keep"] = "correct",
    step_size: int | str = CHUNK,
    progress: bool = True,
) -> CorrectionReport:
    """Correct the jets of files and write them to one file.

    Parameters
    ----------
    inputs
        JetNTuple files, or NanoAOD files with particle-flow candidates.
    model
        What `open_predictors` takes, or predictors by name.
    out
        The ROOT file to write: tree `jets`, see `predictions`; ``<model>_in_range`` tells whether a jet is within the
        range of the model's training jets.
    batch_size
        Jets in a request.
    outside
        What to do with jets beyond the training range: ``"correct"`` them, or ``"keep"`` the standard correction.
    step_size
        How much to read at a time: a number of entries, or an amount of memory.
    progress
        Whether to show a progress bar.

    Returns
    -------
    CorrectionReport

    Raises
    ------
    InputError
        If a file or a model cannot be used. The output file is then absent, or what it was before.
    ServerError
        If the server does not answer, likewise.
    """
    if outside not in ("correct", "keep"):
        raise InputError(f"outside {outside!r}: must be correct or keep")
    start = time.monotonic()
    paths = [str(path) for path in inputs]
    for path in paths:
        if not (info := describe(path)).usable:
            raise InputError(f"{path}: {info.reason}")
    with ExitStack() as stack:
        if isinstance(model, Mapping):
            predictors = dict(model)
        else:
            predictors = open_predictors(model)
            for predictor in predictors.values():
                stack.callback(predictor.close)
        report = CorrectionReport(Path(out), tuple(predictors))
        reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        stack.callback(reader.shutdown, cancel_futures=True)
        writer = stack.enter_context(predictions_file(out))
        bar = stack.enter_context(tqdm(unit="jet", desc="correcting", disable=not progress))
        columns = {"scalars": _scalars(), "particles": _particle_columns(predictors)}
        for jets in _ahead(iterate_jets(paths, step_size=step_size, **columns), reader):
            corrected, _ = _correct(jets, predictors, batch_size, outside == "keep", report)
            if corrected:
                writer.append(corrected)
            bar.update(len(jets))
        if not writer.jets:
            reasons = "; ".join(f"{count}: {reason}" for reason, count in report.skipped.items()) or "there are none"
            raise InputError(f"{', '.join(paths)}: no jet can be corrected ({reasons})")
    report.seconds = time.monotonic() - start
    return report


def correct_jets(
    jets: ak.Array, predictors: Mapping[str, Predictor], *, batch_size: int = 1024, outside: str = "correct"
) -> ak.Array:
    """Correct jets in memory, for analyses such as a coffea processor.

    Parameters
    ----------
    jets
        Jets with their particles as `data.read_jets` gives them, `(B,)`.
    predictors
        Predictors by name, from `open_predictors`.
    batch_size, outside
        As in `correct_files`.

    Returns
    -------
    The same jets with the fields ``<model>_pt``, ``<model>_mass`` (GeV), ``<model>_factor``, ``<model>_raw_factor``
    (corrected over raw pt), ``<model>_sigma`` and ``<model>_in_range``. A jet that cannot be corrected keeps the
    standard correction, has no resolution (not a number), and is not in range.
    """
    report = CorrectionReport(Path(), tuple(predictors))
    columns, good = _correct(jets, predictors, batch_size, outside == "keep", report)
    pt, mass, raw = (ak.to_numpy(jets[name]).astype(np.float32) for name in ("jetPt", "jetMass", "jetRawPt"))
    for name in predictors:
        defaults = {"pt": pt, "mass": mass, "factor": 1.0, "sigma": np.nan, "in_range": False}
        for key, default in defaults.items():
            values = np.array(np.broadcast_to(default, len(jets)), dtype=bool if key == "in_range" else np.float32)
            if columns:
                values[good] = columns[f"{name}_{key}"]
            jets = ak.with_field(jets, values, f"{name}_{key}")
        jets = ak.with_field(jets, jets[f"{name}_pt"] / raw, f"{name}_raw_factor")
    return jets


def _scalars() -> list[str]:
    """The columns of a jet that are read: what a network takes, and what identifies the jet."""
    return list(dict.fromkeys([*JET_COLUMNS, *TABLE_COLUMNS, "jetPhi"]))


def _particle_columns(predictors: Mapping[str, Predictor]) -> list[str]:
    """The columns of a particle that the models take."""
    features = [predictor.metadata.get("features", "open") for predictor in predictors.values()]
    names = [*POINT_COLUMNS, *(name for kind in features for name in PARTICLE_COLUMNS[kind]), "PF_fromAK4Jet"]
    return list(dict.fromkeys(names))


def _ahead(iterator: Iterator[T], pool: ThreadPoolExecutor) -> Iterator[T]:
    """The same values; the next one is made while the current one is used."""
    end = object()
    future = pool.submit(next, iterator, end)
    while (value := future.result()) is not end:
        future = pool.submit(next, iterator, end)
        yield value


def _correct(
    jets: ak.Array, predictors: Mapping[str, Predictor], batch_size: int, keep: bool, report: CorrectionReport
) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """The columns of those jets of a chunk that can be corrected, and which these are; the report counts the others."""
    prepared = {name: _prepare(jets, predictor.metadata) for name, predictor in predictors.items()}
    problems = np.full(len(jets), "", dtype=object)
    for _, found in prepared.values():
        problems = np.where(problems == "", found, problems)
    good = problems == ""
    report.skipped.update(problems[~good].tolist())
    report.corrected += int(good.sum())
    if not good.any():
        return {}, good
    kept = jets[good]
    columns = {name: values for name, values in table(kept).items() if name in IDENTIFIERS}
    pt, mass = (ak.to_numpy(kept[name]) for name in ("jetPt", "jetMass"))
    for name, predictor in predictors.items():
        candidates, _ = prepared[name]
        clouds = clouds_from_jets(candidates[good], predictor.metadata.get("features", "open"))
        inside = within_range(clouds, predictor.metadata)
        report.outside[name] += int((~inside).sum())
        predictions = predictor.predict(clouds, batch_size=batch_size)
        columns |= corrected_columns(name, pt, mass, *predictions, valid=inside if keep else None)
        columns[f"{name}_in_range"] = inside
    report.outside += Counter()  # drops the zeros
    return columns, good


def _prepare(jets: ak.Array, metadata: Mapping[str, str]) -> tuple[ak.Array, NDArray[Any]]:
    """The jets with the candidates that a model takes, and why each of them cannot be corrected ("" if it can)."""
    if metadata.get("candidates", "jet") == "jet":
        jets = own_particles(jets)
    cuts = json.loads(metadata.get("selection", "{}"))
    # Jets to be corrected need no generator jet
    settings = SelectionSettings(**cuts | {"min_gen_pt": 0.0, "max_abs_gen_eta": 1e9})
    problems = np.full(len(jets), "", dtype=object)
    for reason, hit in reasons(jets, settings).items():
        problems[hit] = reason
    return jets, problems


def clouds_from_jets(jets: ak.Array, features: Literal["open", "rich"]) -> Clouds:
    """The model inputs of jets in the schema of JetNTuple, see `data.read_jets`."""
    ptr = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(jets.particles)), dtype=np.int64)])
    return Clouds(particle_matrix(jets, features), ptr, jet_matrix(jets))


def within_range(clouds: Clouds, metadata: Mapping[str, str]) -> NDArray[np.bool_]:
    """Which jets `(B,)` are within the range of pt, abs(eta) and multiplicity of a model's training jets."""
    limits = json.loads(metadata.get("training_range", "{}"))
    values = {
        "jetPt": clouds.jets[:, 0],
        "abs(jetEta)": np.abs(clouds.jets[:, 1]),
        "particles": np.diff(clouds.ptr),
    }
    inside = np.ones(len(clouds), dtype=bool)
    for name, (low, high) in limits.items():
        inside &= (values[name] >= low) & (values[name] <= high)
    return inside

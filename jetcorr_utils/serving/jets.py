"""The correction of jets in memory, as analyses hold them, and as a file is corrected chunk by chunk.

A jet that cannot be corrected is named with its reason. A jet beyond the range of the jets that a model was trained on
is flagged; by choice it keeps the standard correction.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from ..config import SelectionSettings
from ..data.belonging import STRANGERS, strangers
from ..data.drift import DriftCheck
from ..data.features import (
    JET_COLUMNS,
    PARTICLE_COLUMNS,
    POINT_COLUMNS,
    TABLE_COLUMNS,
    jet_matrix,
    particle_matrix,
    table,
)
from ..data.ranges import factors_within, inputs_within
from ..data.selection import own_particles, reasons
from ..errors import InputError
from ..export.padding import Clouds
from ..export.predictor import Predictor
from .predictions import IDENTIFIERS, corrected_columns

__all__ = [
    "CorrectedChunk",
    "Outside",
    "check_outside",
    "clouds_from_jets",
    "columns_needed",
    "correct_chunk",
    "correct_jets",
    "usable_clouds",
    "usable_jets",
    "within_range",
]

Outside = Literal["correct", "keep"]
"""What to do with jets beyond the training range: correct them, or keep the standard correction."""


@dataclass
class CorrectedChunk:
    """What became of some jets.

    Attributes
    ----------
    columns
        Of the corrected jets, in their order, see `predictions`; empty if there are none.
    good
        `(B,)`, which jets these are.
    skipped
        Number of jets left out, by reason.
    outside
        Number of corrected jets beyond the training range, by model.
    drift
        The comparison with the training jets, by model, where the model describes them.
    """

    columns: dict[str, NDArray[Any]]
    good: NDArray[np.bool_]
    skipped: Counter[str]
    outside: Counter[str] = field(default_factory=Counter)
    drift: dict[str, DriftCheck] = field(default_factory=dict)


def check_outside(outside: str) -> None:
    """Raise `InputError` unless it is one of the choices."""
    if outside not in ("correct", "keep"):
        raise InputError(f"outside {outside!r}: must be correct or keep")


def correct_jets(
    jets: ak.Array, predictors: Mapping[str, Predictor], *, batch_size: int = 1024, outside: Outside = "correct"
) -> ak.Array:
    """Correct jets in memory.

    Parameters
    ----------
    jets
        Jets with their particles as `data.read_jets` gives them, `(B,)`.
    predictors
        Predictors by name, from `open_predictors`.
    batch_size
        Jets in a request.
    outside
        What to do with jets beyond the training range.

    Returns
    -------
    The same jets with the fields ``<model>_pt``, ``<model>_mass`` (GeV), ``<model>_factor``, ``<model>_raw_factor``
    (corrected over raw pt), ``<model>_sigma`` and ``<model>_in_range``. A jet that cannot be corrected keeps the
    standard correction, has no resolution (not a number), and is not in range.

    Raises
    ------
    InputError
        If the candidates are not those of the jets, see `data.belonging`.
    """
    check_outside(outside)
    chunk = correct_chunk(jets, predictors, batch_size, outside)
    pt, mass, raw = (ak.to_numpy(jets[name]).astype(np.float32) for name in ("jetPt", "jetMass", "jetRawPt"))
    for name in predictors:
        defaults = {"pt": pt, "mass": mass, "factor": 1.0, "sigma": np.nan, "in_range": False}
        for key, default in defaults.items():
            values = np.array(np.broadcast_to(default, len(jets)), dtype=bool if key == "in_range" else np.float32)
            if chunk.columns:
                values[chunk.good] = chunk.columns[f"{name}_{key}"]
            jets = ak.with_field(jets, values, f"{name}_{key}")
        jets = ak.with_field(jets, jets[f"{name}_pt"] / raw, f"{name}_raw_factor")
    return jets


def columns_needed(predictors: Mapping[str, Predictor]) -> dict[str, Any]:
    """What `data.read_block` has to read for `correct_chunk`: columns of jets and particles, and which particles."""
    metadata = [predictor.metadata for predictor in predictors.values()]
    features = [PARTICLE_COLUMNS[entry.get("features", "open")] for entry in metadata]
    particles = [*POINT_COLUMNS, *(name for names in features for name in names), "PF_fromAK4Jet"]
    own = all(entry.get("candidates", "jet") == "jet" for entry in metadata)
    return {
        "scalars": list(dict.fromkeys([*JET_COLUMNS, *TABLE_COLUMNS, "jetPhi"])),
        "particles": list(dict.fromkeys(particles)),
        "candidates": "jet" if own else "window",
    }


def correct_chunk(
    jets: ak.Array,
    predictors: Mapping[str, Predictor],
    batch_size: int = 1024,
    outside: Outside = "correct",
    where: str = "the jets",
) -> CorrectedChunk:
    """Correct those jets that all models can correct; parameters as in `correct_jets`, and what they come from."""
    prepared = {name: usable_jets(jets, predictor.metadata) for name, predictor in predictors.items()}
    problems = np.full(len(jets), "", dtype=object)
    for _, found in prepared.values():
        problems = np.where(problems == "", found, problems)
    clouds = usable_clouds({name: found for name, (found, _) in prepared.items()}, predictors, problems, where)
    good = problems == ""
    chunk = CorrectedChunk({}, good, Counter(problems[~good].tolist()))
    if not good.any():
        return chunk
    kept = jets[good]
    chunk.columns = {name: values for name, values in table(kept).items() if name in IDENTIFIERS}
    pt, mass = (ak.to_numpy(kept[name]) for name in ("jetPt", "jetMass"))
    for name, predictor in predictors.items():
        if summary := json.loads(predictor.metadata.get("training_summary", "{}")):
            chunk.drift[name] = DriftCheck(summary)
            chunk.drift[name].add(clouds[name])
        answers = predictor.predict(clouds[name], batch_size=batch_size)
        inside = within_range(clouds[name], predictor.metadata, answers[0])
        if not inside.all():
            chunk.outside[name] = int((~inside).sum())
        chunk.columns |= corrected_columns(name, pt, mass, *answers, valid=inside if outside == "keep" else None)
        chunk.columns[f"{name}_in_range"] = inside
    return chunk


def usable_jets(jets: ak.Array, metadata: Mapping[str, str]) -> tuple[ak.Array, NDArray[Any]]:
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


def usable_clouds(
    jets: Mapping[str, ak.Array], predictors: Mapping[str, Predictor], problems: NDArray[Any], where: str
) -> dict[str, Clouds]:
    """The inputs of each model for the jets without problems; those without their own candidates join the others.

    Parameters
    ----------
    jets
        The same jets with the candidates that each model takes, by model, `(B,)`.
    predictors
        The models.
    problems
        `(B,)`, why jets cannot be corrected; changed.
    where
        What the jets come from, for messages.

    Raises
    ------
    InputError
        If too many have not got their own candidates, see `data.belonging`.
    """

    def clouds() -> dict[str, Clouds]:
        good = problems == ""
        return {
            name: clouds_from_jets(jets[name][good], predictor.metadata.get("features", "open"))  # type: ignore[arg-type]
            for name, predictor in predictors.items()
        }

    found, good = clouds(), problems == ""
    first = next(iter(predictors))
    strange = strangers(found[first], jets[first], good, where)
    if strange.any():
        problems[np.flatnonzero(good)[strange]] = STRANGERS
        found = clouds()
    return found


def within_range(clouds: Clouds, metadata: Mapping[str, str], log_factor: NDArray) -> NDArray[np.bool_]:
    """Which jets `(B,)` are within the range of a model's training jets: in all inputs, and in the factor it gives."""
    return inputs_within(clouds, metadata) & factors_within(log_factor, metadata)

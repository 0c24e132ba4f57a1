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
from ..data.belonging import STRANGERS, TOLERATED, refuse_strangers, strangers
from ..data.dataset import Clouds, clouds_from_jets
from ..data.drift import DriftCheck
from ..data.features import TABLE_COLUMNS, as_seen, table
from ..data.ranges import factors_within, inputs_within
from ..data.selection import own_particles, reasons
from ..errors import InputError
from ..inference.predictor import Predictor
from ..jerc import is_variation
from ..jets.columns import features_of, jet_columns, particle_columns
from .predictions_writer import IDENTIFIERS, model_columns, regression_columns

__all__ = [
    "CorrectedChunk", "Outside", "check_outside", "clouds_from_jets", "columns_needed", "correct_chunk", "correct_jets",
]  # fmt: skip

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
    tally
        How many jets are not the sums of their candidates, for `data.belonging.refuse_strangers`.
    """

    columns: dict[str, NDArray[Any]]
    good: NDArray[np.bool_]
    skipped: Counter[str]
    outside: Counter[str] = field(default_factory=Counter)
    drift: dict[str, DriftCheck] = field(default_factory=dict)
    tally: Counter[str] = field(default_factory=Counter)

    def of_all(self, name: str, default: Any) -> NDArray[Any]:
        """A column of all jets, `(B,)`, with a default for those that were not corrected."""
        values: NDArray[Any] = np.empty(len(self.good), np.bool_ if default is False else np.float32)
        values[...] = default
        if self.columns:
            values[self.good] = self.columns[name]
        return values


def check_outside(outside: str) -> None:
    """Raise `InputError` unless it is one of the choices."""
    if outside not in ("correct", "keep"):
        raise InputError(f"outside {outside!r}: must be correct or keep")


def correct_jets(
    jets: ak.Array,
    predictors: Mapping[str, Predictor],
    *,
    batch_size: int = 1024,
    outside: Outside = "correct",
    tolerated: float = TOLERATED,
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
    tolerated
        Share of jets whose candidates may not sum up to them.

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
    refuse_strangers(chunk.tally, "the jets", tolerated=tolerated)
    pt, mass, raw = (ak.to_numpy(jets[name]).astype(np.float32) for name in ("jetPt", "jetMass", "jetRawPt"))
    defaults = {"pt": pt, "mass": mass, "factor": 1.0, "sigma": np.nan, "in_range": False}
    for name in predictors:
        for key, default in defaults.items():
            jets = ak.with_field(jets, chunk.of_all(f"{name}_{key}", default), f"{name}_{key}")
        jets = ak.with_field(jets, jets[f"{name}_pt"] / raw, f"{name}_raw_factor")
    return jets


def columns_needed(predictors: Mapping[str, Predictor]) -> dict[str, Any]:
    """What `data.read_block` has to read for `correct_chunk`: columns of jets and particles, and which particles."""
    metadata = [predictor.metadata for predictor in predictors.values()]
    features = [features_of(entry) for entry in metadata]
    particles = [*(name for each in features for name in particle_columns(each)), "PF_fromAK4Jet", "PF_pT"]
    scalars = [*(name for each in features for name in jet_columns(each)), *TABLE_COLUMNS]
    scalars += ["jetRawMass"] * any(entry.get("target") == "raw" for entry in metadata)
    own = all(entry.get("candidates", "jet") == "jet" for entry in metadata)
    return {
        "scalars": list(dict.fromkeys(scalars)),
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
    """Correct those jets that all models can correct; parameters as in `correct_jets`, and what they come from.

    Without predictors, jets need no candidates: what is known of them is written, CMS's own regressions among it.

    Raises
    ------
    InputError
        If candidates are those of another jet; whether too many are strange is for the caller to say, of all chunks.
    """
    taken, problems = {}, np.full(len(jets), "", dtype=object)
    if not predictors:
        for reason, hit in reasons(jets, without=True).items():
            problems[hit] = reason
    for name, predictor in predictors.items():
        taken[name], found = _usable(jets, predictor.metadata)
        problems = np.where(problems == "", found, problems)

    def clouds() -> dict[str, Clouds]:
        return {
            name: clouds_from_jets(_seen(taken[name][problems == ""], predictor), features_of(predictor.metadata))
            for name, predictor in predictors.items()
        }

    inputs, tally = clouds(), Counter[str]()
    for first in list(predictors)[:1]:
        strange, tally = strangers(inputs[first], taken[first], problems == "", where)
        if strange.any():
            problems[np.flatnonzero(problems == "")[strange]] = STRANGERS
            inputs = clouds()
    good = problems == ""
    chunk = CorrectedChunk({}, good, Counter(problems[~good].tolist()), tally=tally)
    if not good.any():
        return chunk
    kept = jets[good]
    chunk.columns = {name: values for name, values in table(kept).items() if name in IDENTIFIERS}
    chunk.columns |= {name: ak.to_numpy(kept[name]) for name in kept.fields if is_variation(name)}
    mass = ak.to_numpy(kept["jetMass"])
    chunk.columns |= regression_columns(kept, mass)
    for name, predictor in predictors.items():
        if summary := json.loads(predictor.metadata.get("training_summary", "{}")):
            chunk.drift[name] = DriftCheck(summary)
            chunk.drift[name].add(inputs[name])
        answers = predictor.predict(inputs[name], batch_size=batch_size)
        inside = inputs_within(inputs[name], predictor.metadata) & factors_within(answers[0], predictor.metadata)
        if not inside.all():
            chunk.outside[name] = int((~inside).sum())
        valid = inside if outside == "keep" else None
        chunk.columns |= model_columns(name, kept, mass, *answers, predictor.metadata, valid)
        chunk.columns[f"{name}_in_range"] = inside
    return chunk


def _seen(jets: ak.Array, predictor: Predictor) -> ak.Array:
    return as_seen(jets, predictor.metadata.get("target", "corrected"))


def _usable(jets: ak.Array, metadata: Mapping[str, str]) -> tuple[ak.Array, NDArray[Any]]:
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

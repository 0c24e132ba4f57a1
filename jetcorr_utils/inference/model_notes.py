"""What an exported model says of itself, and whether that is what this version of jetcorr feeds to it.

A model that takes its columns in another order, or MeV, gives numbers like any other, and all of them are wrong. So the
notes are compared where a model is opened, here and where they come from a server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat, PositiveInt, TypeAdapter, ValidationError

from ..config import SelectionSettings, SplitSettings
from ..data.ranges import range_names
from ..errors import InputError
from ..jets.columns import POINTS, Features, features_of, groups_of, jet_columns, particle_columns

__all__ = ["FORMAT", "check_notes", "column_notes"]

FORMAT = 2
"""Raised when what is noted changes its meaning. 1, of files without the note, lacks ``factor_range``."""

Limits = tuple[FiniteFloat, FiniteFloat]


class _Distribution(BaseModel):
    """An entry of `data.drift.summarise`."""

    edges: list[FiniteFloat] = Field(min_length=1)
    below: list[FiniteFloat] = Field(min_length=1)
    mean: FiniteFloat
    jets: PositiveInt


_STRUCTURES: dict[str, TypeAdapter[Any]] = {
    "training_range": TypeAdapter(dict[str, Limits]),
    "factor_range": TypeAdapter(tuple[Annotated[FiniteFloat, Field(gt=0)], Annotated[FiniteFloat, Field(gt=0)]]),
    "training_summary": TypeAdapter(dict[str, _Distribution]),
    "selection": TypeAdapter(SelectionSettings),
    "split": TypeAdapter(SplitSettings),
}
"""Notes that are JSON, where a model has them."""
_CHOICES = {"candidates": ("jet", "window"), "target": ("corrected", "raw"), "neutrinos": ("without", "with")}
"""Notes that have one of two values, the first where a model does not say."""


def column_notes(features: Features) -> dict[str, Any]:
    """What a model of these features notes of its inputs: the columns in their order, and the unit."""
    columns, jets = particle_columns(features)[len(POINTS) :], jet_columns(features)
    return {
        "features": features if isinstance(features, str) else list(features), "points": list(POINTS),
        "particle_features": list(columns), "jet_features": list(jets), "particle_columns": len(columns),
        "jet_columns": len(jets), "units": "GeV",
    }  # fmt: skip


def check_notes(metadata: Mapping[str, str], model: str, *, complete: bool) -> None:
    """Compare what a model says of itself with what it is given here.

    Parameters
    ----------
    metadata
        The notes.
    model
        How errors name the model.
    complete
        Whether all notes on the inputs must be there: in a file, but not on a server, which may serve older ones.

    Raises
    ------
    InputError
        If the model takes other inputs, is of a newer format, or has notes that cannot be read.
    """
    number = metadata.get("format", "1")
    if number not in {str(known) for known in range(1, FORMAT + 1)}:
        raise InputError(
            f"{model}: is of format {number}, this version of jetcorr reads up to {FORMAT}: update jetcorr"
        )
    try:
        features = features_of(metadata if metadata.get("features") or not complete else {"features": ""})
        groups_of(features)
    except (InputError, ValueError) as error:
        hint = "name the extension that adds it (--extension)" if "features" in metadata else "export it again"
        raise InputError(f"{model}: takes inputs that are not known here: {error}; {hint}") from None
    for name, ours in column_notes(features).items():
        theirs = metadata.get(name)
        if theirs is None and not complete:
            continue
        if theirs not in (ours, json.dumps(ours)):
            raise InputError(
                f"{model}: says {name} {theirs or 'nothing'}, where this version of jetcorr gives it {json.dumps(ours)}"
            )
    for name, (default, other) in _CHOICES.items():
        if metadata.get(name, default) not in (default, other):
            raise InputError(f"{model}: takes {name} {metadata[name]!r}; there are {default}, {other}")
    for name, structure in _STRUCTURES.items():
        if name in metadata:
            value = _structure(name, metadata[name], structure, model)
            if name == "training_range" and (unknown := [key for key in value if key not in range_names(features)]):
                raise InputError(f"{model}: its training_range names {unknown[0]!r}, which is no input of it")


def _structure(name: str, text: str, structure: TypeAdapter, model: str) -> Any:
    try:
        value = structure.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{model}: its {name} cannot be read: {f'{place}: ' if place else ''}{first['msg']}") from None
    if name == "training_summary" and any(len(entry.edges) != len(entry.below) for entry in value.values()):
        raise InputError(f"{model}: its training_summary cannot be read: edges and below differ in length")
    return value

"""What all settings share: they are immutable, typed, and read what people write."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from pydantic.fields import FieldInfo

from .plain_yaml import as_text

__all__ = [
    "MAX_BATCH", "MAX_JETS", "MAX_REPLICAS", "MAX_SEED", "MAX_WORKERS", "Batch", "Jets", "Layers", "Seed", "Settings",
    "Width", "Workers",
]  # fmt: skip

MAX_SEED = 2**31 - 1
"""The seed of a simulation is the run number of its events, which ROOT files keep in 32 bits."""
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]

# Far beyond what is of use: a slip of the finger is refused before it takes all memory, processes or years
MAX_BATCH, MAX_JETS, MAX_REPLICAS, MAX_WORKERS = 100_000, 10**10, 10_000, 1024
Batch = Annotated[PositiveInt, Field(le=MAX_BATCH)]
Jets = Annotated[PositiveInt, Field(le=MAX_JETS)]
Layers = Annotated[PositiveInt, Field(le=64)]
Width = Annotated[PositiveInt, Field(le=4096)]
Workers = Annotated[PositiveInt, Field(le=MAX_WORKERS)]


class Settings(BaseModel):
    """Base of all settings: immutable, and a key that does not exist is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _as_people_write(cls, settings: Any) -> Any:
        """One value for a list of one; a number where a text is wanted as it was written (``24.10`` is not 24.1)."""
        if not isinstance(settings, dict):
            return settings
        return {name: _as_meant(value, cls.model_fields.get(name)) for name, value in as_text(settings).items()}

    def key(self) -> str:
        """A short text that is equal for equal settings, for the names of caches."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _as_meant(value: Any, field: FieldInfo | None) -> Any:
    if field is None:
        return value
    wanted = field.annotation
    if get_origin(wanted) is tuple and value is not None and not isinstance(value, list | tuple):
        value = [value]
    if {int, float} & (kinds := _kinds(wanted)) and bool not in kinds:
        value = _no_numbers(value)
    return as_text(value) if str in (wanted, *get_args(wanted)) else value


def _kinds(annotation: Any) -> set[Any]:
    """All types that an annotation is made of."""
    return {annotation}.union(*map(_kinds, get_args(annotation))) if get_args(annotation) else {annotation}


def _no_numbers(value: Any) -> Any:
    """The value with booleans as texts: pydantic would take ``epochs: true`` for 1."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return [_no_numbers(part) for part in value]
    return {name: _no_numbers(part) for name, part in value.items()} if isinstance(value, dict) else value

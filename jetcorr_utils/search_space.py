"""The search space: which settings of a model vary, checked before anything is trained, and a draw as settings.

Nothing here needs Optuna, which takes long to import: see `tuning.space`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from .architectures import NetworkSettings
from .config import Choice, Interval, Space
from .errors import StudyError

__all__ = ["Parameters", "apply_parameters", "check_space", "is_whole"]

Parameters = dict[str, int | float | str]


def check_space(settings: NetworkSettings, space: Mapping[str, Space]) -> None:
    """Check each name and each range of the space against the model's settings.

    Raises
    ------
    StudyError
        If the space is empty, or at the first name that is not a setting and the first value that the setting would
        refuse; the message names it.
    """
    if not space:
        raise StudyError("tuning.space is empty: name at least one setting of the model to search over")
    known = _searchable(settings)
    for name, values in space.items():
        if name not in known:
            raise StudyError(
                f"tuning.space: {name!r} is not a setting of {settings.architecture}; there are {', '.join(known)}"
            )
        for value in _probes(values):
            apply_parameters(settings, {name: value})


def apply_parameters(settings: NetworkSettings, parameters: Mapping[str, Any]) -> NetworkSettings:
    """The model's settings with the values of a trial in place of their own.

    Raises
    ------
    StudyError
        If a setting refuses its value.
    """
    changed = settings.model_dump()
    for name, value in parameters.items():
        *parents, last = name.split(".")
        place = changed
        for parent in parents:
            place = place[parent]
        place[last] = value
    try:
        return type(settings).model_validate(changed)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise StudyError(f"tuning.space: {name} = {first['input']!r}: {first['msg']}") from None


def is_whole(interval: Interval) -> bool:
    """Whether only whole numbers are drawn."""
    return isinstance(interval.min, int) and isinstance(interval.max, int)


def _probes(values: Space) -> list[int | float | str]:
    """Values to try on the setting: all choices, or the ends of the interval and, if not whole, one between them."""
    if isinstance(values, Choice):
        return list(values.choices)
    inside = [] if is_whole(values) else [values.min + 0.381966 * (values.max - values.min)]
    return [values.min, values.max, *inside]


def _searchable(settings: NetworkSettings) -> list[str]:
    """The names that a space may hold: not those that change the data or the architecture, nor what the search sets."""
    return [name for name in settings.names() if name not in ("training.epochs", "training.max_jets")]

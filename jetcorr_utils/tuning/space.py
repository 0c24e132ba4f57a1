"""The search space: which settings of a model vary, and how a draw from it becomes a model's settings.

The space is declared once, in the study (`tuning.space`), by the names of the model's settings (`conv_dim`,
`training.learning_rate`). Optuna, the local workers and the Katib experiment all take it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial
from pydantic import ValidationError

from ..architectures import NetworkSettings
from ..config import Choice, Interval, Space
from ..errors import StudyError

__all__ = [
    "Parameters", "apply_parameters", "check_space", "contains", "distributions", "draw", "inside", "own_parameters",
]  # fmt: skip

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


def inside(values: Parameters, space: Mapping[str, Space]) -> Parameters:
    """Those of the values that the space could have drawn."""
    return {name: value for name, value in values.items() if contains(space[name], value)}


def contains(values: Space, value: Any) -> bool:
    """Whether a parameter could have been drawn with this value."""
    return value in values.choices if isinstance(values, Choice) else values.min <= value <= values.max


def own_parameters(settings: NetworkSettings, space: Mapping[str, Space]) -> Parameters:
    """The values that the model's settings have now for the names of the space."""
    values = settings.model_dump()
    return {name: values["training"][name[9:]] if name.startswith("training.") else values[name] for name in space}


def distributions(space: Mapping[str, Space]) -> dict[str, BaseDistribution]:
    """The space in Optuna's terms."""
    return {name: _distribution(values) for name, values in space.items()}


def draw(trial: Trial, space: Mapping[str, Space]) -> Parameters:
    """Draw one value for each name of the space, by the trial's sampler."""
    return {name: _draw_one(trial, name, values) for name, values in space.items()}


def _draw_one(trial: Trial, name: str, values: Space) -> int | float | str:
    if isinstance(values, Choice):
        return trial.suggest_categorical(name, values.choices)
    if _is_whole(values):
        return trial.suggest_int(name, int(values.min), int(values.max), log=values.log)
    return trial.suggest_float(name, values.min, values.max, log=values.log)


def _distribution(values: Space) -> BaseDistribution:
    if isinstance(values, Choice):
        return CategoricalDistribution(values.choices)
    if _is_whole(values):
        return IntDistribution(int(values.min), int(values.max), log=values.log)
    return FloatDistribution(values.min, values.max, log=values.log)


def _is_whole(interval: Interval) -> bool:
    return isinstance(interval.min, int) and isinstance(interval.max, int)


def _probes(values: Space) -> list[int | float | str]:
    """Values to try on the setting: all choices, or the ends of the interval and, if not whole, one between them."""
    if isinstance(values, Choice):
        return list(values.choices)
    inside = [] if _is_whole(values) else [values.min + 0.381966 * (values.max - values.min)]
    return [values.min, values.max, *inside]


def _searchable(settings: NetworkSettings) -> list[str]:
    """The names that a space may hold: not those that change the data or the architecture, nor what the search sets."""
    return [name for name in settings.names() if name not in ("training.epochs", "training.max_jets")]

"""The search space in Optuna's terms: draws from it, and which values it can have drawn. See `search_space`.

The space is declared once, in the study (`tuning.space`), by the names of the model's settings (`conv_dim`,
`training.learning_rate`). Optuna, the local workers and the Katib experiment all take it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from ..architectures import NetworkSettings
from ..config import Choice, Space
from ..search_space import Parameters, apply_parameters, check_space, is_whole

__all__ = [
    "Parameters", "apply_parameters", "check_space", "contains", "distributions", "draw", "inside", "own_parameters",
]  # fmt: skip


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
    if is_whole(values):
        return trial.suggest_int(name, int(values.min), int(values.max), log=values.log)
    return trial.suggest_float(name, values.min, values.max, log=values.log)


def _distribution(values: Space) -> BaseDistribution:
    if isinstance(values, Choice):
        return CategoricalDistribution(values.choices)
    if is_whole(values):
        return IntDistribution(int(values.min), int(values.max), log=values.log)
    return FloatDistribution(values.min, values.max, log=values.log)

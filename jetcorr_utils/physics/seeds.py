"""Errors that include the training: the spread of networks that differ in their seed only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError

__all__ = ["with_seed_spread"]


def with_seed_spread(metrics: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Replace trainings that differ in their seed by one entry, their mean, with both errors.

    Parameters
    ----------
    metrics
        As `measure` returns them.
    groups
        For each name the models that are trainings of it, for example ``{"pfn": ["pfn", "pfn_seed2"]}``.

    Returns
    -------
    The metrics with one entry for each group. Each number is the mean; its error is the statistical one and the
    standard deviation over seeds, in quadrature; ``seed_spread`` is the latter. A bin without a value in one training
    has none.

    Raises
    ------
    InputError
        If a group has fewer than two models, or one that is not in the metrics.
    """
    members = {model for models in groups.values() for model in models}
    result = {name: entry for name, entry in metrics.items() if name not in members}
    for name, models in groups.items():
        missing = [model for model in models if model not in metrics]
        if missing or len(models) < 2:
            reason = f"no model {missing[0]!r} in the metrics" if missing else "two trainings at least are needed"
            raise InputError(f"seeds of {name}: {reason}")
        result[name] = _combine([metrics[model] for model in models])
    return result


def _combine(entries: Sequence[Any]) -> Any:
    """The mean of like-structured entries, down to their numbers."""
    first = entries[0]
    if isinstance(first, Mapping) and "value" in first:
        return _mean(entries)
    if isinstance(first, Mapping):
        return {key: _combine([entry[key] for entry in entries]) for key in first if all(key in e for e in entries)}
    if isinstance(first, int) or any(entry is None for entry in entries):
        return first
    return float(np.mean(entries))


def _mean(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    jets = entries[0]["jets"]
    if any(entry["value"] is None for entry in entries):
        return {"value": None, "error": None, "jets": jets}
    spread = float(np.std([entry["value"] for entry in entries], ddof=1))
    # All see the same test jets, so the mean's statistical error is that of one.
    statistical = float(np.mean([entry["error"] or 0.0 for entry in entries]))
    value = float(np.mean([entry["value"] for entry in entries]))
    return {"value": value, "error": float(np.hypot(statistical, spread)), "seed_spread": spread, "jets": jets}

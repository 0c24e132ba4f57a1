"""How the models of a study belong together, by their names and settings.

``pfn`` is a main model, ``pfn_rich`` and ``pfn_rich_balanced`` are variants of it, ``pfn_seed2`` is a second training
of it, and a name with any other number, such as ``pfn_lambda_3`` or ``pfn_10k``, is a point of a scan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..config import ModelSettings

__all__ = ["frontier_weights", "learning_curve", "main_models", "seed_groups", "variants"]

_SEED = re.compile(r"_seed\d+$")


def main_models(models: Sequence[str]) -> list[str]:
    """The models without a suffix; all, if each has one.

    >>> main_models(["pfn", "pfn_rich", "pfn_seed2"])
    ['pfn']
    """
    return [name for name in models if "_" not in name] or list(models)


def variants(models: Sequence[str]) -> list[str]:
    """The main models and their variants: no second trainings, no points of scans.

    >>> variants(["pfn", "pfn_rich", "pfn_seed2", "pfn_rich_lambda_3"])
    ['pfn', 'pfn_rich']
    """
    return [name for name in models if not re.search(r"\d", name.partition("_")[2])] or list(models)


def seed_groups(models: Sequence[str]) -> dict[str, list[str]]:
    """The trainings of each model that was trained from several seeds.

    >>> seed_groups(["pfn", "particlenet", "pfn_seed2"])
    {'pfn': ['pfn', 'pfn_seed2']}
    """
    groups: dict[str, list[str]] = {}
    for name in models:
        groups.setdefault(_SEED.sub("", name), []).append(name)
    return {name: group for name, group in groups.items() if len(group) > 1 and name in models}


def frontier_weights(models: Mapping[str, ModelSettings]) -> dict[str, float]:
    """The weight λ of the flavour-neutral term of each model, of those that were trained with three or more.

    Models of a frontier have the same architecture and features, and all training jets.
    """
    families: dict[tuple[str, str], dict[str, float]] = {}
    for name, model in models.items():
        if not _SEED.search(name) and model.training.max_jets is None:
            family = families.setdefault((model.architecture, model.features), {})
            family[name] = model.training.flavour_balance
    return {
        name: weight for family in families.values() if len(set(family.values())) > 2 for name, weight in family.items()
    }


def learning_curve(
    metrics: Mapping[str, Any],
    models: Mapping[str, ModelSettings],
    train_jets: int,
    *,
    eta: str = "0-2.5",
    pt: str = "30-inf",
) -> pd.DataFrame:
    """Resolution gain against the number of training jets, of models that were trained on parts of the jets, too.

    Parameters
    ----------
    metrics
        As `measure` returns them.
    models
        Their settings by name.
    train_jets
        All training jets there are.

    Returns
    -------
    As `plot_learning_curve` takes it; ``model`` is the one that was trained on all jets. Empty if there are no such
    models.
    """
    rows = []
    whole = [name for name, model in models.items() if model.training.max_jets is None and name in metrics]
    for name in whole:
        like = [other for other in models if other in metrics and _but_for_jets(models[other], models[name])]
        for other in like if len(like) > 2 else []:
            entry = metrics[other]["resolution_gain"][eta][pt]
            jets = models[other].training.max_jets or train_jets
            rows.append((name, jets, entry["value"], entry["error"]))
    return pd.DataFrame(rows, columns=["model", "jets", "resolution_gain", "resolution_gain_error"])


def _but_for_jets(one: ModelSettings, other: ModelSettings) -> bool:
    """Whether two models differ at most in the number of training jets."""
    plain = [model.model_dump(mode="json") for model in (one, other)]
    for settings in plain:
        settings["training"].pop("max_jets")
    return plain[0] == plain[1]

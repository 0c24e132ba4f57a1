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

__all__ = ["choose_weights", "frontier_weights", "learning_curve", "main_models", "seed_groups", "variants"]

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
    """The weight λ of the flavour-neutral term of each model, of those that were trained with several.

    Models of a frontier have the same architecture and features, and all training jets. There is none unless one of
    the frontiers has three weights or more.
    """
    families: dict[tuple[str, str], dict[str, float]] = {}
    for name, model in models.items():
        if not _SEED.search(name) and model.training.max_jets is None:
            family = families.setdefault((model.architecture, model.features), {})
            family[name] = model.training.flavour_balance
    sizes = [len(set(family.values())) for family in families.values()]
    if max(sizes, default=0) < 3:
        return {}
    scanned = [family for family, size in zip(families.values(), sizes, strict=True) if size > 1]
    return {name: weight for family in scanned for name, weight in family.items()}


def choose_weights(
    metrics: Mapping[str, Any],
    models: Mapping[str, ModelSettings],
    weights: Mapping[str, float],
    *,
    eta: str = "0-2.5",
    pt: str = "30-inf",
) -> pd.DataFrame:
    """The weight λ to take on each frontier: the largest that costs no resolution beyond its statistical error.

    Parameters
    ----------
    metrics
        As `measure` returns them, of jets that are not those of the test: the validation jets.
    models
        Their settings by name.
    weights
        As `frontier_weights` returns them.
    eta, pt
        The bin.

    Returns
    -------
    One row a model: ``network``, ``features``, ``λ``, both gains and their errors in %, and whether it is ``chosen``.
    """
    rows = []
    for name, weight in weights.items():
        row = {"network": models[name].architecture, "features": models[name].features, "λ": weight}
        for quantity, title in {"resolution_gain": "resolution gain", "flavour_gain": "flavour gain"}.items():
            entry = metrics[name][quantity][eta][pt]
            values = [float("nan") if entry[key] is None else 100 * entry[key] for key in ("value", "error")]
            row |= {f"{title} / %": values[0], f"± {title}": values[1]}
        rows.append(row)
    table = pd.DataFrame(rows).sort_values(["network", "features", "λ"], ignore_index=True)
    gain, error = table["resolution gain / %"], table["± resolution gain"]
    family = [table["network"], table["features"]]
    cheap = gain + error >= gain.groupby(family).transform("max")
    chosen = table["λ"].where(cheap).groupby(family).transform("max")
    return table.assign(chosen=table["λ"] == chosen)


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

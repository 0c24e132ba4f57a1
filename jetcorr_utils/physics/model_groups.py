"""How the models of a study belong together: by what their settings say, never by their names.

A model with ``variant_of`` is a variant of a main model; one with ``scan`` a point of a scan over a setting, such as
the number of training jets; one with ``seed_of`` a further training of another, from another seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..architectures import NetworkSettings
from ..config import DataSettings
from ..jets.regressions import REGRESSIONS
from .binning import WIDEST

__all__ = [
    "choose_weights", "first_trainings", "frontier_weights", "learning_curve", "main_models", "seed_groups", "variants",
    "with_settings",
]  # fmt: skip

Models = Mapping[str, NetworkSettings | Mapping[str, Any]]
"""Models by name, with their settings or with their entries in metrics.json; of those of neither nothing is known."""


def main_models(names: Sequence[str], models: Models) -> list[str]:
    """Those that are variants of no other; all, if each is one.

    >>> main_models(["deep_sets", "wide"], {"wide": {"variant_of": "deep_sets"}})
    ['deep_sets']
    """
    return _without(names, models, "variant_of", "scan", "seed_of")


def variants(names: Sequence[str], models: Models) -> list[str]:
    """The main models and their variants: no further trainings, no points of scans."""
    return _without(names, models, "scan", "seed_of")


def first_trainings(names: Sequence[str], models: Models) -> list[str]:
    """Of models that are trained from several seeds, the first of each."""
    return _without(names, models, "seed_of")


def _without(names: Sequence[str], models: Models, *relations: str) -> list[str]:
    return [name for name in names if not any(_of(models, name, relation) for relation in relations)] or list(names)


def _of(models: Models, name: str, relation: str) -> str | None:
    model = models.get(name, {})
    return model.get(relation) if isinstance(model, Mapping) else getattr(model, relation)


def seed_groups(names: Sequence[str], models: Models) -> dict[str, list[str]]:
    """The trainings of each model that was trained from several seeds.

    >>> seed_groups(["pfn", "particlenet", "again"], {"again": {"seed_of": "pfn"}})
    {'pfn': ['pfn', 'again']}
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_of(models, name, "seed_of") or name, []).append(name)
    return {name: group for name, group in groups.items() if len(group) > 1 and name in names}


def _names(model: NetworkSettings) -> list[str]:
    return [model.features] if isinstance(model.features, str) else list(model.features)


def with_settings(
    metrics: Mapping[str, Any], models: Mapping[str, NetworkSettings], data: DataSettings | None = None
) -> dict[str, Any]:
    """The metrics, each of the models with what a reader of metrics.json must know of it.

    The target is that of the training: generated pt over the pt that is corrected, as the settings of the `data` say.
    """
    data = data or DataSettings()
    truth = f"gen pt {'with' if data.neutrinos else 'without'} neutrinos"
    target = f"{truth} / {'raw' if data.target == 'raw' else 'standard-corrected'} pt"
    known: dict[str, dict[str, Any]] = {
        name: {"architecture": regression.title, "inputs": ["CMS"], "target": f"{truth} / raw pt"}
        for name, regression in REGRESSIONS.items()
    }
    known |= {
        name: {
            "architecture": model.architecture, "inputs": _names(model), "target": target,
            "flavour_balance": model.training.flavour_balance,
            "variant_of": model.variant_of, "scan": model.scan, "seed_of": model.seed_of,
        } for name, model in models.items()
    }  # fmt: skip
    return {name: entry | known.get(name, {}) for name, entry in metrics.items()}


def frontier_weights(models: Mapping[str, NetworkSettings]) -> dict[str, float]:
    """The weight λ of the flavour-neutral term of each model, of those that were trained with several.

    Models of a frontier have the same architecture and features, and all training jets. There is none unless one of
    the frontiers has three weights or more.
    """
    families: dict[tuple[str, str | tuple[str, ...]], dict[str, float]] = {}
    for name, model in models.items():
        if model.seed_of is None and model.training.max_jets is None:
            family = families.setdefault((model.architecture, model.features), {})
            family[name] = model.training.flavour_balance
    sizes = [len(set(family.values())) for family in families.values()]
    if max(sizes, default=0) < 3:
        return {}
    scanned = [family for family, size in zip(families.values(), sizes, strict=True) if size > 1]
    return {name: weight for family in scanned for name, weight in family.items()}


def choose_weights(
    metrics: Mapping[str, Any], models: Mapping[str, NetworkSettings], weights: Mapping[str, float]
) -> pd.DataFrame:
    """The weight λ to take on each frontier: the largest that costs no resolution beyond its statistical error.

    Gains are those in the widest bin.

    Parameters
    ----------
    metrics
        As `measure` returns them, of jets that are not those of the test: the validation jets.
    models
        Their settings by name.
    weights
        As `frontier_weights` returns them.

    Returns
    -------
    One row a model: ``network``, ``features``, ``λ``, both gains and their errors in %, and whether it is ``chosen``.
    """
    rows = []
    eta, pt = WIDEST
    for name, weight in weights.items():
        row = {"network": models[name].architecture, "features": ", ".join(_names(models[name])), "λ": weight}
        for quantity, title in {"resolution_gain": "resolution gain", "flavour_gain": "flavour gain"}.items():
            entry = metrics[name][quantity][eta][pt]
            values = [float("nan") if entry[key] is None else 100 * entry[key] for key in ("value", "error")]
            row |= {f"{title} [%]": values[0], f"± {title}": values[1]}
        rows.append(row)
    table = pd.DataFrame(rows).sort_values(["network", "features", "λ"], ignore_index=True)
    gain, error = table["resolution gain [%]"], table["± resolution gain"]
    family = [table["network"], table["features"]]
    cheap = gain + error >= gain.groupby(family).transform("max")
    chosen = table["λ"].where(cheap).groupby(family).transform("max")
    return table.assign(chosen=table["λ"] == chosen)


def learning_curve(metrics: Mapping[str, Any], models: Mapping[str, NetworkSettings], train_jets: int) -> pd.DataFrame:
    """Resolution gain against the number of training jets, of models that were trained on parts of the jets, too.

    It is that in the widest bin.

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
    eta, pt = WIDEST
    whole = [name for name, model in models.items() if model.training.max_jets is None and name in metrics]
    for name in whole:
        like = [other for other in models if other in metrics and _but_for_jets(models[other], models[name])]
        for other in like if len(like) > 2 else []:
            entry = metrics[other]["resolution_gain"][eta][pt]
            jets = models[other].training.max_jets or train_jets
            rows.append((name, jets, entry["value"], entry["error"]))
    return pd.DataFrame(rows, columns=["model", "jets", "resolution_gain", "resolution_gain_error"])


def _but_for_jets(one: NetworkSettings, other: NetworkSettings) -> bool:
    """Whether two models differ at most in the number of training jets."""
    training = one.training.model_copy(update={"max_jets": other.training.max_jets})
    return one.model_copy(update={"training": training}).key() == other.key()

"""The parts of notebook 06 that a study asks for; each adds nothing, or shows nothing, where it does not.

Figures come as pairs of the name of their file and the figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from ..config import Study
from ..data import ensure_files, load_clouds
from ..data.jetntuple import SIMULATED
from ..data.split import SPLITS, split_of
from ..errors import InputError
from ..metrics import shown_metrics
from ..simulation.calibration import simulation_correction
from .binning import ETA_BINS
from .closure import CLOSED, apply_closure, derive_closure, load_closure, save_closure
from .limits import LIMITS, add_limits
from .measurement import measure
from .model_groups import choose_weights, frontier_weights, learning_curve, with_settings
from .predictions import load_predictions
from .prior import plot_prior_dependence
from .response_plots import plot_gain, plot_median_response
from .study_plots import GAINS, plot_frontier, plot_learning_curve, plot_limits, plot_variations

if TYPE_CHECKING:
    from ..run import RunFolder

__all__ = [
    "add_closed", "add_offset_correction", "add_reference_corrections", "closed", "closure_figures",
    "first_corrections", "further_figures", "limit_figures", "prior_figures", "references", "training_figures",
    "variation_figures", "weights_on_validation",
]  # fmt: skip

Figures = Iterator[tuple[str, Figure]]


def add_offset_correction(predictions: pd.DataFrame, source: str) -> pd.DataFrame:
    """The predictions with ``l1_pt``, GeV, after L1 alone, where it is known: for jets of our simulation.

    `source` is what made the jets, see `RunFolder.source`.
    """
    if source != SIMULATED or "jetArea" not in predictions:
        return predictions
    raw_pt, *others = (predictions[name].to_numpy() for name in ("jetRawPt", "jetEta", "jetArea", "rhoAll"))
    return predictions.assign(l1_pt=raw_pt * simulation_correction().offset(raw_pt, *others))


def first_corrections(predictions: pd.DataFrame) -> list[str]:
    """What stands before the standard correction: ``raw``, and ``l1`` where it is known."""
    return ["raw", *(["l1"] if "l1_pt" in predictions else [])]


def add_closed(predictions: pd.DataFrame, corrections: Sequence[str], study: Study, run: RunFolder) -> pd.DataFrame:
    """The predictions with each correction also after a residual one (``physics.closure``).

    It is derived on the validation jets, kept in the run folder as correctionlib JSON, and applied from there.
    """
    if not study.physics.closure:
        return predictions
    validation = load_predictions(run.require(run.validation, "05"))
    save_closure(derive_closure(validation, corrections), run.closure)
    return apply_closure(predictions, load_closure(run.closure))


def closed(predictions: pd.DataFrame, corrections: Sequence[str]) -> list[str]:
    """The names of the corrections with their residual one, of those that have it."""
    return [name + CLOSED for name in corrections if f"{name}{CLOSED}_pt" in predictions]


def closure_figures(predictions: pd.DataFrame, corrections: Sequence[str], study: Study) -> Figures:
    """The median response with and without the residual correction, in the barrel and the endcap."""
    shown = [*corrections, *closed(predictions, corrections)]
    for eta_bin in ETA_BINS[:2] if len(shown) > len(corrections) else ():
        figure = plot_median_response(predictions, shown, eta_bin, study.physics)
        yield f"06_closure_residual_{eta_bin.name}", figure


def add_reference_corrections(predictions: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The predictions with boosted trees and oracles (``physics.limits``), trained on the networks' jets.

    Raises
    ------
    InputError
        If these are not all test jets of the study, so that the trees would be trained on some of them.
    """
    if not study.physics.limits:
        return predictions
    run, lumi, event = (predictions[name].to_numpy() for name in ("run", "lumi", "event"))
    if (split_of(run, lumi, event, study.data.split) != SPLITS["test"]).any():
        raise InputError("predictions: not of the study's test jets: data.split has changed; run notebook 05 again")
    return add_limits(predictions, load_clouds(study.data, "open"), files=ensure_files(study.data))


def references(predictions: pd.DataFrame) -> list[str]:
    """The names of the trees and oracles that there are."""
    return [name for name in LIMITS if f"{name}_pt" in predictions]


def limit_figures(predictions: pd.DataFrame, metrics: Mapping[str, Any], models: Sequence[str]) -> Figures:
    """The gains of networks beside those of trees and oracles."""
    limits = references(predictions)
    if limits:
        yield "06_limits", plot_limits(metrics, [*limits[:2], *models, *limits[2:]])


def training_figures(metrics: Mapping[str, Any], study: Study) -> Figures:
    """The frontier over the weight of the flavour-neutral term, and the learning curve, where the models make them."""
    weights = frontier_weights({name: model for name, model in study.models.items() if name in metrics})
    if weights:
        yield "06_frontier", plot_frontier(with_settings(metrics, study.models), weights)
    if any(model.training.max_jets for model in study.models.values()):
        curve = learning_curve(metrics, study.models, len(load_clouds(study.data, "open").split("train")))
        if len(curve):
            yield "06_learning_curve", plot_learning_curve(curve)


def weights_on_validation(study: Study, run: RunFolder) -> pd.DataFrame | None:
    """The weight λ that each frontier suggests, from the validation jets; None where the study has no frontier."""
    weights = frontier_weights(study.models)
    if not weights:
        return None
    validation = load_predictions(run.require(run.validation, "05"))
    metrics = measure(validation, list(weights), study.physics)
    return choose_weights(metrics, study.models, weights).round(1)


def prior_figures(predictions: pd.DataFrame, corrections: Sequence[str], study: Study) -> Figures:
    """Closure on spectra that fall with other powers of pt (``physics.prior``)."""
    if study.physics.prior:
        powers = (None, *study.physics.prior)
        yield "06_prior", plot_prior_dependence(predictions, corrections, powers, settings=study.physics)


def variation_figures(
    metrics: Mapping[str, Any], variations: Mapping[str, Mapping[str, Any]], models: Sequence[str]
) -> Figures:
    """The gains on jets of other simulations beside those on the test jets (``physics.variations``)."""
    for metric in shown_metrics() if variations else ():
        figure = plot_variations({"As trained": metrics, **variations}, models, quantity=metric.name)
        yield f"06_variations_{metric.name}", figure


def further_figures(metrics: Mapping[str, Any], models: Sequence[str]) -> Figures:
    """The metrics that the study's extensions add, in bins as the gains are."""
    for metric in shown_metrics():
        if metric.name not in GAINS:
            yield f"06_{metric.name}", plot_gain(metrics, metric.name, models)

"""The parts of notebook 06 that a study asks for; each adds nothing, or shows nothing, where it does not.

Figures come as pairs of the name of their file and the figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..baseline import load_correction
from ..config import DataSettings, ModelSettings, Study
from ..correct.predictions_writer import ALSO, FILE_COLUMN, IDENTIFIERS, predictions_file, regression_columns
from ..data import ensure_files, load_clouds, read_jets
from ..data.features import FILE_PT, table
from ..data.jetntuple import SIMULATED
from ..data.locations import simulated_corrections
from ..data.reading import common_regressions
from ..data.split import SPLITS, split_of
from ..errors import InputError
from ..metrics import shown_metrics
from .binning import ETA_BINS
from .closure import CLOSED, apply_closure, derive_closure, l2_relative, load_closure, save_closure
from .limits import LIMITS, add_limits
from .measurement import measure
from .model_groups import choose_weights, frontier_weights, learning_curve, with_settings
from .predictions import load_predictions, pt_branch
from .prior import plot_prior_dependence
from .response_plots import plot_gain, plot_residual_closure
from .study_plots import GAINS, plot_frontier, plot_learning_curve, plot_limits, plot_variations

if TYPE_CHECKING:
    from ..run import RunFolder

__all__ = [
    "add_closed", "add_offset_correction", "add_reference_corrections", "closed", "closure_figures",
    "compare_with_file", "find_predictions", "first_corrections", "further_figures", "limit_figures", "prior_figures",
    "references", "training_figures", "variation_figures", "weights_on_validation",
]  # fmt: skip

Figures = Iterator[tuple[str, Figure]]


def add_offset_correction(predictions: pd.DataFrame, source: str, data: DataSettings) -> pd.DataFrame:
    """The predictions with ``l1_pt``, GeV, after L1 alone, where it is known: for jets of our simulation.

    `source` is what made the jets, see `RunFolder.source`; `data` says with which simulation.
    """
    if source != SIMULATED or "jetArea" not in predictions:
        return predictions
    correction = load_correction(simulated_corrections(data))
    raw_pt, *others = (predictions[name].to_numpy() for name in ("jetRawPt", "jetEta", "jetArea", "rhoAll"))
    return predictions.assign(l1_pt=raw_pt * correction.offset(raw_pt, *others))


def first_corrections(predictions: pd.DataFrame) -> list[str]:
    """What stands before the standard correction: ``raw``, and ``l1`` or that of the ``file`` where it is known."""
    return ["raw", *(name for name in ("l1", "file") if pt_branch(name) in predictions)]


def find_predictions(study: Study, run: RunFolder) -> Path:
    """The test jets with what the models made of them, which notebook 05 wrote.

    Jets without particle-flow candidates no network can correct: all those that the study selects are written here,
    with the regressions of CMS that the files have.

    Raises
    ------
    MissingStageError
        If notebook 05 has not run yet.
    InputError
        If the jets have neither candidates nor regressions.
    """
    if run.has_candidates:
        return run.require(run.predictions, "05")
    files = ensure_files(study.data)
    if not common_regressions(files, study.data.collection):
        raise InputError(f"{files[0]}: its jets have no particle-flow candidates, and no regressions of CMS")
    jets = read_jets(files, study.data)
    kept = {*IDENTIFIERS, *ALSO} - {"QG_mult"}  # of particles, which there are none of
    columns = {name: values for name, values in table(jets).items() if name in kept}
    columns |= {FILE_COLUMN: ak.to_numpy(jets[FILE_PT])} if FILE_PT in jets.fields else {}
    columns |= regression_columns(jets, ak.to_numpy(jets["jetMass"]), neutrinos=study.data.neutrinos)
    with predictions_file(run.regressions) as writer:
        writer.append(columns)
    return run.regressions


def compare_with_file(predictions: pd.DataFrame) -> pd.DataFrame | None:
    """The official correction that was made anew over that of the file, in bins of abs(eta); None without the latter.

    Returns
    -------
    One row a bin: ``abs(eta)``, ``jets``, the ``median`` of the ratio, the quantiles ``5 %`` and ``95 %``, and the
    share of jets that are ``equal to 0.1 %``.
    """
    if FILE_COLUMN not in predictions:
        return None
    ratio = (predictions["jetPt"] / predictions[FILE_COLUMN]).to_numpy(dtype=np.float64)
    rows = []
    for eta_bin in ETA_BINS:
        inside = ratio[eta_bin.contains(predictions["jetEta"].abs())]
        if len(inside):
            low, median, high = np.quantile(inside, (0.05, 0.5, 0.95))
            row = {"abs(eta)": eta_bin.name, "jets": len(inside), "median": median, "5 %": low, "95 %": high}
            rows.append(row | {"equal to 0.1 %": float(np.mean(np.abs(inside - 1) < 1e-3))})
    return pd.DataFrame(rows)


def add_closed(predictions: pd.DataFrame, corrections: Sequence[str], study: Study, run: RunFolder) -> pd.DataFrame:
    """The predictions with each correction also after a residual one (``physics.closure``).

    It is derived on the validation jets, kept in the run folder as correctionlib JSON, and applied from there. Of
    networks that correct the raw pt it is there in CMS's form, too, see `l2_relative`. Where no network was trained,
    nothing is derived.
    """
    if not (study.physics.closure and run.has_candidates):
        return predictions
    validation = load_predictions(run.require(run.validation, "05"))
    derived = derive_closure(validation, corrections)
    save_closure(derived, run.closure)
    if study.data.target == "raw":
        save_closure(l2_relative(derived), run.l2_relative)
    return apply_closure(predictions, load_closure(run.closure))


def closed(predictions: pd.DataFrame, corrections: Sequence[str]) -> list[str]:
    """The names of the corrections with their residual one, of those that have it."""
    return [name + CLOSED for name in corrections if f"{name}{CLOSED}_pt" in predictions]


def closure_figures(predictions: pd.DataFrame, corrections: Sequence[str], study: Study) -> Figures:
    """The median response with and without the residual correction, in the barrel and the endcap."""
    pairs = {name: after for name in corrections for after in closed(predictions, [name])}
    for eta_bin in ETA_BINS[:2] if pairs else ():
        figure = plot_residual_closure(predictions, pairs, eta_bin, study.physics)
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
    models = _as_in_study(study)
    weights = frontier_weights({name: model for name, model in models.items() if name in metrics})
    if weights:
        yield "06_frontier", plot_frontier(with_settings(metrics, study.models), weights)
    if any(model.training.max_jets for model in models.values()):
        curve = learning_curve(metrics, models, len(load_clouds(study.data, "open").split("train")))
        if len(curve):
            yield "06_learning_curve", plot_learning_curve(curve)


def _as_in_study(study: Study) -> dict[str, ModelSettings]:
    """The models whose networks surely have the study's settings: without the one that the search may replace."""
    return {name: model for name, model in study.models.items() if name != study.tuning.model or not study.tuning.space}


def weights_on_validation(study: Study, run: RunFolder) -> pd.DataFrame | None:
    """The weight λ that each frontier suggests, from the validation jets; None where the study has no frontier."""
    weights = frontier_weights(_as_in_study(study))
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
    models = [name for name in models if all(name in metrics for metrics in variations.values())]
    for metric in shown_metrics() if variations else ():
        figure = plot_variations({"As trained": metrics, **variations}, models, metric.name)
        yield f"06_variations_{metric.name}", figure


def further_figures(metrics: Mapping[str, Any], models: Sequence[str]) -> Figures:
    """The metrics that the study's extensions add, in bins as the gains are."""
    for metric in shown_metrics():
        if metric.name not in GAINS:
            yield f"06_{metric.name}", plot_gain(metrics, metric.name, models)

"""The numbers of metrics.json: what a model gains over the standard correction, with bootstrap errors.

All are measured on response = corrected pt / generator pt, in bins of the generator's pt and abs(eta):

- resolution = interquartile range / median; resolution gain = 1 - resolution(model) / resolution(standard)
- flavour spread = sum over u, d, s, c, b, g of abs(median - mean of the six medians); flavour gain = 1 - ratio
- flavour reach: the flavour gain that a correction without any flavour dependence would score with as many jets, since
  the spread is a sum of absolute values and so never below its noise
- flavour range = largest - smallest of the six medians
- closure = median - 1

On toys of 2 500 jets (tests/physics/test_measurement.py) the errors of closure and resolution are right to a per cent;
those of the gains, to which resampling adds noise of its own, are a quarter too large.

A bin with too few jets has null for its value and says how many jets there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..bootstrap import Bootstrap, Estimate, estimate
from ..config import PhysicsSettings
from ..errors import InputError
from ..jets.regressions import REGRESSIONS
from ..metrics import Jets, Metric, binned_metrics
from .binning import ETA_BINS, FLAVOURS, PT_BINS, Bin
from .predictions import corrected_pt, response

__all__ = ["absolute_log_error", "measure", "pull", "rows_in"]

Binned = dict[str, dict[str, Estimate]]

#: the 16 % and 84 % quantiles of a normal distribution, to four digits
ONE_SIGMA = (0.1587, 0.8413)
#: how many standard deviations, and the share of a normal distribution within them
COVERAGES = {"coverage68": (1.0, 0.6827), "coverage95": (1.96, 0.95), "coverage99": (2.576, 0.99)}


def measure(
    predictions: pd.DataFrame, models: Sequence[str], settings: PhysicsSettings | None = None, *, progress: bool = True
) -> dict[str, Any]:
    """Measure all models against the standard correction.

    Parameters
    ----------
    predictions
        Test jets, see `load_predictions`.
    models
        Names of models with a ``<model>_pt`` column and, for pull and coverage, a ``<model>_sigma`` column.
    settings
        Bootstrap replicas and seed, and the fewest jets that a bin must have.
    progress
        Whether to show a progress bar.

    Returns
    -------
    dict
        In the layout of metrics.json, ``{model: {"resolution_gain": {eta: {pt: {"value", "error", "jets"}}},
        "flavour_gain", "closure", "mae", "jets", "pull_width", "coverage68", …}, "baseline": {…}}``. Each scalar has
        its error beside it as ``<name>_error``.

    Raises
    ------
    InputError
        If a model is not in the predictions.
    """
    settings = settings or PhysicsSettings()
    for model in models:
        _check_model(predictions, model)
    bootstrap = Bootstrap.of(predictions, settings)
    standard = _bins_of(predictions, "standard", bootstrap, settings)
    result: dict[str, Any] = {"baseline": _report(predictions, "standard", standard, bootstrap)}
    for model in tqdm(models, desc="measure", unit="model", disable=not progress):
        bins = _bins_of(predictions, model, bootstrap, settings, standard)
        result[model] = _report(predictions, model, bins, bootstrap) | _uncertainty(predictions, model, bootstrap)
    return result


def rows_in(predictions: pd.DataFrame, pt_bin: Bin, eta_bin: Bin) -> NDArray[np.int64]:
    """Indices of the jets in a bin of gen pt (GeV) and abs(gen eta)."""
    inside = pt_bin.contains(predictions["genJetPt"]) & eta_bin.contains(predictions["genJetEta"].abs())
    return np.flatnonzero(inside)


def absolute_log_error(predictions: pd.DataFrame, correction: str) -> NDArray[np.float64]:
    """abs(log(gen pt / corrected pt)) of each jet (N,), whose mean is the networks' loss."""
    return np.abs(np.log(response(predictions, correction)))


def pull(predictions: pd.DataFrame, model: str) -> NDArray[np.float64]:
    """log(gen pt / corrected pt) over the predicted resolution of each jet (N,)."""
    return -np.log(response(predictions, model)) / predictions[f"{model}_sigma"].to_numpy(dtype=np.float64)


def _check_model(predictions: pd.DataFrame, model: str) -> None:
    values = {"pt": corrected_pt(predictions, model)}
    if f"{model}_sigma" in predictions:
        values["sigma"] = predictions[f"{model}_sigma"].to_numpy(dtype=np.float64)
    for name, value in values.items():
        absent = np.isnan(value) & (name == "sigma" and model in REGRESSIONS)  # CMS has not regressed each jet
        bad = int((~(np.isfinite(value) & (value > 0)) & ~absent).sum())
        if bad:
            raise InputError(f"predictions: {model}_{name} is not a positive number for {bad} of {len(value)} jets")


def _bins_of(
    predictions: pd.DataFrame,
    correction: str,
    bootstrap: Bootstrap,
    settings: PhysicsSettings,
    standard: Mapping[tuple[str, str], Jets] | None = None,
) -> dict[tuple[str, str], Jets]:
    """The jets of each bin that has enough of them, with one correction beside the standard one."""
    values, flavour = response(predictions, correction), predictions["flavour"].to_numpy()
    found = {}
    for eta_bin, pt_bin in product(ETA_BINS, PT_BINS):
        rows, place = rows_in(predictions, pt_bin, eta_bin), (eta_bin.name, pt_bin.name)
        if len(rows) >= settings.min_jets:
            groups = [rows[flavour[rows] == code] for code in FLAVOURS]
            enough = min(map(len, groups)) >= settings.min_flavour_jets
            found[place] = Jets(
                bootstrap, values, rows, groups if enough else None, standard[place] if standard else None
            )
    return found


def _report(
    predictions: pd.DataFrame, correction: str, bins: Mapping[tuple[str, str], Jets], bootstrap: Bootstrap
) -> dict[str, Any]:
    """One correction's part of metrics.json; the standard correction has no gains over itself."""
    jets = len(predictions)
    mae = estimate(bootstrap.mean(absolute_log_error(predictions, correction), np.arange(jets)), jets)
    report: dict[str, Any] = {"jets": jets, "mae": mae["value"], "mae_error": mae["error"]}
    for metric in binned_metrics():
        if not (metric.gain and correction == "standard"):
            report[metric.name] = _binned(metric, predictions, bins)
    return report


def _binned(metric: Metric, predictions: pd.DataFrame, bins: Mapping[tuple[str, str], Jets]) -> Binned:
    result: Binned = {}
    for eta_bin, pt_bin in product(ETA_BINS, PT_BINS):
        jets = bins.get((eta_bin.name, pt_bin.name))
        replicas = metric.measure(jets) if jets is not None else None
        number = len(rows_in(predictions, pt_bin, eta_bin))
        nothing: Estimate = {"value": None, "error": None, "jets": number}
        result.setdefault(eta_bin.name, {})[pt_bin.name] = nothing if replicas is None else estimate(replicas, number)
    return result


def _uncertainty(predictions: pd.DataFrame, model: str, bootstrap: Bootstrap) -> dict[str, float | None]:
    """How good the predicted per-jet resolution is: median and half the central 68 % of the pull, and coverages."""
    if f"{model}_sigma" not in predictions:
        return {}
    pulls = pull(predictions, model)
    everything = np.flatnonzero(np.isfinite(pulls))
    if not len(everything):
        return {}
    low, median, high = bootstrap.quantiles(pulls, everything, (ONE_SIGMA[0], 0.5, ONE_SIGMA[1])).T
    numbers = {"pull_median": median, "pull_width": (high - low) / 2}
    for name, (limit, _) in COVERAGES.items():
        numbers[name] = bootstrap.mean(np.abs(pulls) < limit, everything)
    result: dict[str, float | None] = {}
    for name, replicas in numbers.items():
        measured = estimate(replicas, len(everything))
        result |= {name: measured["value"], f"{name}_error": measured["error"]}
    return result

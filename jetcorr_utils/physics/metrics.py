"""The numbers of metrics.json: what a model gains over the standard correction, with bootstrap errors.

All are measured on response = corrected pt / generator pt, in bins of the generator's pt and abs(eta):

- resolution = interquartile range / median; resolution gain = 1 - resolution(model) / resolution(standard)
- flavour spread = sum over u, d, s, c, b, g of abs(median - mean of the six medians); flavour gain = 1 - ratio
- flavour reach: the flavour gain that a correction without any flavour dependence would score with as many jets, since
  the spread is a sum of absolute values and so never below its noise
- flavour range = largest - smallest of the six medians
- closure = median - 1

On toys of 2 500 jets (tests/physics/test_metrics.py) the errors of closure and resolution are right to a per cent;
those of the gains, to which resampling adds noise of its own, are a quarter too large.

A bin with too few jets has null for its value and says how many jets there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..config import PhysicsSettings
from ..errors import InputError
from .binning import ETA_BINS, FLAVOURS, PT_BINS, Bin
from .predictions import corrected_pt, response
from .statistics import Bootstrap, Estimate, estimate

__all__ = ["absolute_log_error", "flavour_spread", "measure", "pull", "rows_in"]

Binned = dict[str, dict[str, Estimate]]

#: the 16 % and 84 % quantiles of a normal distribution, to four digits
ONE_SIGMA = (0.1587, 0.8413)


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
    The layout of metrics.json: ``{model: {"resolution_gain": {eta: {pt: {"value", "error", "jets"}}}, "flavour_gain",
    "closure", "mae", "jets", "pull_width", "coverage68", …}, "baseline": {…}}``. Each scalar has its error beside it as
    ``<name>_error``.

    Raises
    ------
    InputError
        If a model is not in the predictions.
    """
    settings = settings or PhysicsSettings()
    for model in models:
        _check_model(predictions, model)
    bootstrap = Bootstrap(predictions, settings.replicas, settings.seed)
    standard = _measure_correction(predictions, "standard", bootstrap, settings)
    result: dict[str, Any] = {"baseline": _report(standard, None)}
    for model in tqdm(models, desc="measure", unit="model", disable=not progress):
        measured = _measure_correction(predictions, model, bootstrap, settings)
        result[model] = _report(measured, standard) | _uncertainty(predictions, model, bootstrap)
    return result


def rows_in(predictions: pd.DataFrame, pt_bin: Bin, eta_bin: Bin) -> NDArray[np.int64]:
    """Indices of the jets in a bin of gen pt (GeV) and abs(gen eta)."""
    inside = pt_bin.contains(predictions["genJetPt"]) & eta_bin.contains(predictions["genJetEta"].abs())
    return np.flatnonzero(inside)


def flavour_spread(medians: NDArray[np.float64]) -> NDArray[np.float64]:
    """The paper's flavour dependence (…,) from medians (…, 6): the sum of their distances from their mean."""
    return np.abs(medians - medians.mean(axis=-1, keepdims=True)).sum(axis=-1)


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
        bad = int((~(np.isfinite(value) & (value > 0))).sum())
        if bad:
            raise InputError(f"predictions: {model}_{name} is not a positive number for {bad} of {len(value)} jets")


def _bins() -> Iterator[tuple[Bin, Bin]]:
    return product(ETA_BINS, PT_BINS)


def _measure_correction(
    predictions: pd.DataFrame, correction: str, bootstrap: Bootstrap, settings: PhysicsSettings
) -> dict[str, Any]:
    """Bootstrapped numbers (1 + R,) of one correction in each bin, None where there are too few jets."""
    values, flavour = response(predictions, correction), predictions["flavour"].to_numpy()
    everything = np.arange(len(values))
    measured: dict[str, Any] = {
        "mae": bootstrap.mean(absolute_log_error(predictions, correction), everything), "bins": {}, "jets": len(values),
    }  # fmt: skip
    for eta_bin, pt_bin in _bins():
        rows = rows_in(predictions, pt_bin, eta_bin)
        entry: dict[str, Any] = dict.fromkeys(("resolution", "median", "spread", "range", "noise")) | {
            "jets": len(rows)
        }
        if len(rows) >= settings.min_jets:
            low, entry["median"], high = bootstrap.quantiles(values, rows, (0.25, 0.5, 0.75)).T
            entry["resolution"] = (high - low) / entry["median"]
            groups = [rows[flavour[rows] == code] for code in FLAVOURS]
            if min(map(len, groups)) >= settings.min_flavour_jets:
                medians = np.stack([bootstrap.median(values, group) for group in groups], axis=-1)
                entry["spread"], entry["range"] = flavour_spread(medians), np.ptp(medians, axis=-1)
                entry["noise"] = _noise(medians)
        measured["bins"][eta_bin.name, pt_bin.name] = entry
    return measured


def _report(measured: dict[str, Any], standard: dict[str, Any] | None) -> dict[str, Any]:
    """One correction's part of metrics.json, with its gains over the standard one if that is given."""
    report: dict[str, Any] = {"jets": measured["jets"]}
    mae = estimate(measured["mae"], measured["jets"])
    report |= {"mae": mae["value"], "mae_error": mae["error"]}
    quantities = ["closure", "resolution", "flavour_spread", "flavour_range"]
    if standard is not None:
        quantities += ["resolution_gain", "flavour_gain", "flavour_reach"]
    for quantity in quantities:
        report[quantity] = _binned(quantity, measured, standard)
    return report


def _binned(quantity: str, measured: dict[str, Any], standard: dict[str, Any] | None) -> Binned:
    result: Binned = {}
    for (eta, pt), entry in measured["bins"].items():
        reference = standard["bins"][eta, pt] if standard is not None else None
        replicas = _quantity(quantity, entry, reference)
        nothing: Estimate = {"value": None, "error": None, "jets": entry["jets"]}
        result.setdefault(eta, {})[pt] = nothing if replicas is None else estimate(replicas, entry["jets"])
    return result


#: the bootstrapped number that each quantity is made of
_SOURCES = {
    "closure": "median", "resolution": "resolution", "resolution_gain": "resolution", "flavour_spread": "spread",
    "flavour_gain": "spread", "flavour_range": "range", "flavour_reach": "noise",
}  # fmt: skip


def _quantity(quantity: str, entry: dict[str, Any], reference: dict[str, Any] | None) -> NDArray[np.float64] | None:
    """The bootstrapped numbers (1 + R,) of a quantity in a bin."""
    source = _SOURCES[quantity]
    values = entry[source]
    if values is None:
        return None
    if quantity == "closure":
        return values - 1
    if quantity == "flavour_reach" and reference is not None:
        return 1 - values / reference["spread"][0]
    if quantity.endswith("_gain") and reference is not None:
        return 1 - values / reference[source]
    return values


def _noise(medians: NDArray[np.float64]) -> NDArray[np.float64]:
    """The flavour spread that statistics alone makes of equal medians: the mean over replicas (entry 0), and each's."""
    fluctuations = flavour_spread(medians[1:] - medians[0])
    return np.concatenate([[fluctuations.mean()], fluctuations])


def _uncertainty(predictions: pd.DataFrame, model: str, bootstrap: Bootstrap) -> dict[str, float | None]:
    """How good the predicted per-jet resolution is: median and half the central 68 % of the pull, and coverages."""
    if f"{model}_sigma" not in predictions:
        return {}
    pulls = pull(predictions, model)
    everything = np.arange(len(pulls))
    low, median, high = bootstrap.quantiles(pulls, everything, (ONE_SIGMA[0], 0.5, ONE_SIGMA[1])).T
    numbers = {"pull_median": median, "pull_width": (high - low) / 2}
    for name, limit in {"coverage68": 1.0, "coverage95": 1.96}.items():
        numbers[name] = bootstrap.mean(np.abs(pulls) < limit, everything)
    result: dict[str, float | None] = {}
    for name, replicas in numbers.items():
        measured = estimate(replicas, len(pulls))
        result |= {name: measured["value"], f"{name}_error": measured["error"]}
    return result

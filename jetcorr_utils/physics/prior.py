"""Prior dependence: how a calibration learned on one pt spectrum does on another.

A network that minimises the absolute error learns the median of gen pt at a given reconstructed jet, and that median
depends on the spectrum it was trained on: on a steeply falling one, a jet of 100 GeV is more often a 90 GeV jet that
fluctuated upwards (arXiv:2205.05084). At a given *gen* pt nothing changes with the spectrum. So the check is made at a
given *corrected* pt, with test jets that are weighted to another spectrum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ..bootstrap import event_keys, poisson_weights, value_and_error
from ..config import PhysicsSettings
from ..style import (
    COLOURS,
    finish_row,
    log_pt_axis,
    note_if_empty,
    pt_range,
    selection_label,
    styled,
    subplots,
    title_of,
)
from .binning import ETA_BINS, PT_EDGES_ABOVE_CUT, filled_bins, selection_text
from .predictions import corrected_pt
from .response_plots import mark_one

__all__ = ["plot_prior_dependence", "prior_profile", "spectrum_weights", "weighted_median"]

#: GeV; at 50 GeV the resolution is a sixth, so that 30 GeV are 2.4 widths away
FULL_ACCEPTANCE = 50.0
_SPECTRUM_BINS = 60


def spectrum_weights(gen_pt: ArrayLike, power: float, full: float = FULL_ACCEPTANCE) -> NDArray[np.float64]:
    """Weights (N,) that give jets a spectrum that falls as pt^-power, of mean 1.

    Parameters
    ----------
    gen_pt
        (N,) GeV. Its own spectrum is taken from a histogram in log(pt).
    power
        Of dN/dpt; 1 is flat in log(pt), CMS's jets fall with about 5.
    full
        Where the cut on the reconstructed pt (30 GeV) no longer takes jets away, GeV. The jets that are left below are
        no measure of the spectrum there, so its density is taken to be that of the first bin above.
    """
    gen_pt = np.asarray(gen_pt, dtype=np.float64)
    log_pt = np.log(np.maximum(gen_pt, full))
    counts, edges = np.histogram(log_pt[gen_pt >= full], _SPECTRUM_BINS, range=(np.log(full), log_pt.max()))
    place = np.clip(np.digitize(log_pt, edges) - 1, 0, _SPECTRUM_BINS - 1)
    # dN/dlog(pt) is pt dN/dpt; within a bin the weight follows the aimed spectrum, too.
    weights = (gen_pt / full) ** (1 - power) / np.maximum(counts[place], 1)
    return weights / weights.mean()


def weighted_median(values: ArrayLike, weights: ArrayLike) -> float:
    """The value below which half of the weight lies, interpolated between jets."""
    values, weights = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    order = np.argsort(values)
    middle = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(0.5 * weights.sum(), middle, values[order]))


def prior_profile(
    predictions: pd.DataFrame,
    correction: str,
    powers: Sequence[float | None],
    settings: PhysicsSettings | None = None,
    *,
    min_jets: int = 100,
) -> pd.DataFrame:
    """Median of corrected over gen pt at a given corrected pt, for several spectra of the test jets.

    Bins are fine ones in corrected pt (GeV).

    Parameters
    ----------
    predictions
        Test jets.
    correction
        ``standard`` or a model.
    powers
        Spectra as pt^-power; None for the spectrum as it is.

    Returns
    -------
    DataFrame with a row for each spectrum and bin: ``power`` (NaN for None), ``low, high, center, jets`` (the effective
    number), ``median, median_error``.
    """
    settings = settings or PhysicsSettings()
    jets = predictions[ETA_BINS[2].contains(predictions["genJetEta"].abs())]
    pt, gen_pt = corrected_pt(jets, correction), jets["genJetPt"].to_numpy(dtype=np.float64)
    keys = event_keys(jets["run"], jets["lumi"], jets["event"])
    # The weighted medians are slower than the others; fifty replicas give the error to a tenth.
    replicas = poisson_weights(keys, min(settings.replicas, 50), settings.seed)
    result = []
    for power in powers:
        weights = np.ones(len(jets)) if power is None else spectrum_weights(gen_pt, power)
        for low, high, rows in filled_bins(pt, PT_EDGES_ABOVE_CUT, 1):
            own = weights[rows]
            effective = own.sum() ** 2 / (own**2).sum()
            if effective < min_jets:
                continue
            response = pt[rows] / gen_pt[rows]
            medians = [weighted_median(response, own * replica[rows]) for replica in replicas]
            row = {"power": power, "low": low, "high": high, "center": np.median(pt[rows]), "jets": effective}
            result.append(row | value_and_error("median", np.array([weighted_median(response, own), *medians])))
    columns = ["power", "low", "high", "center", "jets", "median", "median_error"]
    return pd.DataFrame(result, columns=columns).astype({"power": float})


@styled
def plot_prior_dependence(
    predictions: pd.DataFrame,
    corrections: Sequence[str],
    powers: Sequence[float | None] = (None, 5.0),
    settings: PhysicsSettings | None = None,
) -> Figure:
    """Median response at a given corrected pt, for each spectrum; one panel for each correction."""
    figure, axes = subplots(
        1, len(corrections), sharey=True, figsize=(1.2 + 4.0 * len(corrections), 5.4), squeeze=False
    )
    for ax, correction in zip(axes[0], corrections, strict=True):
        table = prior_profile(predictions, correction, powers, settings)
        note_if_empty(ax, table)
        for power, color, marker in zip(powers, (COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3]), "o^sD", strict=False):
            rows = table[table["power"].isna() if power is None else table["power"] == power]
            label = "Spectrum as simulated" if power is None else rf"Spectrum $p_\mathrm{{T}}^{{-{power:g}}}$"
            ax.errorbar(rows["center"], rows["median"], yerr=rows["median_error"], fmt=marker, color=color, label=label)
        mark_one(ax)
        log_pt_axis(ax, *pt_range(table), label=r"Corrected $p_\mathrm{T}$ [GeV]")
        selection_label(ax, title_of(correction) + "\n" + selection_text(None, ETA_BINS[2]))
    axes[0, 0].set_ylabel("Median response")
    finish_row(axes[0])
    return figure

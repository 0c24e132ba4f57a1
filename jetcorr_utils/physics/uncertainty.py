"""How good the networks' per-jet resolution is: pulls, coverage, and predicted against true resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..bootstrap import Bootstrap, value_and_error
from ..config import PhysicsSettings
from ..style import (
    color_of,
    density_steps,
    draw_points,
    experiment_label,
    finish,
    log_pt_axis,
    note_if_empty,
    pt_range,
    styled,
    subplots,
    title_of,
)
from .binning import PT_EDGES_ABOVE_CUT, filled_bins
from .measurement import COVERAGES, ONE_SIGMA, pull
from .profiles import with_errors

__all__ = ["coverage_profile", "plot_coverage", "plot_predicted_resolution", "plot_pull"]

#: how the points of each share are drawn
_POINTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "coverage68": ("filled: within", {}),
    "coverage95": ("open:", {"label": None, "markerfacecolor": "white"}),
    "coverage99": ("half:", {"label": None, "fillstyle": "top", "markerfacecoloralt": "white"}),
}


def coverage_profile(
    predictions: pd.DataFrame,
    models: Sequence[str],
    settings: PhysicsSettings | None = None,
    *,
    by: str = "genJetPt",
    edges: NDArray[np.float64] = PT_EDGES_ABOVE_CUT,
    min_jets: int = 100,
) -> pd.DataFrame:
    """Pull and coverage of each model in bins of a variable.

    Returns
    -------
    DataFrame with a row for each model and bin: ``model, low, high, center, jets`` and, each with its ``_error``,
    ``pull_mean`` (the median), ``pull_width`` (half the central 68 %), `COVERAGES`, ``true_sigma`` (half the central
    68 % of log(gen pt / corrected pt)) and ``predicted_sigma`` (its median).
    """
    bootstrap, variable = Bootstrap.of(predictions, settings), predictions[by].to_numpy(dtype=np.float64)
    result = []
    for model in models:
        pulls, sigma = pull(predictions, model), predictions[f"{model}_sigma"].to_numpy(dtype=np.float64)
        for low, high, rows in filled_bins(variable, edges, min_jets, np.isfinite(pulls)):
            row = {"model": model, "low": low, "high": high, "center": np.median(variable[rows]), "jets": len(rows)}
            below, middle, above = bootstrap.quantiles(pulls, rows, (ONE_SIGMA[0], 0.5, ONE_SIGMA[1])).T
            true = bootstrap.quantiles(pulls * sigma, rows, ONE_SIGMA)
            numbers = {
                "pull_mean": middle, "pull_width": (above - below) / 2, "true_sigma": (true[:, 1] - true[:, 0]) / 2,
            }  # fmt: skip
            numbers["predicted_sigma"] = bootstrap.median(sigma, rows)
            for name, (limit, _) in COVERAGES.items():
                numbers[name] = bootstrap.mean(np.abs(pulls) < limit, rows)
            for name, replicas in numbers.items():
                row |= value_and_error(name, replicas)
            result.append(row)
    measured = ("pull_mean", "pull_width", "true_sigma", "predicted_sigma", *COVERAGES)
    return pd.DataFrame(result, columns=["model", "low", "high", "center", "jets", *with_errors(measured)])


@styled
def plot_pull(predictions: pd.DataFrame, models: Sequence[str]) -> Figure:
    """Distribution of log(gen pt / corrected pt) over the predicted resolution, beside a standard normal one."""
    figure, ax = subplots()
    x = np.linspace(-5, 5, 201)
    ax.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color="0.5", linestyle="--", label="Normal", zorder=1)
    jets = 0
    for model in models:
        values = pull(predictions, model)
        values = values[np.isfinite(values)]
        jets = max(jets, len(values))
        low, high = np.quantile(values, ONE_SIGMA)
        title = f"{title_of(model)}, width {(high - low) / 2:.2f}"
        density_steps(ax, values, -5, 5, color=color_of(model, models), label=title)
    ax.set(xlim=(-5, 5), ylabel="Probability density")
    ax.set_xlabel(r"Pull $\ln(p_\mathrm{T}^\mathrm{gen}/p_\mathrm{T}^\mathrm{corr})\,/\,\sigma$")
    ax.set_ylim(bottom=0)
    finish(ax, f"{jets:,} jets".replace(",", " "))
    return figure


@styled
def plot_coverage(predictions: pd.DataFrame, models: Sequence[str], settings: PhysicsSettings | None = None) -> Figure:
    """Shares of jets within some predicted standard deviations, see `COVERAGES`, in bins of gen pt."""
    table = coverage_profile(predictions, models, settings)
    figure, ax = subplots()
    for name, (_, expected) in COVERAGES.items():
        ax.axhline(expected, color="0.5", linestyle="--", linewidth=1, zorder=0)
        ax.axhspan(expected - 0.01, expected + 0.01, color="0.9", zorder=0)
        for model in models:
            rows = table[table["model"] == model]
            draw_points(ax, model, models, rows["center"], rows[name], rows[f"{name}_error"], **_POINTS[name][1])
    log_pt_axis(ax, *pt_range(table))
    note_if_empty(ax, table)
    ax.set_ylabel("Coverage")
    ax.set_ylim(0.6, 1.01)
    limits = ", ".join(rf"{_POINTS[name][0]} ${limit:.3g}\,\sigma$" for name, (limit, _) in COVERAGES.items())
    finish(ax, f"{limits}\n" + r"bands: nominal $\pm 1\%$", room=0.2)
    return figure


@styled
def plot_predicted_resolution(
    predictions: pd.DataFrame, models: Sequence[str], settings: PhysicsSettings | None = None, bins: int = 10
) -> Figure:
    """True against predicted resolution of jets in groups of like prediction; a good one lies on the diagonal."""
    figure, ax = subplots(figsize=(7.0, 6.8))
    largest = 0.0
    for model in models:
        sigma = predictions[f"{model}_sigma"].to_numpy(dtype=np.float64)
        edges = np.nanquantile(sigma, np.linspace(0, 1, bins + 1))
        edges[-1] *= 1 + 1e-9
        table = coverage_profile(predictions, [model], settings, by=f"{model}_sigma", edges=edges, min_jets=20)
        draw_points(ax, model, models, table["predicted_sigma"], table["true_sigma"], table["true_sigma_error"])
        if len(table):
            largest = max(largest, table["predicted_sigma"].max(), table["true_sigma"].max())
    note_if_empty(ax, table)
    largest = largest or 0.3
    ax.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, zorder=0)
    ax.set(xlim=(0, 1.15 * largest), ylim=(0, 1.15 * largest))
    ax.set(xlabel="Predicted resolution (median)", ylabel="True resolution (half of the central 68 %)")
    if len(table):
        ax.legend(loc="upper left")
    experiment_label(ax)
    return figure

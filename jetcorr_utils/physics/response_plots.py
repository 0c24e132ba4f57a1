"""Figures of response and resolution: each function takes the predictions and returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..config import PhysicsSettings
from ..metrics import METRICS, Metric
from ..style import (
    axis_of_names,
    color_of,
    density_steps,
    draw_points,
    experiment_label,
    figure_with_ratio,
    finish,
    finish_row,
    legend,
    log_pt_axis,
    marker_of,
    note_if_empty,
    pt_range,
    room_on_top,
    selection_label,
    styled,
    subplots,
    title_of,
)
from .binning import ETA_BINS, PT_BINS, PT_EDGES_ABOVE_CUT, Bin, bin_text, selection_text
from .gains_table import measured_models
from .predictions import response
from .profiles import TAIL, profile

__all__ = [
    "draw_profile", "mark_one", "plot_gain", "plot_median_response", "plot_residual_closure", "plot_resolution",
    "plot_response_distribution", "plot_width_and_tails",
]  # fmt: skip

APART = 0.1
"""Of a bin's width: between the points of two corrections."""
ZOOM = 0.03
"""Of the panel that shows closure near one."""


@styled
def plot_response_distribution(
    predictions: pd.DataFrame, corrections: Sequence[str], pt_bin: Bin = PT_BINS[0], eta_bin: Bin = ETA_BINS[2]
) -> Figure:
    """Distribution of the response in a bin of gen pt and abs(eta), normalised, with statistical errors."""
    inside = pt_bin.contains(predictions["genJetPt"]) & eta_bin.contains(predictions["genJetEta"].abs())
    jets = predictions[inside]
    figure, ax = subplots()
    values = {name: response(jets, name) for name in corrections}
    low, high = _response_range(values["standard"] if "standard" in values else next(iter(values.values())))
    for name, numbers in values.items():
        density_steps(ax, numbers, low, high, color=color_of(name, corrections), label=title_of(name))
    ax.axvline(1, color="0.6", linestyle="--", linewidth=1, zorder=0)
    ax.set(xlabel=r"Response $p_\mathrm{T}^\mathrm{corr}\,/\,p_\mathrm{T}^\mathrm{gen}$", ylabel="Probability density")
    ax.set_xlim(low, high)
    ax.set_ylim(bottom=0)
    finish(ax, selection_text(pt_bin, eta_bin) + f"\n{len(jets):,} jets".replace(",", " "), room=0.2)
    return figure


@styled
def plot_median_response(
    predictions: pd.DataFrame,
    corrections: Sequence[str],
    eta_bin: Bin = ETA_BINS[2],
    settings: PhysicsSettings | None = None,
) -> Figure:
    """Median response against gen pt with bootstrap errors, below it enlarged; the band is ±1 %.

    Medians beyond ±15 % are not shown.
    """
    figure, main, near = figure_with_ratio()
    table = profile(predictions, corrections, settings, edges=PT_EDGES_ABOVE_CUT, eta_bin=eta_bin)
    table = table[table["median"].between(0.85, 1.15)]
    draw_profile(main, table, "median", corrections)
    zoomed = table[~table["correction"].isin(["raw", "l1"]) & table["median"].between(1 - ZOOM, 1 + ZOOM)]
    draw_profile(near, zoomed, "median", corrections)
    for ax in (main, near):
        mark_one(ax)
    log_pt_axis(near, *pt_range(table))
    main.set_xlabel("")
    main.set_ylabel("Median response")
    near.set_ylabel("Median\nresponse", fontsize=15)
    near.set_ylim(1 - ZOOM, 1 + ZOOM)
    finish(main, selection_text(None, eta_bin))
    return figure


@styled
def plot_residual_closure(
    predictions: pd.DataFrame,
    corrections: Mapping[str, str],
    eta_bin: Bin = ETA_BINS[2],
    settings: PhysicsSettings | None = None,
) -> Figure:
    """Median response against gen pt before (open) and after (full) a residual correction, a panel for each.

    `corrections` are the names after it, by those before.
    """
    names = [*corrections, *corrections.values()]
    table = profile(predictions, names, settings, edges=PT_EDGES_ABOVE_CUT, eta_bin=eta_bin)
    table = table[table["median"].between(0.85, 1.15)]
    figure, axes = subplots(
        1, len(corrections), sharey=True, figsize=(1.5 + 4.6 * len(corrections), 5.6), squeeze=False
    )
    for ax, (before, after) in zip(axes[0], corrections.items(), strict=True):
        for name, label, filled in ((before, "Before", "none"), (after, "After", "full")):
            rows = table[table["correction"] == name]
            look = {"color": color_of(before), "fmt": marker_of(before), "label": label, "fillstyle": filled}
            draw_points(ax, before, [before], rows["center"], rows["median"], rows["median_error"], **look)
        mark_one(ax)
        log_pt_axis(ax, *pt_range(table))
        selection_label(ax, title_of(before))
    axes[0, 0].set_ylabel("Median response")
    finish(axes[0, 0], key=axes[0, -1], right="")
    axes[0, -1].set_title(selection_text(None, eta_bin), loc="right", fontsize=15)
    return figure


def mark_one(ax: Axes, band: float = 0.01) -> None:
    """A dashed line at one, and a grey band around it."""
    ax.axhspan(1 - band, 1 + band, color="0.9", zorder=0)
    ax.axhline(1, color="0.6", linestyle="--", linewidth=1, zorder=0)


@styled
def plot_resolution(
    predictions: pd.DataFrame,
    corrections: Sequence[str],
    eta_bin: Bin = ETA_BINS[2],
    settings: PhysicsSettings | None = None,
) -> Figure:
    """Resolution (IQR / median) against gen pt, and its ratio to the standard correction with paired errors."""
    figure, main, ratio = figure_with_ratio()
    table = profile(predictions, corrections, settings, edges=PT_EDGES_ABOVE_CUT, eta_bin=eta_bin)
    draw_profile(main, table, "resolution", corrections)
    draw_profile(ratio, table[table["correction"] != "standard"], "ratio", corrections)
    ratio.axhline(1, color="0.4", linestyle="--", linewidth=1, zorder=0)
    log_pt_axis(ratio, *pt_range(table))
    main.set_xlabel("")
    main.set_ylabel("IQR / median of the response")
    main.set_ylim(bottom=0)
    room_on_top(main, 0.1)
    ratio.set_ylabel(f"Ratio to\n{title_of('standard')}", fontsize=15)
    low, high = ratio.get_ylim()
    ratio.set_ylim(max(low, 0.7) - 0.01, min(max(high, 1.0), 1.2) + 0.02)
    selection_label(main, selection_text(None, eta_bin), x=0.3)
    legend(main)
    experiment_label(main)
    return figure


@styled
def plot_width_and_tails(
    predictions: pd.DataFrame,
    corrections: Sequence[str],
    eta_bin: Bin = ETA_BINS[2],
    settings: PhysicsSettings | None = None,
) -> Figure:
    """Effective Gaussian width of the response against gen pt, and the share of jets in the tails, see `profile`."""
    figure, main, lower = figure_with_ratio()
    table = profile(predictions, corrections, settings, edges=PT_EDGES_ABOVE_CUT, eta_bin=eta_bin, min_jets=100)
    draw_profile(main, table, "effective_sigma", corrections)
    percent = table.assign(tail=100 * table["tail"], tail_error=100 * table["tail_error"])
    draw_profile(lower, percent, "tail", corrections)
    lower.axhline(1.24, color="0.5", linestyle="--", linewidth=1, zorder=0)
    log_pt_axis(lower, *pt_range(table))
    main.set_xlabel("")
    main.set_ylabel(r"$\sigma_\mathrm{eff}$ / median of the response")
    main.set_ylim(bottom=0)
    lower.set_ylabel("Tails [%]", fontsize=15)
    lower.set_ylim(bottom=0)
    definition = (
        f"Tails: |R − 1| beyond {TAIL:g} σ of {title_of('standard')},\n"
        "σ = IQR / (1.349 median); dashed: 1.2 %, a Gaussian of this σ"
    )
    main.text(0.04, 0.04, definition, transform=main.transAxes, fontsize=13, linespacing=1.4)
    finish(main, selection_text(None, eta_bin), x=0.3, room=0.1)
    return figure


@styled
def plot_gain(
    metrics: Mapping[str, Any], quantity: str = "resolution_gain", models: Sequence[str] | None = None
) -> Figure:
    """A metric, such as a gain, in each bin of gen pt, one panel for each range of abs(eta)."""
    models = list(models) if models is not None else measured_models(metrics)
    metric, etas = METRICS[quantity], list(metrics[models[0]][quantity])
    figure, axes = subplots(1, len(etas), sharey=True, figsize=(4.4 * len(etas), 7.2), squeeze=False)
    offsets = np.linspace(-0.18, 0.18, len(models)) if len(models) > 1 else [0.0]
    for ax, eta in zip(axes[0], etas, strict=True):
        pt_bins = list(metrics[models[0]][quantity][eta])
        for model, offset in zip(models, offsets, strict=True):
            entries = [metrics[model][quantity][eta][pt] for pt in pt_bins]
            known = [number for number, entry in enumerate(entries) if entry["value"] is not None]
            values, errors = ([metric.scale * (entries[n][key] or 0) for n in known] for key in ("value", "error"))
            draw_points(ax, model, models, np.array(known) + offset, values, errors, capsize=3)
        if metric.reach:
            _mark_reach(ax, metrics[models[0]].get(metric.reach, {}).get(eta, {}), metric, pt_bins)
        ax.axvline(0.5, ymax=0.75, color="0.8", linewidth=1, zorder=0)
        ax.axhline(0, color="0.4", linestyle="--", linewidth=1, zorder=0)
        axis_of_names(ax, [*map(bin_text, pt_bins)], margin=0, rotation=30)
        low, high = eta.split("-")
        selection_label(ax, selection_text(None, Bin(float(low), float(high))))
    over = f" over {title_of('standard')} ["
    axes[0, 0].set_ylabel(metric.label.replace(" [", over) if metric.gain else metric.label)
    axes[0, -1].set_xlabel(r"$p_\mathrm{T}^\mathrm{gen}$ [GeV]")
    finish_row(axes[0])
    return figure


def _mark_reach(ax: Axes, reach: Mapping[str, Any], metric: Metric, pt_bins: Sequence[str]) -> None:
    """A grey line in each bin at the gain of a correction without flavour dependence, whose medians differ by noise."""
    known = [
        (place, reach[pt]["value"]) for place, pt in enumerate(pt_bins) if reach.get(pt, {}).get("value") is not None
    ]
    for number, (place, value) in enumerate(known):
        label = "Noise alone" if number == 0 else None
        ax.plot([place - 0.32, place + 0.32], [metric.scale * value] * 2, color="0.55", linewidth=2, label=label)


def draw_profile(ax: Axes, table: pd.DataFrame, column: str, corrections: Sequence[str]) -> None:
    """Points with error bars, a colour and a marker for each correction; says so if there are none.

    They stand a little aside of each other, so that none is hidden.
    """
    note_if_empty(ax, table)
    shown = [name for name in corrections if (table["correction"] == name).any()]
    for number, name in enumerate(shown):
        rows = table[table["correction"] == name]
        aside = APART * (number - (len(shown) - 1) / 2) * (rows["high"] - rows["low"])
        draw_points(ax, name, corrections, rows["center"] + aside, rows[column], rows[f"{column}_error"])


def _response_range(values: np.ndarray) -> tuple[float, float]:
    """A symmetric range around 1 that holds nearly all of the standard correction's responses, in steps of 0.05."""
    half = np.quantile(np.abs(values - 1), 0.99) if len(values) else 0.5
    half = float(np.clip(np.ceil(half * 20) / 20, 0.1, 0.9))
    return 1 - half, 1 + half

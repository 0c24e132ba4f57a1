"""Figures that compare trainings: what limits the gain, the frontier over the flavour weight, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..metrics import METRICS
from ..style import (
    COLOURS,
    axis_of_names,
    color_of,
    draw_points,
    experiment_label,
    finish,
    finish_row,
    selection_label,
    styled,
    subplots,
    title_of,
)
from .binning import ETA_BINS, PT_BINS, WIDEST, bin_text, selection_text

__all__ = ["plot_frontier", "plot_learning_curve", "plot_limits", "plot_variations"]

#: the gains of the thesis in the inclusive bin, %: resolution, flavour
THESIS = (12.2, 68.0)

#: colour and marker of what is no network, by how its name begins
KINDS = {"trees": (COLOURS[1], "^"), "oracle": ("black", "s")}

GAINS = ("resolution_gain", "flavour_gain")

#: the text of the widest bin
SELECTION = selection_text(PT_BINS[0], ETA_BINS[2])


@styled
def plot_limits(metrics: Mapping[str, Any], models: Sequence[str]) -> Figure:
    """Resolution and flavour gain of networks, trees and oracles in the widest bin, one line and one name for each.

    Colour and marker tell the three kinds apart.
    """
    figure, axes = subplots(1, 2, sharey=True, figsize=(11.5, 2.0 + 0.55 * len(models)))
    for ax, quantity in zip(axes, GAINS, strict=True):
        for row, model in enumerate(models):
            value, error = _percent(metrics, model, quantity)
            if value is not None:
                colour, marker = KINDS.get(model.partition("_")[0], (COLOURS[0], "o"))
                draw_points(ax, model, models, value, row, None, xerr=error, capsize=3, color=colour, fmt=marker)
        ax.axvline(0, color="0.4", linestyle="--", linewidth=1, zorder=0)
        ax.set_xlabel(METRICS[quantity].label)
        ax.grid(axis="y", color="0.9")
        ax.tick_params(axis="y", which="both", length=0)
    axes[0].set_yticks(range(len(models)), [title_of(model) for model in models])
    axes[0].set_ylim(len(models) - 0.4, -0.6)
    experiment_label(axes[0], right="")
    axes[1].set_title(SELECTION.replace("\n", ", "), loc="right", fontsize=15)
    return figure


@styled
def plot_frontier(metrics: Mapping[str, Any], weights: Mapping[str, float]) -> Figure:
    """Resolution gain against flavour gain of trainings that differ in the weight λ of the flavour-neutral term.

    The flavour gain of ``oracle_flavour`` is drawn as a line, where there is one: what can be reached with this many
    jets.

    Parameters
    ----------
    metrics
        As `measure` returns them, `with_settings`.
    weights
        λ of each model that is shown, see `frontier_weights`; those of the same architecture and inputs are joined by
        a line, which is named after the one of least λ.
    """
    figure, ax = subplots()
    joined: dict[Any, list[str]] = {}
    for model in sorted(weights, key=lambda name: weights[name]):
        joined.setdefault((metrics[model]["architecture"], *metrics[model]["inputs"]), []).append(model)
    families = {models[0]: models for models in joined.values()}
    for number, (family, models) in enumerate(families.items()):
        points = []
        for name in models:
            flavour, resolution = (_percent(metrics, name, quantity) for quantity in reversed(GAINS))
            points.append((*flavour, *resolution, name))
        points = [point for point in points if point[0] is not None and point[2] is not None]
        x, dx, y, dy, names = zip(*points, strict=True) if points else ((),) * 5
        draw_points(ax, family, list(families), x, y, dy, xerr=dx, linestyle="-", linewidth=1)
        # beyond the error bars: below those of one half of the families, above those of the other, which may lie near
        side, where = (-1, "top") if number < len(families) / 2 else (1, "bottom")
        for place_x, place_y, error, name in zip(x, y, dy, names, strict=True):
            ax.annotate(
                rf"$\lambda = {weights[name]:g}$", (place_x, place_y + side * error), xytext=(0, 3 * side),
                textcoords="offset points", ha="center", va=where, fontsize=13, color=color_of(family, list(families)),
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )  # fmt: skip
    reach = _percent(metrics, "oracle_flavour", "flavour_gain")[0] if "oracle_flavour" in metrics else None
    if reach is not None:
        ax.axvline(reach, ymax=0.72, color="0.5", linestyle=":", label="True flavour known")
    ax.plot(THESIS[1], THESIS[0], "*", color="0.4", markersize=13, label="Thesis (CMS simulation)")
    ax.set(xlabel=METRICS["flavour_gain"].label, ylabel=METRICS["resolution_gain"].label)
    ax.margins(0.15)
    finish(ax, SELECTION)
    return figure


@styled
def plot_learning_curve(curve: pd.DataFrame) -> Figure:
    """Resolution gain in the widest bin against the number of training jets.

    Parameters
    ----------
    curve
        A row for each training, with ``model, jets, resolution_gain, resolution_gain_error`` (fractions, not %).
    """
    figure, ax = subplots()
    models = list(dict.fromkeys(curve["model"]))
    for model in models:
        rows = curve[curve["model"] == model].sort_values("jets")
        gain, error = 100 * rows["resolution_gain"], 100 * rows["resolution_gain_error"]
        draw_points(ax, model, models, rows["jets"], gain, error, linestyle="-", linewidth=1)
    ax.set_xscale("log")
    ax.set(xlabel="Training jets", ylabel=METRICS["resolution_gain"].label)
    ax.axhline(0, color="0.4", linestyle="--", linewidth=1, zorder=0)
    finish(ax, SELECTION)
    return figure


@styled
def plot_variations(variations: Mapping[str, Mapping[str, Any]], models: Sequence[str], quantity: str) -> Figure:
    """What of the gain survives where the test jets differ from those of the training; one panel for each model.

    In bins of gen pt only: where a study has slices (``data.simulation.slices``), all jets have another spectrum.

    Parameters
    ----------
    variations
        Metrics by what was changed in the test jets, for example ``{"nominal": …, "another shower": …}``.
    models
        Which models to show.
    quantity
        ``resolution_gain`` or another metric.
    """
    figure, axes = subplots(1, len(models), sharey=True, figsize=(1.5 + 5.4 * len(models), 6.0), squeeze=False)
    offsets = [0.6 * ((number + 0.5) / len(variations) - 0.5) for number in range(len(variations))]
    for ax, model in zip(axes[0], models, strict=True):
        for number, (name, metrics) in enumerate(variations.items()):
            pt_bins = [pt.name for pt in PT_BINS[1:]]
            numbers = [_percent(metrics, model, quantity, pt) for pt in pt_bins]
            known = [place for place, (value, _) in enumerate(numbers) if value is not None]
            color, marker = (
                ("black", "s") if number == 0 else (COLOURS[(number - 1) % 10], "o^Dv<>pP"[(number - 1) % 8])
            )
            ax.errorbar(
                [place + offsets[number] for place in known], [numbers[place][0] for place in known],
                yerr=[numbers[place][1] for place in known], fmt=marker, color=color, label=name, capsize=3,
            )  # fmt: skip
        ax.axhline(0, color="0.4", linestyle="--", linewidth=1, zorder=0)
        axis_of_names(ax, [*map(bin_text, pt_bins)], margin=0, rotation=30)
        ax.set_xlabel(r"$p_\mathrm{T}^\mathrm{gen}$ [GeV]")
        selection_label(ax, f"{title_of(model)}\n{selection_text(None, ETA_BINS[2])}")
    axes[0, 0].set_ylabel(METRICS[quantity].label)
    finish_row(axes[0])
    return figure


def _percent(metrics: Mapping[str, Any], model: str, quantity: str, pt: str = WIDEST[1]) -> tuple[float | None, float]:
    entry = metrics[model][quantity][WIDEST[0]][pt]
    if entry["value"] is None:
        return None, 0.0
    scale = METRICS[quantity].scale
    return scale * entry["value"], scale * (entry["error"] or 0.0)

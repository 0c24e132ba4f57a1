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
from .binning import PT_BINS, Bin, selection_text
from .gains_table import measured_models

__all__ = ["plot_frontier", "plot_learning_curve", "plot_limits", "plot_variations"]

#: the gains of the thesis in the inclusive bin, %: resolution, flavour
THESIS = (12.2, 68.0)

#: colour and marker of what is no network, by how its name begins
KINDS = {"trees": (COLOURS[1], "^"), "oracle": ("black", "s")}

GAINS = ("resolution_gain", "flavour_gain")


@styled
def plot_limits(
    metrics: Mapping[str, Any], models: Sequence[str] | None = None, *, eta: str = "0-2.5", pt: str = "30-inf"
) -> Figure:
    """Resolution and flavour gain of networks, trees and oracles in one bin, one line and one name for each.

    Colour and marker tell the three kinds apart.
    """
    models = list(models) if models is not None else measured_models(metrics)
    figure, axes = subplots(1, 2, sharey=True, figsize=(11.5, 2.0 + 0.55 * len(models)))
    for ax, quantity in zip(axes, GAINS, strict=True):
        for row, model in enumerate(models):
            value, error = _percent(metrics, model, quantity, eta, pt)
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
    axes[1].set_title(_bin_text(eta, pt).replace("\n", ", "), loc="right", fontsize=15)
    return figure


@styled
def plot_frontier(
    metrics: Mapping[str, Any],
    weights: Mapping[str, float],
    *,
    eta: str = "0-2.5",
    pt: str = "30-inf",
    oracle: str = "oracle_flavour",
) -> Figure:
    """Resolution gain against flavour gain of trainings that differ in the weight λ of the flavour-neutral term.

    Parameters
    ----------
    metrics
        As `measure` returns them, `with_settings`.
    weights
        λ of each model that is shown, see `frontier_weights`; those of the same architecture and inputs are joined by
        a line, which is named after the one of least λ.
    eta, pt
        The bin.
    oracle
        An entry of the metrics whose flavour gain is drawn as a line: what can be reached with this many jets.
    """
    figure, ax = subplots()
    joined: dict[Any, list[str]] = {}
    for model in sorted(weights, key=lambda name: weights[name]):
        joined.setdefault((metrics[model]["architecture"], *metrics[model]["inputs"]), []).append(model)
    families = {models[0]: models for models in joined.values()}
    for number, (family, models) in enumerate(families.items()):
        points = []
        for name in models:
            flavour, resolution = (_percent(metrics, name, quantity, eta, pt) for quantity in reversed(GAINS))
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
    if oracle in metrics and _percent(metrics, oracle, "flavour_gain", eta, pt)[0] is not None:
        reach = _percent(metrics, oracle, "flavour_gain", eta, pt)[0]
        ax.axvline(reach, ymax=0.72, color="0.5", linestyle=":", label="True flavour known")
    ax.plot(THESIS[1], THESIS[0], "*", color="0.4", markersize=13, label="Thesis (CMS simulation)")
    ax.set(xlabel=METRICS["flavour_gain"].label, ylabel=METRICS["resolution_gain"].label)
    ax.margins(0.15)
    finish(ax, _bin_text(eta, pt))
    return figure


@styled
def plot_learning_curve(curve: pd.DataFrame, *, eta: str = "0-2.5", pt: str = "30-inf") -> Figure:
    """Resolution gain against the number of training jets.

    Parameters
    ----------
    curve
        A row for each training, with ``model, jets, resolution_gain, resolution_gain_error`` (fractions, not %).
    eta, pt
        The bin that the gains are measured in.
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
    finish(ax, _bin_text(eta, pt))
    return figure


@styled
def plot_variations(
    variations: Mapping[str, Mapping[str, Any]],
    models: Sequence[str] | None = None,
    *,
    quantity: str = "resolution_gain",
    eta: str = "0-2.5",
) -> Figure:
    """What of the gain survives where the test jets differ from those of the training; one panel for each model.

    In bins of gen pt only: where a study has slices (``data.simulation.slices``), all jets have another spectrum.

    Parameters
    ----------
    variations
        Metrics by what was changed in the test jets, for example ``{"nominal": …, "another shower": …}``.
    models
        Which models to show; default: those of the first variation.
    quantity, eta
        ``resolution_gain`` or ``flavour_gain``, and the range in abs(eta).
    """
    models = list(models) if models is not None else measured_models(next(iter(variations.values())))
    figure, axes = subplots(1, len(models), sharey=True, figsize=(1.5 + 5.4 * len(models), 6.0), squeeze=False)
    offsets = [0.6 * ((number + 0.5) / len(variations) - 0.5) for number in range(len(variations))]
    for ax, model in zip(axes[0], models, strict=True):
        for number, (name, metrics) in enumerate(variations.items()):
            pt_bins = [pt.name for pt in PT_BINS[1:]]
            numbers = [_percent(metrics, model, quantity, eta, pt) for pt in pt_bins]
            known = [place for place, (value, _) in enumerate(numbers) if value is not None]
            color, marker = (
                ("black", "s") if number == 0 else (COLOURS[(number - 1) % 10], "o^Dv<>pP"[(number - 1) % 8])
            )
            ax.errorbar(
                [place + offsets[number] for place in known], [numbers[place][0] for place in known],
                yerr=[numbers[place][1] for place in known], fmt=marker, color=color, label=name, capsize=3,
            )  # fmt: skip
        ax.axhline(0, color="0.4", linestyle="--", linewidth=1, zorder=0)
        labels = [pt.replace("-inf", "+").replace("-", "–") for pt in pt_bins]
        ax.set_xticks(range(len(pt_bins)), labels, rotation=30)
        ax.tick_params(axis="x", which="minor", bottom=False, top=False)
        ax.set_xlim(-0.5, len(pt_bins) - 0.5)
        ax.set_xlabel(r"$p_\mathrm{T}^\mathrm{gen}$ [GeV]")
        selection_label(ax, f"{title_of(model)}\n{selection_text(None, Bin(*map(float, eta.split('-'))))}")
    axes[0, 0].set_ylabel(METRICS[quantity].label)
    finish_row(axes[0])
    return figure


def _percent(metrics: Mapping[str, Any], model: str, quantity: str, eta: str, pt: str) -> tuple[float | None, float]:
    entry = metrics[model][quantity][eta][pt]
    if entry["value"] is None:
        return None, 0.0
    scale = METRICS[quantity].scale
    return scale * entry["value"], scale * (entry["error"] or 0.0)


def _bin_text(eta: str, pt: str) -> str:
    bins = [Bin(*map(float, name.split("-"))) for name in (pt, eta)]
    return selection_text(*bins)

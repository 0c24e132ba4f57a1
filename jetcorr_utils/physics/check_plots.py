"""Figures of the response against all that a good correction does not depend on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ..config import PhysicsSettings
from ..style import figure_with_ratio, finish, log_pt_axis, pt_range, styled, subplots
from .binning import PT_BINS, selection_text
from .profiles import profile
from .response_plots import draw_profile, mark_one

__all__ = ["CHECKS", "plot_median_against", "plot_response_checks"]

#: variables that the response is checked against: branch → label, unit included
CHECKS = {
    "jetPt": r"Reconstructed $p_\mathrm{T}$ [GeV]", "jetEta": r"$\eta$", "rhoAll": r"$\rho$ [GeV]",
    "PV_npvsGood": r"$N_\mathrm{PV}$", "QG_mult": "Multiplicity", "QG_ptD": r"$p_\mathrm{T}D$",
}  # fmt: skip


@styled
def plot_median_against(
    predictions: pd.DataFrame,
    corrections: Sequence[str],
    by: str,
    edges: Sequence[float],
    label: str,
    settings: PhysicsSettings | None = None,
) -> Figure:
    """Median response and resolution above 30 GeV of gen pt against a variable, like ``rhoAll`` (label with unit)."""
    figure, main, lower = figure_with_ratio()
    distinct = _distinct(edges)
    table = profile(predictions, corrections, settings, by=by, edges=distinct, pt_bin=PT_BINS[0])
    draw_profile(main, table, "median", corrections)
    draw_profile(lower, table, "resolution", corrections)
    mark_one(main)
    main.set_ylabel("Median response")
    lower.set_ylabel("IQR / median", fontsize=15)
    lower.set_xlabel(label)
    lower.set_xlim(distinct[0], distinct[-1])
    finish(main, selection_text(PT_BINS[0]), room=0.3)
    return figure


@styled
def plot_response_checks(
    predictions: pd.DataFrame,
    corrections: Sequence[str],
    settings: PhysicsSettings | None = None,
) -> Figure:
    """Median response against all that a correction should not depend on, one panel for each variable there is."""
    shown = {name: label for name, label in CHECKS.items() if name in predictions}
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = subplots(rows, columns, sharey=True, figsize=(4.9 * columns, 4.4 * rows), squeeze=False)
    for ax, (name, label) in zip(axes.flat, shown.items(), strict=False):
        edges = _distinct(np.quantile(predictions[name], np.linspace(0.005, 0.995, 9)))
        table = profile(predictions, corrections, settings, by=name, edges=edges, pt_bin=PT_BINS[0])
        draw_profile(ax, table, "median", corrections)
        mark_one(ax)
        if name == "jetPt":
            log_pt_axis(ax, *pt_range(table), label=label)
        ax.set_xlabel(label)
    for ax in axes[:, 0]:
        ax.set_ylabel("Median response")
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    key, right = axes[0, columns - 1], "" if columns > 1 else "13 TeV"
    finish(axes[0, 0], selection_text(PT_BINS[0]), room=0.3, key=key, right=right)
    return figure


def _distinct(edges: ArrayLike) -> NDArray[np.float64]:
    """Edges without those that repeat; one bin around the value of a variable that is the same for all jets."""
    distinct = np.unique(np.asarray(edges, dtype=np.float64))
    return distinct if len(distinct) > 1 else distinct[0] + np.array([-0.5, 0.5])

"""Figures of the flavour dependence: the response of u, d, s, c, b and gluon jets, and their differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..config import PhysicsSettings
from ..style import axis_of_names, draw_points, finish, log_pt_axis, note_if_empty, pt_range, styled, subplots
from .binning import ETA_BINS, FLAVOURS, PT_BINS, Bin, selection_text
from .profiles import flavour_medians, flavour_profile
from .response_plots import mark_one

__all__ = ["plot_flavour_difference", "plot_flavour_response"]


@styled
def plot_flavour_response(
    predictions: pd.DataFrame,
    corrections: Sequence[str],
    pt_bin: Bin = PT_BINS[0],
    eta_bin: Bin = ETA_BINS[2],
    settings: PhysicsSettings | None = None,
) -> Figure:
    """Median response of each flavour in a bin of gen pt and abs(eta); the band is ±1 %."""
    figure, ax = subplots()
    table = flavour_medians(predictions, corrections, settings, pt_bin=pt_bin, eta_bin=eta_bin)
    names = list(FLAVOURS.values())
    offsets = np.linspace(-0.24, 0.24, len(corrections)) if len(corrections) > 1 else [0.0]
    for correction, offset in zip(corrections, offsets, strict=True):
        rows = table[table["correction"] == correction]
        places = [names.index(name) + offset for name in rows["flavour"]]
        draw_points(ax, correction, corrections, places, rows["median"], rows["median_error"])
    note_if_empty(ax, table)
    mark_one(ax)
    axis_of_names(ax, names)
    ax.set(xlabel="Jet flavour", ylabel="Median response")
    finish(ax, selection_text(pt_bin, eta_bin), room=0.28)
    return figure


@styled
def plot_flavour_difference(
    predictions: pd.DataFrame,
    corrections: Sequence[str],
    first: Sequence[str] = ("u", "d", "s"),
    second: Sequence[str] = ("g",),
    eta_bin: Bin = ETA_BINS[2],
    settings: PhysicsSettings | None = None,
) -> Figure:
    """Difference between the median responses of two groups of flavours against gen pt, with paired errors."""
    figure, ax = subplots()
    edges = np.geomspace(30, 3000, 10)
    table = flavour_profile(
        predictions, corrections, settings, first=first, second=second, edges=edges, eta_bin=eta_bin
    )
    for number, correction in enumerate(corrections):
        rows = table[table["correction"] == correction]
        shift = 1 + 0.03 * (number - (len(corrections) - 1) / 2)
        draw_points(ax, correction, corrections, rows["center"] * shift, rows["difference"], rows["difference_error"])
    ax.axhline(0, color="0.6", linestyle="--", linewidth=1, zorder=0)
    log_pt_axis(ax, *pt_range(table))
    note_if_empty(ax, table)
    groups = ["".join(first), "".join(second)]
    ax.set_ylabel(rf"$R_\mathrm{{{groups[0]}}} - R_\mathrm{{{groups[1]}}}$ (medians)")
    finish(ax, selection_text(None, eta_bin))
    return figure

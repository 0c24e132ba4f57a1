"""Figures where a jet expert looks, drawn from the tables of `fine_bins`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..config import PhysicsSettings
from ..style import (
    color_of,
    density_steps,
    draw_points,
    experiment_label,
    finish,
    finish_row,
    log_pt_axis,
    note_if_empty,
    pt_range,
    selection_label,
    styled,
    subplots,
    title_of,
)
from .binning import FLAVOUR_GROUPS, PT_BINS, selection_text
from .fine_bins import GAUSSIAN_IQR, TERMS, VARIABLES, WIDE_ETA_EDGES, WIDE_PT_EDGES, resolution_of
from .predictions import response
from .prior import FULL_ACCEPTANCE
from .profiles import profile
from .response_plots import draw_profile, mark_one

__all__ = [
    "plot_closure_map", "plot_dependence", "plot_dijet_mass", "plot_factor", "plot_fine_eta", "plot_flavour_profiles",
    "plot_resolution_terms", "plot_sigma_calibration",
]  # fmt: skip

MAP_RANGE = 5.0
"""Of the colours of the map, per cent."""
MASS_EDGES = np.geomspace(60, 6000, 13)
"""Of the bins in dijet mass, GeV."""


@styled
def plot_dependence(tables: Mapping[str, pd.DataFrame], corrections: Sequence[str]) -> Figure:
    """Resolution and its ratio to the standard correction's against each variable of `fine_bins.dependence`."""
    figure, axes = subplots(
        2, len(tables), sharex="col", sharey="row", squeeze=False, figsize=(1 + 5.6 * len(tables), 7.0),
        gridspec_kw={"height_ratios": [2.2, 1]},
    )  # fmt: skip
    for (main, ratio), (name, table) in zip(axes.T, tables.items(), strict=True):
        draw_profile(main, table, "resolution", corrections)
        draw_profile(ratio, table[table["correction"] != "standard"], "ratio", corrections)
        ratio.axhline(1, color="0.4", linestyle="--", linewidth=1, zorder=0)
        ratio.set_xlabel(VARIABLES[name].axis())
    axes[0, 0].set_ylabel("IQR / median of the response")
    axes[0, 0].set_ylim(bottom=0)
    axes[1, 0].set_ylabel(f"Ratio to\n{title_of('standard')}", fontsize=15)
    finish_row(axes[0], selection_text(PT_BINS[0]))
    return figure


@styled
def plot_fine_eta(table: pd.DataFrame, corrections: Sequence[str]) -> Figure:
    """Median response against gen eta in the bins of CMS's corrections; the band is ±1 %."""
    figure, ax = subplots(figsize=(11.0, 6.2))
    draw_profile(ax, table, "median", corrections)
    mark_one(ax)
    ax.set(xlabel=r"$\eta^\mathrm{gen}$", ylabel="Median response", xlim=(-2.5, 2.5))
    finish(ax, selection_text(PT_BINS[0]), room=0.2)
    return figure


@styled
def plot_closure_map(table: pd.DataFrame, corrections: Sequence[str]) -> Figure:
    """Median response less one, per cent, in abs(gen eta) × gen pt; white bins have too few jets."""
    figure, axes = subplots(
        1, len(corrections), sharey=True, squeeze=False, figsize=(2.4 + 5.0 * len(corrections), 6.0)
    )
    for ax, correction in zip(axes[0], corrections, strict=True):
        deviation = np.full((len(WIDE_PT_EDGES) - 1, len(WIDE_ETA_EDGES) - 1), np.nan)
        rows = table[table["correction"] == correction]
        places = np.searchsorted(WIDE_PT_EDGES, rows["pt_low"]), np.searchsorted(WIDE_ETA_EDGES, rows["low"])
        deviation[places] = 100 * (rows["median"] - 1)
        mesh = ax.pcolormesh(
            WIDE_ETA_EDGES, WIDE_PT_EDGES, deviation, cmap="PuOr", vmin=-MAP_RANGE, vmax=MAP_RANGE, rasterized=True
        )
        ax.set_yscale("log")
        ax.set_yticks([50, 100, 200, 500, 1000, 2000], ["50", "100", "200", "500", "1000", "2000"])
        ax.minorticks_off()
        ax.set_xlabel(r"$|\eta^\mathrm{gen}|$")
        ax.set_title(title_of(correction), loc="right", fontsize=15)
        note_if_empty(ax, rows)
    axes[0, 0].set_ylabel(r"$p_\mathrm{T}^\mathrm{gen}$ [GeV]")
    experiment_label(axes[0, 0], "")
    figure.colorbar(mesh, ax=list(axes[0]), label="Median response − 1 [%]", extend="both")
    return figure


@styled
def plot_flavour_profiles(table: pd.DataFrame, corrections: Sequence[str]) -> Figure:
    """Median response (above) and resolution (below) against gen pt, a column for each group of flavours."""
    figure, axes = _flavour_axes(2)
    for (main, lower), flavour in zip(axes.T, FLAVOUR_GROUPS, strict=True):
        rows = table[table["flavour"] == flavour]
        draw_profile(main, rows, "median", corrections)
        mark_one(main)
        draw_profile(lower, rows, "resolution", corrections)
        log_pt_axis(lower, *pt_range(table))
        selection_label(main, _jets_of(flavour))
    axes[0, 0].set_ylabel("Median response")
    axes[1, 0].set_ylabel("IQR / median")
    axes[1, 0].set_ylim(bottom=0)
    finish_row(axes[0], "")
    return figure


@styled
def plot_sigma_calibration(table: pd.DataFrame, models: Sequence[str]) -> Figure:
    """Width of the pull against gen pt for each group of flavours; one where the predicted resolution is right.

    The band is ±5 %.
    """
    figure, axes = _flavour_axes(1)
    for ax, flavour in zip(axes[0], FLAVOUR_GROUPS, strict=True):
        draw_profile(ax, table[table["flavour"] == flavour], "pull_width", models)
        mark_one(ax, 0.05)
        log_pt_axis(ax, *pt_range(table))
        selection_label(ax, _jets_of(flavour))
    axes[0, 0].set_ylabel("Width of the pull")
    finish_row(axes[0], "")
    return figure


@styled
def plot_resolution_terms(
    tables: Mapping[str, pd.DataFrame], terms: Mapping[str, pd.DataFrame], corrections: Sequence[str]
) -> Figure:
    """Resolution against gen pt with the fits of `resolution_terms`, a panel for each selection (the keys)."""
    figure, axes = subplots(1, len(tables), sharey=True, squeeze=False, figsize=(1 + 5.6 * len(tables), 6.2))
    for ax, (selection, table) in zip(axes[0], tables.items(), strict=True):
        scaled = table.assign(
            sigma=table["resolution"] / GAUSSIAN_IQR, sigma_error=table["resolution_error"] / GAUSSIAN_IQR
        )
        draw_profile(ax, scaled, "sigma", corrections)
        pt = np.geomspace(FULL_ACCEPTANCE, pt_range(table)[1], 200)
        for _, row in terms[selection].iterrows():
            ax.plot(pt, resolution_of(pt, *row[list(TERMS)]), color=color_of(row["correction"], corrections))
        log_pt_axis(ax, *pt_range(table))
        selection_label(ax, selection)
    axes[0, 0].set_ylabel(r"$\sigma(p_\mathrm{T})/p_\mathrm{T}$ (IQR / 1.349)")
    axes[0, 0].set_ylim(bottom=0)
    finish_row(axes[0], "")
    return figure


@styled
def plot_factor(tables: Mapping[str, pd.DataFrame], models: Sequence[str]) -> Figure:
    """The factors of the models against each variable of `fine_bins.factor_profile`: median and central 68 %."""
    figure, axes = subplots(1, len(tables), sharey=True, squeeze=False, figsize=(1 + 5.6 * len(tables), 6.0))
    for ax, (name, table) in zip(axes[0], tables.items(), strict=True):
        note_if_empty(ax, table)
        for model in models:
            rows = table[table["correction"] == model]
            color = color_of(model, models)
            ax.fill_between(rows["center"], rows["lower"], rows["upper"], color=color, alpha=0.2, linewidth=0)
            draw_points(ax, model, models, rows["center"], rows["median"], rows["median_error"])
        ax.axhline(1, color="0.6", linestyle="--", linewidth=1, zorder=0)
        if VARIABLES[name].unit and len(table):
            log_pt_axis(ax, *pt_range(table))
        ax.set_xlabel(VARIABLES[name].axis())
    axes[0, 0].set_ylabel("Factor on the standard-corrected $p_\\mathrm{T}$")
    finish_row(axes[0], "points: median\nband: central 68 %")
    return figure


@styled
def plot_dijet_mass(pairs: pd.DataFrame, corrections: Sequence[str], settings: PhysicsSettings | None = None) -> Figure:
    """Dijet mass over that of the generator jets: its distribution, and its resolution against the generated mass."""
    figure, (left, right) = subplots(1, 2, figsize=(13.0, 6.0))
    for name in corrections:
        density_steps(left, response(pairs, name), 0.6, 1.4, color=color_of(name, corrections), label=title_of(name))
    left.axvline(1, color="0.6", linestyle="--", linewidth=1, zorder=0)
    left.set(xlabel=r"$m_\mathrm{jj}^\mathrm{corr}\,/\,m_\mathrm{jj}^\mathrm{gen}$", ylabel="Probability density")
    left.set(xlim=(0.6, 1.4), ylim=(0, None))
    note_if_empty(left, pairs)
    table = profile(pairs, corrections, settings, edges=MASS_EDGES)
    draw_profile(right, table, "resolution", corrections)
    low, high = pt_range(table)
    log_pt_axis(right, low, high, label=r"$m_\mathrm{jj}^\mathrm{gen}$ [GeV]")
    right.set_ylabel(r"IQR / median of $m_\mathrm{jj}^\mathrm{corr}\,/\,m_\mathrm{jj}^\mathrm{gen}$")
    right.set_ylim(bottom=0)
    finish_row([left, right], f"{len(pairs):,} events".replace(",", " "))
    return figure


def _flavour_axes(rows: int) -> tuple[Figure, np.ndarray]:
    return subplots(
        rows, len(FLAVOUR_GROUPS), sharex=True, sharey="row", squeeze=False,
        figsize=(1 + 3.6 * len(FLAVOUR_GROUPS), 1.4 + 3.8 * rows),
    )  # fmt: skip


def _jets_of(flavour: str) -> str:
    return "gluon jets" if flavour == "g" else f"{', '.join(FLAVOUR_GROUPS[flavour])} jets"

"""Figures of the comparison with CMS, see `cms`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mplhep
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..style import (
    COLOURS,
    axis_of_names,
    experiment_label,
    label_row,
    legend,
    log_pt_axis,
    note_if_empty,
    room_on_top,
    selection_label,
    styled,
    subplots,
)
from .binning import FLAVOURS, PT_BINS, selection_text
from .cms import CLASS_BINS, CLASSES, REGIONS, RINGS, cms_published
from .explore_particles import PARTICLE_CLASSES

__all__ = ["plot_cms_candidates", "plot_cms_flavour", "plot_cms_resolution", "plot_cms_rings", "plot_cms_shapes"]

_OURS, _CMS = "jetcorr simulation", "CMS simulation, published"
_GROUPS = {"all": ("black", "s", "all"), "uds": (COLOURS[1], "^", "u, d, s"), "g": (COLOURS[0], "o", "gluon")}
_TITLES = {
    "QG_ptD": r"$p_\mathrm{T}D$", "QG_axis2": r"$\sigma_2$", "jetMass": "Jet mass [GeV]", "jetArea": "Jet area",
}  # fmt: skip


@styled
def plot_cms_resolution(comparison: Mapping[str, Any]) -> Figure:
    """IQR/median of the standard response beside CMS's in both regions, and the ratio; the band is ±10 %."""
    figure, axes = subplots(
        2, 2, sharex=True, sharey="row", figsize=(14.0, 8.4), gridspec_kw={"height_ratios": [2, 1.3], "hspace": 0.04}
    )
    table = pd.DataFrame(comparison["resolution"], columns=["flavour", "abs_eta", "pt", "ours", "error", "cms",
                                                            "cms_error"])  # fmt: skip
    for (main, ratio), region in zip(axes.T, REGIONS, strict=True):
        rows = table[table["abs_eta"] == region.name]
        note_if_empty(main, rows)
        for number, (group, (color, marker, title)) in enumerate(_GROUPS.items()):
            own, look = rows[rows["flavour"] == group], {"fmt": marker, "color": color}
            shift = 1.02 ** (number - 1)
            if group == "all":
                main.errorbar(own["pt"], own["ours"], yerr=own["error"], label=_OURS, **look)
                pt, cms, error = np.array(cms_published()["resolution"][region.name][group]).T
                main.errorbar(pt, cms, yerr=error, fmt="D", color=COLOURS[2], mfc="none", label=_CMS)
            error = np.hypot(own["error"] / own["ours"], own["cms_error"] / own["cms"]) * own["ours"] / own["cms"]
            ratio.errorbar(own["pt"] * shift, own["ours"] / own["cms"], yerr=error, label=title, **look)
        ratio.axhspan(0.9, 1.1, color="0.9", zorder=0)
        ratio.axhline(1, color="0.4", linestyle="--", linewidth=1, zorder=0)
        log_pt_axis(ratio, 40, 2000)
        main.set_ylim(bottom=0)
        selection_label(main, "L1 + L2L3\n" + selection_text(None, region))
    low, high = axes[1, 0].get_ylim()
    axes[1, 0].set_ylim(max(min(low, 0.75), 0.4), min(max(high, 1.2), 1.8))
    axes[0, 0].set_ylabel("IQR / median of the response")
    axes[1, 0].set_ylabel("jetcorr / CMS")
    legend(axes[0, 1])
    axes[1, 0].legend(loc="lower left", ncols=3)
    label_row(axes[0])
    return figure


@styled
def plot_cms_flavour(comparison: Mapping[str, Any]) -> Figure:
    """Median response by flavour beside CMS's: a row for each region, a column for each bin of gen pt."""
    figure, axes = subplots(len(REGIONS), len(PT_BINS), sharex=True, sharey=True, figsize=(19.0, 8.4))
    names = list(FLAVOURS.values())
    table = pd.DataFrame(comparison["flavour"], columns=["abs_eta", "pt", "flavour", "ours", "error"])
    for row, region in zip(axes, REGIONS, strict=True):
        for ax, pt_bin in zip(row, PT_BINS, strict=True):
            own = table[(table["abs_eta"] == region.name) & (table["pt"] == pt_bin.name)]
            x = [names.index(flavour) - 0.12 for flavour in own["flavour"]]
            ax.errorbar(x, own["ours"], yerr=own["error"], fmt="s", color="black", label=_OURS)
            cms = cms_published()["flavour"][region.name][pt_bin.name]
            x = [names.index(flavour) + 0.12 for flavour in cms]
            values, errors = np.array(list(cms.values())).T
            ax.errorbar(x, values, yerr=errors, fmt="D", color=COLOURS[2], mfc="none", label=_CMS)
            ax.axhline(1, color="0.6", linestyle="--", linewidth=1, zorder=0)
            axis_of_names(ax, names)
            selection_label(ax, selection_text(pt_bin, region))
    axes[0, 0].set_ylim(0.94, 1.09)
    room_on_top(axes[0, 0], 0.25)
    for ax in axes[-1]:
        ax.set_xlabel("Jet flavour")
    for row in axes:
        row[0].set_ylabel("Median response, L1 + L2L3")
    axes[0, 0].legend(loc="lower left")  # the selections stand above
    label_row(axes[0])
    return figure


@styled
def plot_cms_shapes(table: pd.DataFrame) -> Figure:
    """Distributions of a `cms_table`, weighted to the open data's spectrum, beside those of its jets."""
    figure, axes = subplots(2, 2, figsize=(13.0, 10.4))
    for ax, (name, title) in zip(axes.flat, _TITLES.items(), strict=True):
        published = cms_published()["histograms"][name]
        share = np.array(published["values"])
        edges = published["low"] + published["width"] * np.arange(len(share) + 1)
        ours, _ = np.histogram(table[name], edges, weights=table["weight"])
        squares, _ = np.histogram(table[name], edges, weights=table["weight"] ** 2)
        total = max(table["weight"].sum(), 1e-9)
        mplhep.histplot(share / share.sum(), edges, ax=ax, histtype="fill", color=COLOURS[2], alpha=0.5, label=_CMS)
        mplhep.histplot(ours / total, edges, yerr=np.sqrt(squares) / total, ax=ax, histtype="errorbar", color="black",
                        markersize=5, label=_OURS)  # fmt: skip
        if name == "jetMass":
            ax.set_yscale("log")
            ax.set_ylim(bottom=5e-4)
        ax.set(xlabel=title, ylabel="Share of jets", xlim=(edges[0], edges[-1]))
        room_on_top(ax, 0.15)
    legend(axes[0, 0])
    label_row(axes[0])
    return figure


@styled
def plot_cms_rings(comparison: Mapping[str, Any]) -> Figure:
    """Stored candidates in rings around the jet's axis beside CMS's, and the ratio; the band is ±7 %."""
    figure, (main, ratio) = subplots(
        2, 1, sharex=True, figsize=(8.4, 8.0), gridspec_kw={"height_ratios": [2.4, 1.2], "hspace": 0.04}
    )
    ours, cms = (np.array([ring[name] for ring in comparison["rings"]]) for name in ("ours", "cms"))
    edges = np.array([RINGS[0][0], *(high for _, high in RINGS)])
    widths = np.diff(edges)
    mplhep.histplot(cms / widths, edges, ax=main, histtype="fill", color=COLOURS[2], alpha=0.5, label=_CMS)
    mplhep.histplot(ours / widths, edges, ax=main, histtype="errorbar", yerr=False, xerr=True, color="black",
                    label=_OURS)  # fmt: skip
    mplhep.histplot(ours / cms, edges, ax=ratio, histtype="errorbar", yerr=False, xerr=True, color="black")
    ratio.axhspan(0.93, 1.07, color="0.9", zorder=0)
    ratio.axhline(1, color="0.4", linestyle="--", linewidth=1, zorder=0)
    ratio.set_ylim(0.7, 1.3)
    ratio.set_xlim(edges[0], edges[-1])
    ratio.set_xlabel(r"$\Delta R$ from the axis of the jet")
    main.set_xlabel("")
    main.set_ylim(bottom=0)
    room_on_top(main, 0.25)
    main.set_ylabel(r"Candidates a jet and unit of $\Delta R$")
    ratio.set_ylabel("jetcorr / CMS")
    legend(main)
    experiment_label(main)
    return figure


@styled
def plot_cms_candidates(comparison: Mapping[str, Any]) -> Figure:
    """Clustered candidates of each class against gen pt, and their shares of the energy beside CMS's."""
    figure, (left, right) = subplots(1, 2, figsize=(14.0, 6.2), gridspec_kw={"width_ratios": [1.5, 1]})
    rows = {row["pt"]: row for row in comparison["classes"]}
    bins = [pt_bin for pt_bin in CLASS_BINS if pt_bin.name in rows]
    ends = np.array([min(pt_bin.high, 2 * pt_bin.low) for pt_bin in bins])
    lows = np.array([pt_bin.low for pt_bin in bins])
    shares = cms_published()["energy_fractions"]
    for number, (kind, parts) in enumerate(CLASSES.items()):
        _, color, marker = PARTICLE_CLASSES[parts[0]]
        means = [rows[pt_bin.name][kind] for pt_bin in bins]
        left.errorbar(np.sqrt(lows * ends), means, xerr=[np.sqrt(lows * ends) - lows, ends - np.sqrt(lows * ends)],
                      fmt=marker, color=color, label=kind)  # fmt: skip
        right.plot(number - 0.1, comparison["energy_fractions"][kind], "s", color="black", ms=9,
                   label=_OURS if number == 0 else None)  # fmt: skip
        right.plot(number + 0.1, shares[kind], "D", color=COLOURS[2], mfc="none", ms=9,
                   label=_CMS if number == 0 else None)  # fmt: skip
    log_pt_axis(left, 30, 1200)
    left.set_ylim(bottom=0)
    left.set_ylabel("Clustered candidates a jet")
    room_on_top(left, 0.2)
    legend(left, columns=3)
    axis_of_names(right, CLASSES, margin=0)
    right.set(ylim=(0, 0.9), ylabel="Mean share of the jet's energy")
    legend(right)
    label_row((left, right))
    return figure

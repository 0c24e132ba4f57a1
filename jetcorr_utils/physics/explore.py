"""Figures and tables of the data before any network: jets, their spectrum, flavours, target, pileup, correlations.

All take jets as `jetcorr_utils.data` reads them: an awkward array with JetNTuple's names, pt in GeV.
"""

from __future__ import annotations

import awkward as ak
import hist
import mplhep
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..jets.columns import JETS, groups, inputs
from ..jets.flavours import paper_flavour
from ..style import (
    COLOURS,
    color_of,
    density_steps,
    experiment_label,
    finish,
    label_row,
    legend,
    log_pt_axis,
    room_on_top,
    styled,
    subplots,
    title_of,
)
from .binning import PT_BINS, PT_EDGES, Bin, selection_text

__all__ = [
    "FLAVOUR_GROUPS", "data_quality", "flavour_groups", "plot_correlations", "plot_flavour_fractions",
    "plot_pileup", "plot_pt_eta", "plot_spectrum", "plot_substructure", "plot_target", "rank_correlations",
]  # fmt: skip

#: groups of flavours that figures show: name → (PDG ids, colour, marker)
FLAVOUR_GROUPS = {
    "u, d, s": ((1, 2, 3), COLOURS[0], "o"), "c": ((4,), COLOURS[2], "s"), "b": ((5,), COLOURS[3], "D"),
    "gluon": ((21,), COLOURS[1], "^"),
}  # fmt: skip


def flavour_groups(jets: ak.Array) -> dict[str, NDArray[np.bool_]]:
    """Which jets (N,) belong to each group of `FLAVOUR_GROUPS`."""
    flavour = paper_flavour(ak.to_numpy(jets["hadronFlav"]), ak.to_numpy(jets["partonFlav"]))
    return {name: np.isin(flavour, codes) for name, (codes, _, _) in FLAVOUR_GROUPS.items()}


def data_quality(jets: ak.Array) -> pd.DataFrame:
    """What stands in each scalar branch.

    Returns
    -------
    DataFrame with a row for each branch: ``type, missing`` (not finite), ``zero`` (share), ``min, median, max`` and
    ``distinct`` values.
    """
    rows = {}
    for name in (name for name in jets.fields if jets[name].ndim == 1):
        values = ak.to_numpy(jets[name])
        finite = values[np.isfinite(values)]
        low, middle, high = np.quantile(finite, (0, 0.5, 1)) if len(finite) else (np.nan,) * 3
        rows[name] = {
            "type": str(values.dtype), "missing": len(values) - len(finite), "zero": float(np.mean(values == 0)),
            "min": low, "median": middle, "max": high, "distinct": len(np.unique(finite)),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def rank_correlations(values: NDArray) -> NDArray[np.float64]:
    """Spearman's rank correlations of the columns of `values` (N, C), as (C, C); a column that is constant has none."""
    matrix = np.full((values.shape[1],) * 2, np.nan)
    varied = np.flatnonzero(np.any(values != values[:1], axis=0))
    if len(varied):
        matrix[np.ix_(varied, varied)] = np.corrcoef(pd.DataFrame(values[:, varied]).rank(), rowvar=False)
    return matrix


def _upper_end(values: NDArray) -> float:
    """Where an axis from zero may end; 1 where the values are all zero, or none is finite."""
    finite = values[np.isfinite(values)]
    end = float(np.quantile(finite, 0.999)) if len(finite) else 0.0
    return end if end > 0 else 1.0


@styled
def plot_spectrum(jets: ak.Array) -> Figure:
    """Number of jets against pt: of the generator, raw and standard-corrected."""
    figure, ax = subplots()
    edges = np.geomspace(20, 4000, 54)
    shown = {"genJetPt": (COLOURS[0], "Generator")}
    shown |= {branch: (color_of(name), title_of(name)) for name, branch in (("raw", "jetRawPt"), ("standard", "jetPt"))}
    for name, (color, title) in shown.items():
        filled = hist.Hist(hist.axis.Variable(edges), storage=hist.storage.Int64()).fill(ak.to_numpy(jets[name]))
        mplhep.histplot(filled, yerr=np.sqrt(filled.values()), ax=ax, histtype="step", color=color, label=title)
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.5)
    ax.set_ylabel("Jets / bin")
    log_pt_axis(ax, 20, 4000, r"$p_\mathrm{T}$ [GeV]")
    finish(ax, f"{len(jets):,} jets".replace(",", " "))
    return figure


@styled
def plot_pt_eta(jets: ak.Array) -> Figure:
    """Number of jets in the plane of gen pt and gen eta."""
    figure, ax = subplots(figsize=(9.0, 6.6))
    filled = hist.Hist(
        hist.axis.Variable(PT_EDGES), hist.axis.Regular(25, -2.5, 2.5), storage=hist.storage.Int64()
    ).fill(ak.to_numpy(jets["genJetPt"]), ak.to_numpy(jets["genJetEta"]))
    counts = np.where(filled.values() > 0, filled.values(), np.nan)
    scale = LogNorm(1, max(float(filled.values().max()), 10.0))  # also without a jet in the plane
    mesh = ax.pcolormesh(PT_EDGES, filled.axes[1].edges, counts.T, norm=scale, cmap="cividis", rasterized=True)
    figure.colorbar(mesh, ax=ax, label="Jets / bin", pad=0.02)
    ax.set_ylabel(r"$\eta^\mathrm{gen}$")
    log_pt_axis(ax, PT_EDGES[0], PT_EDGES[-1])
    experiment_label(ax)
    return figure


@styled
def plot_flavour_fractions(jets: ak.Array) -> Figure:
    """Share of each flavour against gen pt, with binomial errors."""
    figure, ax = subplots()
    pt = ak.to_numpy(jets["genJetPt"])
    edges = np.geomspace(20, 3000, 11)
    total = np.histogram(pt, edges)[0]
    known = total > 10
    for name, mask in flavour_groups(jets).items():
        _, color, marker = FLAVOUR_GROUPS[name]
        share = np.histogram(pt[mask], edges)[0][known] / total[known]
        error = np.sqrt(share * (1 - share) / total[known])
        centers = np.sqrt(edges[1:] * edges[:-1])[known]
        ax.errorbar(centers, share, yerr=error, fmt=marker, color=color, label=name, linestyle="-", linewidth=1)
    ax.set_ylim(0, None)
    ax.set_ylabel("Share of jets")
    log_pt_axis(ax, 20, 3000)
    room_on_top(ax, 0.12)
    legend(ax, columns=4, columnspacing=1.0)
    experiment_label(ax)
    return figure


@styled
def plot_target(jets: ak.Array) -> Figure:
    """Distribution of the target log(gen pt / pt) in bins of gen pt: what the networks learn."""
    figure, ax = subplots()
    gen_pt = ak.to_numpy(jets["genJetPt"]).astype(np.float64)
    matched = gen_pt > 0
    target = np.log(gen_pt[matched] / ak.to_numpy(jets["jetPt"])[matched])
    bins = int(np.clip(3 * np.cbrt(len(target)), 20, 60))
    for pt_bin, color in zip(PT_BINS[1:], (COLOURS[0], COLOURS[2], COLOURS[1], COLOURS[3]), strict=True):
        inside = pt_bin.contains(gen_pt[matched])
        if inside.any():
            label = pt_bin.text(r"p_\mathrm{T}^\mathrm{gen}", "GeV")
            density_steps(ax, target[inside], -0.5, 0.5, bins, color=color, label=label)
    ax.axvline(0, color="0.6", linestyle="--", linewidth=1, zorder=0)
    ax.set(xlim=(-0.5, 0.5), ylabel="Probability density")
    ax.set_xlabel(r"Target $\ln(p_\mathrm{T}^\mathrm{gen}\,/\,p_\mathrm{T})$")
    ax.set_ylim(bottom=0)
    finish(ax, f"{int(matched.sum()):,} jets".replace(",", " "), room=0.2)
    return figure


@styled
def plot_pileup(jets: ak.Array) -> Figure:
    """Energy density rho and number of good vertices, and how they depend on each other."""
    figure, (left, middle, right) = subplots(1, 3, figsize=(14.0, 5.2))
    rho, vertices = ak.to_numpy(jets["rhoAll"]).astype(np.float64), ak.to_numpy(jets["PV_npvsGood"])
    high = _upper_end(rho) * 1.1
    density_steps(left, rho, 0, high, color=COLOURS[0])
    left.set(xlabel=r"$\rho$ [GeV]", ylabel="Probability density", xlim=(0, high))
    most = int(_upper_end(vertices)) + 2
    density_steps(middle, vertices, -0.5, most + 0.5, most + 1, color=COLOURS[3])
    middle.set(xlabel=r"$N_\mathrm{PV}$", ylabel="Probability density", xlim=(-0.5, most + 0.5))
    numbers = [n for n in range(most + 1) if np.count_nonzero(vertices == n) > 10]
    means = [rho[vertices == n].mean() for n in numbers]
    errors = [rho[vertices == n].std() / np.sqrt(np.count_nonzero(vertices == n)) for n in numbers]
    right.errorbar(numbers, means, yerr=errors, fmt="o", color="black", markersize=4)
    right.set(xlabel=r"$N_\mathrm{PV}$", ylabel=r"Mean $\rho$ [GeV]", ylim=(0, None))
    for ax in (left, middle):
        ax.set_ylim(bottom=0)
    label_row((left, right))
    return figure


@styled
def plot_substructure(jets: ak.Array, pt_bin: Bin = PT_BINS[2]) -> Figure:
    """What tells quarks from gluons in a bin of gen pt: multiplicity, fragmentation and width, by flavour."""
    jets = jets[pt_bin.contains(ak.to_numpy(jets["genJetPt"]))]
    # Bins of a whole number of particles: others would be filled unevenly.
    variables = {
        "QG_mult": ("Multiplicity", -0.5, 59.5, 20),
        "QG_ptD": (r"$p_\mathrm{T}D$", 0, 1, None),
        "QG_axis2": ("Minor axis", 0, 0.2, None),
    }
    figure, axes = subplots(1, 3, figsize=(14.0, 5.4))
    for ax, (name, (label, low, high, bins)) in zip(axes, variables.items(), strict=True):
        values = ak.to_numpy(jets[name])
        for group, mask in flavour_groups(jets).items():
            if mask.any():
                density_steps(ax, values[mask], low, high, bins, color=FLAVOUR_GROUPS[group][1], label=group)
        ax.set(xlabel=label, xlim=(low, high))
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_locator(MaxNLocator(5))
    axes[0].set_ylabel("Probability density")
    room_on_top(axes[2], 0.05)
    legend(axes[2])
    axes[1].set_title(selection_text(pt_bin), loc="right", fontsize=15)
    label_row(axes)
    return figure


@styled
def plot_correlations(jets: ak.Array) -> Figure:
    """Rank correlations (Spearman) of the jets' variables and the target."""
    gen_pt = ak.to_numpy(jets["genJetPt"]).astype(np.float64)
    matched = gen_pt > 0
    shown = [(column.name, column.label) for column in inputs(JETS, groups())]
    columns = {label: ak.to_numpy(jets[name])[matched] for name, label in shown if name in jets.fields}
    columns = {label: values for label, values in columns.items() if np.any(values != values[:1])}  # else it has none
    columns[r"$|\eta|$"] = np.abs(ak.to_numpy(jets["jetEta"])[matched])
    columns["target"] = np.log(gen_pt[matched] / ak.to_numpy(jets["jetPt"])[matched])
    matrix = rank_correlations(np.stack(list(columns.values()), axis=1))
    figure, ax = subplots(figsize=(9.6, 8.6))
    image = ax.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
    for (row, column), value in np.ndenumerate(matrix):
        text = f"{value:z.2f}".replace("-", "−") if np.isfinite(value) else ""
        ax.text(
            column, row, text, ha="center", va="center", fontsize=11,
            color="w" if abs(value) > 0.6 else "k", in_layout=False,
        )  # fmt: skip
    ax.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize=13)
    ax.set_yticks(range(len(columns)), columns, fontsize=13)
    ax.tick_params(which="both", length=0)
    figure.colorbar(image, ax=ax, label="Rank correlation", shrink=0.91, pad=0.02)
    experiment_label(ax)
    return figure

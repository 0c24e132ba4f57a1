"""What a trained network attends to: which inputs it needs, and what it makes of each class of particles.

Both are measured from outside, on predictions alone, and so for any network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from ..data.dataset import CloudDataset
from ..jets.columns import JETS, PARTICLES, POINTS
from ..jets.ragged import owners
from ..style import COLOURS, experiment_label, finish_row, styled, subplots
from .explore_particles import PARTICLE_CLASSES

__all__ = ["class_shares", "input_importance", "plot_class_dependence", "plot_input_importance"]

ALIKE = 50  # jets, next to each other in pt, that exchange an input

_SHOWN = ("charged hadrons", "photons", "neutral hadrons")


def class_shares(clouds: CloudDataset) -> dict[str, NDArray[np.float64]]:
    """Share of each class of `PARTICLE_CLASSES` in the summed pt of the particles of each cloud, `(B,)` each."""
    jet = owners(clouds.ptr)
    pt, code = clouds.particle("PF_pT").astype(np.float64), np.abs(clouds.particle("PF_id")).astype(np.int64)
    total = np.bincount(jet, pt, len(clouds))
    return {
        name: np.bincount(jet, pt * np.isin(code, codes), len(clouds)) / np.maximum(total, 1e-9)
        for name, (codes, *_) in PARTICLE_CLASSES.items()
    }


@styled
def plot_class_dependence(clouds: CloudDataset, prediction: ArrayLike, title: str = "", bins: int = 8) -> Figure:
    """Median of the truth, of the prediction, and of what is left, against the share of each class of particles.

    Where the truth rises with the share, the standard correction does not know of the class; the prediction should
    follow it, so that what is left is flat and zero. Bins hold equal numbers of jets; errors are statistical.

    Parameters
    ----------
    clouds
        Jets with a generator jet.
    prediction
        The predicted log(pt_gen/pt), `(B,)`.
    """
    truth, prediction = np.asarray(clouds.target, float), np.asarray(prediction, float)
    figure, axes = subplots(1, len(_SHOWN), figsize=(5.0 * len(_SHOWN), 5.4), sharey=True)
    shares = class_shares(clouds) if "PF_id" in clouds.columns else {}
    for ax, name in zip(axes, _SHOWN, strict=True):
        if name not in shares:
            ax.text(0.5, 0.5, "not an input", transform=ax.transAxes, ha="center", va="center", color="0.4")
            continue
        for values, label, marker, color in (
            (truth, "Truth", "s", "black"),
            (prediction, "Prediction", "^", COLOURS[1]),
            (truth - prediction, "Truth − prediction", "o", COLOURS[0]),
        ):
            centers, medians, errors = _medians(shares[name], values, bins)
            ax.errorbar(centers, medians, errors, fmt=marker, color=color, label=label, markersize=6)
        ax.axhline(0, color="0.5", linewidth=1, zorder=0)
        ax.set_xlabel(f"Share of {name}")
        ax.xaxis.set_major_locator(MaxNLocator(4))
    axes[0].set_ylabel(r"Median $\ln(p_\mathrm{T}^\mathrm{gen}/p_\mathrm{T})$")
    finish_row(axes, title, room=0.3)
    return figure


def input_importance(clouds: CloudDataset, predict: Callable[[CloudDataset], NDArray], seed: int = 1) -> pd.DataFrame:
    """How much worse the predictions get if one input is that of another jet or particle (arXiv:1801.01489).

    It is exchanged among jets of about the same pt, and among their particles: else the network would be asked about
    jets that do not exist. The pt itself, which all else is relative to, stays. An input whose content others carry as
    well looks less important than it is.

    Parameters
    ----------
    clouds
        Jets with a generator jet.
    predict
        The predicted log(pt_gen/pt), `(B,)`, of clouds.

    Returns
    -------
    DataFrame
        One row an input, most important first: `input`, `increase` of the mean absolute error, and its `error`.
    """
    rng = np.random.default_rng(seed)
    plain = np.abs(np.asarray(predict(clouds)) - clouds.target)
    rows = []
    for name in (*clouds.columns, *clouds.jet_columns):
        if name in ("jetPt", POINTS[1]):  # the two of the position are exchanged together
            continue
        other = _exchanged(clouds, name, rng)
        if np.array_equal(other.particles, clouds.particles) and np.array_equal(other.jets, clouds.jets):
            continue  # the same for all: nothing to learn from
        changed = np.abs(np.asarray(predict(other)) - clouds.target) - plain
        rows.append((_title(name), float(changed.mean()), float(changed.std() / np.sqrt(len(changed)))))
    table = pd.DataFrame(rows, columns=["input", "increase", "error"])
    return table.sort_values("increase", ascending=False, ignore_index=True)


@styled
def plot_input_importance(table: pd.DataFrame, title: str = "") -> Figure:
    """The importance of each input; `table` is what `input_importance` returns."""
    figure, ax = subplots(figsize=(9.0, 0.36 * len(table) + 2.2))
    rows = np.arange(len(table))[::-1]
    colours = [COLOURS[0] if name.startswith("particle") else COLOURS[2] for name in table["input"]]
    increase, error = 1e3 * table["increase"], 1e3 * table["error"]
    ax.barh(rows, increase, xerr=error, color=colours, height=0.7, error_kw={"elinewidth": 1.2})
    ax.set_yticks(rows, table["input"], fontsize=14)
    ax.tick_params(axis="y", which="both", length=0)
    ax.axvline(0, color="black", linewidth=1)
    ax.set_xlabel(r"Increase of the mean absolute error [$10^{-3}$]")
    ax.text(0.97, 0.05, title, transform=ax.transAxes, ha="right", va="bottom", fontsize=15)
    experiment_label(ax)
    return figure


def _title(name: str) -> str:
    kind, column = ("particle", PARTICLES[name]) if name in PARTICLES else ("jet", JETS[name])
    return f"{kind}: {column.title or name}"


def _exchanged(clouds: CloudDataset, name: str, rng: np.random.Generator) -> CloudDataset:
    """The clouds with one column exchanged among jets of about the same pt; Δη and Δϕ move together."""
    neighbours = np.empty(len(clouds), np.int64)  # equal for jets that are next to each other in pt
    neighbours[np.argsort(clouds.jet("jetPt"), kind="stable")] = np.arange(len(clouds)) // ALIKE
    if name in JETS:
        return replace(clouds, jets=_shuffled(clouds.jets, [clouds.jet_columns.index(name)], neighbours, rng))
    columns = [clouds.columns.index(each) for each in (POINTS if name in POINTS else (name,))]
    neighbours = np.repeat(neighbours, clouds.multiplicity)
    return replace(clouds, particles=_shuffled(clouds.particles, columns, neighbours, rng))


def _shuffled(matrix: NDArray, columns: list[int], group: NDArray, rng: np.random.Generator) -> NDArray:
    """A copy with the rows of some columns in another order inside each group."""
    changed = np.array(matrix)
    mixed = np.lexsort((rng.random(len(group)), group))
    changed[np.ix_(np.argsort(group, kind="stable"), columns)] = matrix[np.ix_(mixed, columns)]
    return changed


def _medians(x: NDArray, values: NDArray, bins: int) -> tuple[NDArray, NDArray, NDArray]:
    """Mean of x, median of the values and its error, in bins of equal numbers of jets with different x."""
    edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)))
    inside = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(len(edges) - 2, 0))
    groups = [inside == number for number in range(max(len(edges) - 1, 1))]
    groups = [group for group in groups if np.count_nonzero(group) >= 10]
    centers = np.array([x[group].mean() for group in groups])
    medians = np.array([np.median(values[group]) for group in groups])
    # The error of a median of a nearly normal sample is 1.25 σ/√n; σ from the quartiles, because of the tails
    widths = np.array([np.subtract(*np.quantile(values[group], [0.75, 0.25])) / 1.349 for group in groups])
    return centers, medians, 1.25 * widths / np.sqrt([np.count_nonzero(group) for group in groups])

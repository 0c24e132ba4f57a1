"""Figures of a training: its learning curves, and predictions against truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ..style import COLOURS, experiment_label, figure_with_ratio, legend, room_on_top, selection_label, styled, subplots

__all__ = ["plot_history", "plot_prediction"]


@styled
def plot_history(history: pd.DataFrame, constant_mae: float, title: str = "") -> Figure:
    """Mean absolute error of log(pt_gen/pt) and learning rate against the epoch.

    Parameters
    ----------
    history
        One row an epoch, with the columns epoch, train_mae, validation_mae, learning_rate.
    constant_mae
        The error of the best constant, which a network has to beat.
    title
        What was trained, for the upper left corner.
    """
    figure, main, lower = figure_with_ratio()
    for column, label, color, marker in (
        ("train_mae", "Training", COLOURS[0], "o"),
        ("validation_mae", "Validation", COLOURS[1], "^"),
    ):
        main.plot(history["epoch"], history[column], marker=marker, color=color, label=label)
    best = history.loc[history["validation_mae"].idxmin()]
    main.plot(best["epoch"], best["validation_mae"], "*", color="black", markersize=13, label="Best epoch", zorder=3)
    main.axhline(constant_mae, color="0.5", linestyle="--", linewidth=1, label="Best constant", zorder=0)
    main.set_ylabel("Mean absolute error")
    room_on_top(main, 0.32)
    selection_label(main, title)
    legend(main)
    lower.plot(history["epoch"], history["learning_rate"], color=COLOURS[3])
    lower.set(xlabel="Epoch", ylabel="Learning rate", ylim=(0, None))
    lower.ticklabel_format(axis="y", style="sci", scilimits=(-3, -3))
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    experiment_label(main)
    return figure


@styled
def plot_prediction(target: ArrayLike, prediction: ArrayLike, title: str = "") -> Figure:
    """Predicted against true log(pt_gen/pt), as a density with the median prediction in bins of the truth.

    A network that minimises the absolute error predicts the median of what it cannot tell apart, so the predictions
    spread less than the truth does: the slope is below one.
    """
    target, prediction = np.asarray(target), np.asarray(prediction)
    known = np.isfinite(target)
    target, prediction = target[known], prediction[known]
    figure, ax = subplots()
    # A margin, so that the axes have a width for a single jet, too
    margin = np.array([-1e-3, 1e-3])
    low, high = np.quantile(target, [0.005, 0.995]) + margin
    bottom, top = np.quantile(prediction, [0.002, 0.998]) + margin
    counts, *_, image = ax.hist2d(
        target, prediction, bins=60, range=((low, high), (bottom, top)), cmap="Blues", rasterized=True
    )
    # From one jet upwards, also where few jets leave all cells inside the range empty
    image.set_norm(LogNorm(1, max(2, counts.max())))
    figure.colorbar(image, ax=ax, label="Jets")
    edges = np.linspace(low, high, 16)
    inside = np.digitize(target, edges)
    rows = [prediction[inside == n] for n in range(1, len(edges))]
    centers = [(edges[n] + edges[n + 1]) / 2 for n, row in enumerate(rows) if len(row) > 10]
    medians = np.array([np.median(row) for row in rows if len(row) > 10])
    # The error of a median of a nearly normal sample is 1.25 σ/√n.
    errors = np.array([1.25 * row.std() / np.sqrt(len(row)) for row in rows if len(row) > 10])
    ax.errorbar(centers, medians, errors, fmt="o", color=COLOURS[1], label="Median prediction")
    ax.plot([bottom, top], [bottom, top], color="0.4", linestyle="--", linewidth=1, label="Prediction = truth")
    ax.set(
        xlabel=r"True $\log(p_\mathrm{T}^\mathrm{gen}/p_\mathrm{T})$",
        ylabel=r"Predicted $\log(p_\mathrm{T}^\mathrm{gen}/p_\mathrm{T})$",
        xlim=(low, high),
        ylim=(bottom, top),
    )
    room_on_top(ax, 0.25)
    selection_label(ax, title)
    legend(ax)
    experiment_label(ax)
    return figure

"""Figures of a training: learning rate, learning curves, overfitting, and predictions against truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ..style import (
    COLOURS,
    experiment_label,
    figure_with_ratio,
    finish,
    legend,
    log_pt_axis,
    room_on_top,
    selection_label,
    styled,
    subplots,
)

if TYPE_CHECKING:
    from ..data.dataset import CloudDataset
    from ..models import CloudNetwork

__all__ = ["compare_parts", "overfitting", "plot_history", "plot_learning_rate", "plot_overfitting", "plot_prediction"]


@styled
def plot_learning_rate(curve: pd.DataFrame, suggested: float, chosen: float, title: str = "") -> Figure:
    """The loss of a few steps whose learning rate grows (arXiv:1506.01186), with two rates marked.

    Parameters
    ----------
    curve
        Columns learning_rate, loss and smooth, of `training.find_learning_rate`.
    suggested, chosen
        What the finder suggests, and the rate of the study.
    """
    figure, ax = subplots()
    ax.plot(curve["learning_rate"], curve["loss"], color=COLOURS[0], alpha=0.35, linewidth=1, label="Loss of a batch")
    ax.plot(curve["learning_rate"], curve["smooth"], color=COLOURS[0], linewidth=2.4, label="Smoothed")
    for rate, label, color, style in (
        (suggested, "Suggested", COLOURS[1], "--"),
        (chosen, "In the study", "black", ":"),
    ):
        ax.axvline(rate, color=color, linestyle=style, label=f"{label}: {rate:.2g}")
    low, high = curve["smooth"].min(), max(1.0, curve["smooth"].iloc[0])
    ax.set_ylim(low - 0.5 * (high - low), high + 0.5 * (high - low))
    ax.set(xscale="log", xlabel="Learning rate", ylabel="Loss / loss of the untrained network")
    finish(ax, title, room=0.3)
    return figure


@styled
def plot_history(history: pd.DataFrame, constant_mae: float, title: str = "", epochs: int | None = None) -> Figure:
    """Mean absolute error of log(pt_gen/pt) and learning rate against the epoch.

    Parameters
    ----------
    history
        One row an epoch, with the columns epoch, train_mae, validation_mae, learning_rate and, where the best epoch is
        to be that of the checkpoint, validation_loss.
    constant_mae
        The error of the best constant, which a network has to beat.
    title
        What was trained, for the upper left corner.
    epochs
        Where the axis ends; default: at the last epoch there is.
    """
    figure, main, lower = figure_with_ratio()
    for column, label, color, marker in (
        ("train_mae", "Training", COLOURS[0], "o"),
        ("validation_mae", "Validation", COLOURS[1], "^"),
    ):
        main.plot(history["epoch"], history[column], marker=marker, color=color, label=label)
    chosen_by = "validation_loss" if "validation_loss" in history else "validation_mae"
    best = history.loc[history[chosen_by].idxmin()]
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
    lower.set_xlim(0, 1.02 * (epochs or history["epoch"].max()))
    experiment_label(main)
    return figure


@styled
def plot_prediction(target: ArrayLike, prediction: ArrayLike, title: str = "") -> Figure:
    """Predicted against true log(pt_gen/pt), as a density with the median prediction in bins of the truth.

    A network that minimises the absolute error predicts the median of what it cannot tell apart, so the predictions
    spread less than the truth does: the slope is below one.
    """
    known = np.isfinite(target)
    target, prediction = np.asarray(target)[known], np.asarray(prediction)[known]
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
        xlabel=r"True $\ln(p_\mathrm{T}^\mathrm{gen}/p_\mathrm{T})$",
        ylabel=r"Predicted $\ln(p_\mathrm{T}^\mathrm{gen}/p_\mathrm{T})$", xlim=(low, high), ylim=(bottom, top),
    )  # fmt: skip
    finish(ax, title)
    return figure


Compared = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Gen pt (GeV), truth and prediction of log(pt_gen/pt) of some jets, (B,) each."""


def compare_parts(model: CloudNetwork, clouds: CloudDataset) -> tuple[Compared, Compared]:
    """Truth and prediction of jets that the model was trained on, at most four times as many as validation jets, and of
    these.
    """
    from ..models.inputs import sample_rows
    from ..training import predict

    validation, train = clouds.split("validation"), clouds.split("train")
    options = model.settings.training
    if options.max_jets is not None:  # the jets that `training.train` has drawn
        train = train.select(sample_rows(len(train), options.max_jets, options.seed)[: 4 * len(validation)])
    parts = (train.first(4 * len(validation)), validation)
    seen, unseen = ((part.table["genJetPt"], part.target, predict(model, part)[0]) for part in parts)
    return seen, unseen


def overfitting(training: Compared, validation: Compared) -> dict[str, float]:
    """The mean absolute error on jets that the network was trained on, and on jets that it has never seen.

    Unlike the curve of the training, both are of the same weights and without dropout.

    Parameters
    ----------
    training, validation
        As `compare_parts` gives them.

    Returns
    -------
    dict
        `training`, `validation`, their difference `gap`, its statistical `error`, and `significance` = gap / error.
    """
    errors = [np.abs(np.subtract(*map(np.asarray, part[1:]))) for part in (training, validation)]
    means = [float(values.mean()) for values in errors]
    error = float(np.hypot(*(values.std() / np.sqrt(len(values)) for values in errors)))
    gap = means[1] - means[0]
    return {
        "training": means[0], "validation": means[1], "gap": gap, "error": error,
        "significance": gap / error if error else 0.0,
    }  # fmt: skip


@styled
def plot_overfitting(training: Compared, validation: Compared, title: str = "") -> Figure:
    """The mean absolute error against gen pt, of jets that the network was trained on and of others, and their ratio.

    Parameters
    ----------
    training, validation
        As `compare_parts` gives them.
    """
    figure, main, ratio = figure_with_ratio()
    everything = np.concatenate([np.asarray(training[0], float), np.asarray(validation[0], float)])
    edges = np.unique(np.quantile(everything, np.linspace(0, 1, 9)))
    edges = edges if len(edges) > 1 else np.append(edges, edges + 1)
    centers = np.sqrt(edges[1:] * edges[:-1])
    profiles = []
    for (pt, truth, prediction), label, color, marker in (
        (training, "Training jets", COLOURS[0], "o"),
        (validation, "Validation jets", COLOURS[1], "^"),
    ):
        mean, error = _mean_errors(np.asarray(pt, float), np.abs(np.subtract(truth, prediction)), edges)
        known = error > 0
        main.errorbar(centers[known], mean[known], error[known], fmt=marker, color=color, label=label)
        profiles.append((mean, error))
    (first, first_error), (second, second_error) = profiles
    known = (first_error > 0) & (second_error > 0)
    quotient = second[known] / first[known]
    error = quotient * np.hypot(first_error[known] / first[known], second_error[known] / second[known])
    ratio.errorbar(centers[known], quotient, error, fmt="o", color="black")
    ratio.axhline(1, color="0.5", linestyle="--", linewidth=1)
    main.set_ylabel("Mean absolute error")
    room_on_top(main, 0.25)
    selection_label(main, title)
    legend(main)
    ratio.set_ylabel("Validation\n/ training", fontsize=15)
    log_pt_axis(ratio, edges[0] * 0.95, edges[-1] * 1.05)
    experiment_label(main)
    return figure


def _mean_errors(pt: np.ndarray, errors: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the errors in bins of pt, and its statistical error; NaN for a bin with fewer than two jets."""
    inside = np.clip(np.searchsorted(edges, pt, side="right") - 1, 0, len(edges) - 2)
    groups = [errors[inside == number] for number in range(len(edges) - 1)]
    means = [group.mean() if len(group) > 1 else np.nan for group in groups]
    spreads = [group.std() / np.sqrt(len(group)) if len(group) > 1 else np.nan for group in groups]
    return np.array(means), np.array(spreads)

"""The figures of a search, one function each; they read a `SearchResult`, of local trials or of a Katib experiment.

The talk's tuning interface showed one metric at a time: here several stand side by side.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..config import Choice
from ..metrics import METRICS, OBJECTIVE, compared_metrics
from ..style import COLOURS, plain_log_axis, styled, subplots
from .search_result import SearchResult

__all__ = [
    "plot_comparison", "plot_correlations", "plot_history", "plot_importance", "plot_learning_curves",
    "plot_optimizers", "plot_parallel_coordinates", "plot_pareto",
]  # fmt: skip

MAE = r"Validation MAE of $\ln(p_\mathrm{T}^\mathrm{gen}/p_\mathrm{T})$"
STATES = {
    "complete": (COLOURS[0], "o", "Complete"), "pruned": (COLOURS[7], "v", "Pruned"),
    "constant": (COLOURS[2], "s", "Not better than a constant"), "failed": (COLOURS[1], "X", "Failed"),
}  # fmt: skip
MAP = "viridis"


def title(name: str) -> str:
    """How a parameter or a metric is called in figures."""
    if name not in METRICS:
        return name.removeprefix("training.").replace("_", " ")
    metric = METRICS[name]
    return metric.title if metric.unit in ("", "%") else f"{metric.title} [{metric.unit}]"


BOX = 5
"""Complete trials from which on a box is drawn around their quartiles."""


@styled
def plot_history(result: SearchResult) -> Figure:
    """Validation error of each trial in their order, the best so far, and the constant predictor's error."""
    figure, ax = subplots()
    trials = result.trials
    for state, (colour, marker, label) in STATES.items():
        part = trials[(trials["state"] == state) & trials[OBJECTIVE].notna()]
        ax.plot(part.index, part[OBJECTIVE], marker, color=colour, label=label if len(part) else None)
    best = trials[OBJECTIVE].where(trials["state"] == "complete").cummin().ffill()
    ax.step(trials.index, best, where="post", color="black", label="Best so far")
    constant = _constant(ax, trials)
    _ring(ax, 0, trials[OBJECTIVE].get(0, np.nan), "Study's own settings")
    _limit_above(ax, trials[OBJECTIVE], constant)
    ax.set(xlabel="Trial", ylabel=MAE)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _room_for_legend(ax, columns=2)
    return figure


@styled
def plot_learning_curves(result: SearchResult) -> Figure:
    """Validation error against the epoch for all trials; the best one and the study's own settings stand out."""
    figure, ax = subplots()
    histories, best = result.histories, result.best
    for number, curve in histories.groupby("trial"):
        state = result.trials["state"].get(number)
        ax.plot(curve["epoch"], curve["validation_mae"], color=STATES[state][0], alpha=0.45, linewidth=1.2)
    for number, colour, label in ((0, "black", "Study's own settings"), (best, COLOURS[1], f"Best: trial {best}")):
        curve = histories[histories["trial"] == number]
        ax.plot(curve["epoch"], curve["validation_mae"], "o-", color=colour, label=label, linewidth=2.4)
    for state, (colour, _, label) in STATES.items():
        if state in set(result.trials["state"]):
            ax.plot([], [], color=colour, label=label)
    constant = _constant(ax, result.trials)
    _limit_above(ax, histories["validation_mae"], constant)
    ax.set(xlabel="Epoch", ylabel=MAE, xlim=(0.5, max(histories["epoch"], default=1) + 0.5))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _room_for_legend(ax, columns=2)
    return figure


@styled
def plot_parallel_coordinates(result: SearchResult) -> Figure:
    """Each complete trial as a line through its parameters and metrics, coloured by its validation error.

    The metrics are those that their table has trials compared by, here and in `plot_correlations`.
    """
    table = result.complete
    columns = [*result.space, *_measured(table)]
    figure, ax = subplots(figsize=(1.35 * len(columns) + 1.5, 6.0))
    scaled = pd.DataFrame({name: _axis(ax, i, table[name], result) for i, name in enumerate(columns)})
    norm = Normalize(table[OBJECTIVE].min(), table[OBJECTIVE].max())
    colours = ScalarMappable(norm, MAP)
    for number in table.sort_values(OBJECTIVE, ascending=False).index:
        best = number == result.best
        ax.plot(
            range(len(columns)), scaled.loc[number], color=colours.to_rgba(table[OBJECTIVE][number]),
            linewidth=3.4 if best else 1.4, alpha=1 if best else 0.75,
        )  # fmt: skip
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.06, 1.06), yticks=[])
    ax.minorticks_off()
    ax.tick_params(axis="x", which="both", top=False, bottom=False)
    ax.set_xticks(range(len(columns)), [title(name).replace(" ", "\n", 1) for name in columns])
    for side in ("left", "right", "top", "bottom"):
        ax.spines[side].set_visible(False)
    figure.colorbar(colours, ax=ax, label=MAE, pad=0.01)
    return figure


@styled
def plot_correlations(result: SearchResult) -> Figure:
    """Pearson, Kendall and Spearman correlation of each parameter with the metrics, a panel each."""
    metrics = _measured(result.complete)
    tables = [result.correlations(metric) for metric in metrics]
    names = list(tables[0].index)
    figure, axes = subplots(1, len(metrics), figsize=(4.6 * len(metrics) + 1.5, 0.75 * len(names) + 3.2), sharey=True)
    for ax, metric, table in zip(np.atleast_1d(axes), metrics, tables, strict=True):
        image = ax.imshow(table.to_numpy(float), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(table.to_numpy(float)):
            text = "–" if np.isnan(value) else f"{value:+z.2f}".replace("-", "−")
            ax.text(
                column, row, text, ha="center", va="center", size=15, color="white" if abs(value) > 0.6 else "black"
            )
        ax.set_xticks(range(len(table.columns)), [name.capitalize() for name in table.columns])
        ax.set_yticks(range(len(names)), [title(name) for name in names])
        ax.set_title(f"With {title(metric)}", size=17)
        ax.minorticks_off()
        ax.tick_params(which="both", length=0)
    figure.colorbar(image, ax=axes, label="Correlation", pad=0.02)
    return figure


@styled
def plot_importance(result: SearchResult) -> Figure:
    """How much each parameter decides over the validation error (PED-ANOVA)."""
    shares = result.importance().sort_values()
    figure, ax = subplots(figsize=(8.0, 0.55 * max(len(shares), 3) + 2.4))
    if shares.empty:
        ax.text(0.5, 0.5, "Too few complete trials", ha="center", va="center", transform=ax.transAxes)
    ax.barh([title(name) for name in shares.index], shares, color=COLOURS[0])
    for row, share in enumerate(shares):
        ax.annotate(f"{share:.2f}", (share, row), (5, 0), textcoords="offset points", va="center", size=14)
    ax.set(xlabel=f"Share in the {title(OBJECTIVE)} (PED-ANOVA)", xlim=(0, 1.15 * max([0.1, *shares])))
    ax.tick_params(axis="y", which="both", length=0)
    return figure


@styled
def plot_optimizers(result: SearchResult) -> Figure:
    """The error by optimizer, or else the first choice of the space: all trials as points, the complete ones as boxes.

    Quartiles of a few trials say nothing: a group of less than five has no box.

    Trials far above the constant predictor are drawn at the upper edge.
    """
    table = result.trials.dropna(subset=[OBJECTIVE])
    choices = {name: values for name, values in result.space.items() if isinstance(values, Choice)}
    if not choices:
        figure, ax = subplots(figsize=(8.0, 3.0))
        ax.text(0.5, 0.5, "No choice in the search space", ha="center", va="center", transform=ax.transAxes)
        return figure
    by = "training.optimizer" if "training.optimizer" in choices else next(iter(choices))
    known = [str(choice) for choice in choices[by].choices]
    groups = known + sorted(set(table[by].astype(str)) - set(known))
    names, complete = table[by].astype(str), table["state"] == "complete"
    values = [table[OBJECTIVE][(names == group) & complete].to_numpy() for group in groups]
    labels = [f"{g}\n{len(v)} of {np.count_nonzero(names == g)}" for g, v in zip(groups, values, strict=True)]
    figure, ax = subplots()
    boxes = [part if len(part) >= BOX else [] for part in values]
    ax.boxplot(
        boxes, tick_labels=labels, showfliers=False, widths=0.5, medianprops={"color": COLOURS[1], "linewidth": 2.2},
        boxprops={"linewidth": 1.5}, whiskerprops={"linewidth": 1.5}, capprops={"linewidth": 1.5},
    )  # fmt: skip
    _limit_above(ax, table[OBJECTIVE], _constant(ax, table))
    top = ax.get_ylim()[1]
    for state, (colour, marker, label) in STATES.items():
        part = table[table["state"] == state]
        positions = [groups.index(str(value)) + 1 for value in part[by]]
        shift = 0.12 * np.sin(2.4 * np.arange(len(part)))  # apart, so that equal values can be told
        ax.plot(
            positions + shift, part[OBJECTIVE].clip(upper=top), marker, color=colour, alpha=0.8, clip_on=False,
            label=label if len(part) else None,
        )  # fmt: skip
    ax.set(xlabel=f"{_capital(title(by))} (complete of all trials)", ylabel=MAE)
    ax.tick_params(axis="x", which="both", length=0)
    _room_for_legend(ax, columns=2)
    return figure


@styled
def plot_pareto(result: SearchResult) -> Figure:
    """Complete trials by speed and error, coloured by resolution gain; the Pareto front of the three is ringed."""
    x, y, colour = "jets_per_s", OBJECTIVE, "resolution_gain"
    table, front = result.complete, result.pareto((x, y, colour))
    figure, ax = subplots(figsize=(9.4, 6.6))
    points = ax.scatter(table[x], table[y], c=table[colour], cmap="viridis", s=90, zorder=3)
    ax.scatter(front[x], front[y], s=260, facecolors="none", edgecolors=COLOURS[1], linewidths=2, label="Pareto front")
    if 0 in table.index:
        _ring(ax, table[x][0], table[y][0], "Study's own settings", size=420)
    ax.set(xlabel=_capital(title(x)), ylabel=MAE, xscale="log")
    plain_log_axis(ax.xaxis)
    figure.colorbar(points, ax=ax, label=_capital(title(colour)))
    _room_for_legend(ax)
    return figure


@styled
def plot_comparison(table: pd.DataFrame) -> Figure:
    """Best error against the compute for repeated searches of several methods: median, quartiles and all of them.

    `table` is what `comparison.compare_searches` returns.
    """
    figure, ax = subplots()
    for colour, (method, part) in zip(COLOURS, table.groupby("method", sort=False), strict=False):
        grid = np.arange(part["epochs"].min(), part["epochs"].max() + 1)
        courses = {seed: course.set_index("epochs")["best"] for seed, course in part.groupby("seed")}
        steps = pd.DataFrame({seed: course.reindex(grid, method="ffill") for seed, course in courses.items()})
        low, median, high = (steps.quantile(q, axis=1) for q in (0.25, 0.5, 0.75))
        ax.step(grid, steps, where="post", color=colour, linewidth=0.8, alpha=0.5)
        ax.fill_between(grid, low, high, step="post", color=colour, alpha=0.25, linewidth=0)
        label = f"{_capital(method)}, {len(courses)} searches"
        ax.step(grid, median, where="post", color=colour, linewidth=2.8, label=label)
    ax.set(xlabel="Compute spent [epochs of training]", ylabel=f"Best {MAE[0].lower()}{MAE[1:]}")
    _room_for_legend(ax)
    return figure


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _measured(trials: pd.DataFrame) -> list[str]:
    """The metrics to compare trials by, of those that these have."""
    return [metric for metric in compared_metrics() if trials[metric].notna().any()]


def _constant(ax: Axes, trials: pd.DataFrame) -> float:
    """Draw the constant predictor's error and return it; NaN for a search that does not tell (Katib's trials)."""
    constant = float(trials["constant_mae"].max())
    if np.isfinite(constant):
        ax.axhline(constant, color=COLOURS[9], linestyle="--", label="Best constant")
    return constant


def _ring(ax: Axes, x: float, y: float, label: str, size: float = 200) -> None:
    """Draw a ring around a point that the legend names."""
    ax.scatter(x, y, s=size, facecolors="none", edgecolors="black", linewidths=2, label=label, zorder=4)


def _axis(ax: Axes, position: int, column: pd.Series, result: SearchResult) -> pd.Series:
    """Draw one vertical axis of the parallel coordinates with its end values; the column scaled to 0..1."""
    space = result.space.get(column.name)
    if isinstance(space, Choice):
        extra = [value for value in column.unique() if value not in space.choices]
        choices = [*space.choices, *extra]
        choices = choices if any(isinstance(c, str) for c in choices) else sorted(choices)
        numbers = column.map(choices.index).astype(float)
        ticks = {choice: i for i, choice in enumerate(choices)}
    else:
        log = bool(getattr(space, "log", False)) or (column.name in METRICS and METRICS[column.name].log)
        numbers = np.log(column.astype(float)) if log else column.astype(float)
        ticks = {_short(column.loc[number]): numbers[number] for number in (numbers.idxmin(), numbers.idxmax())}
    low, high = min([*ticks.values(), numbers.min()]), max([*ticks.values(), numbers.max()])
    width = (high - low) or 1.0
    ax.axvline(position, color="black", linewidth=1, zorder=0)
    for label, place in ticks.items():
        ax.annotate(
            str(label), (position, (place - low) / width), (5, 4), textcoords="offset points", size=14,
            bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75}, zorder=4,
        )  # fmt: skip
    return (numbers - low) / width


def _short(value: float) -> str:
    """A number in few characters."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _limit_above(ax: Axes, errors: pd.Series, constant: float) -> None:
    """Keep a few hopeless trials from squeezing all others: the axis ends at twice the constant's distance."""
    errors = errors.astype(float)
    errors = errors[np.isfinite(errors)]
    if len(errors) and np.isfinite(constant):
        low = errors.min()
        high = min(errors.max(), constant + max(constant - low, 0.02 * constant))
        margin = 0.08 * (max(high, constant) - low)
        ax.set_ylim(low - margin, max(high, constant) + margin)


def _room_for_legend(ax: Axes, columns: int = 1) -> None:
    """The legend above the axes, where no data are."""
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns, borderaxespad=0.2)

"""How all figures look: mplhep's CMS style, smaller, with colours that colour-blind readers can tell apart.

Figures are returned closed, that is, unknown to pyplot: a notebook shows them once, when they end a cell, and a loop
over many of them keeps no memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, ParamSpec, Self, cast

import hist
import matplotlib.pyplot as plt
import mplhep
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike, NDArray

from .files import atomic_path
from .looks import COLOURS, look_of

__all__ = [
    "COLOURS", "StyledFigure", "axis_of_names", "color_of", "density_steps", "draw_points", "experiment_label",
    "figure_with_ratio", "finish", "finish_row", "label_row", "legend", "log_pt_axis", "marker_of", "note_if_empty",
    "plain_log_axis", "pt_range", "room_on_top", "save_figure", "selection_label", "styled", "subplots",
    "title_of",
]  # fmt: skip

P = ParamSpec("P")

ENERGY = "13 TeV"
"""Of the collisions, where nothing else is known."""

_SIZES = {
    "figure.figsize": (8.0, 6.6), "figure.dpi": 80, "savefig.dpi": 120, "font.size": 17, "axes.labelsize": 18,
    "xtick.labelsize": 15, "ytick.labelsize": 15, "legend.fontsize": 14, "legend.frameon": False,
    "legend.handletextpad": 0.5, "axes.linewidth": 1.4, "lines.linewidth": 1.8, "lines.markersize": 6,
    "xtick.major.size": 9, "xtick.minor.size": 5, "ytick.major.size": 9, "ytick.minor.size": 5,
    "figure.constrained_layout.use": True, "savefig.bbox": None, "pdf.fonttype": 42,
}  # fmt: skip
_STYLE = ["default", mplhep.style.CMS, _SIZES]  # first matplotlib's own: not what the user's matplotlibrc says


def styled(draw: Callable[P, Figure]) -> Callable[P, StyledFigure]:
    """Decorator of a function that returns a figure made by `subplots`.

    The figure is drawn in the project's style, and closed.
    """

    @functools.wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> StyledFigure:
        with plt.style.context(_STYLE):
            figure = cast("StyledFigure", draw(*args, **kwargs))
        plt.close(figure)
        return figure

    return in_style


class StyledFigure(Figure):
    """A figure that keeps the project's style when it is drawn later: fonts and ticks are looked up only then."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.labels: list[tuple[Axes, str]] = []  # where it says what made the jets, and what it says to the right
        self._complete = False

    def complete(self, source: str = "", energy: str = ENERGY) -> Self:
        """Say what made the jets, and make room for legends and texts above the data: once, when it is shown or saved.

        `source` is written where `experiment_label` says, see `RunFolder.source`; without it the figure does not say
        whose jets it shows. `energy` takes the place of `ENERGY`.
        """
        if not self._complete:
            self._complete = True
            with plt.style.context(_STYLE):
                for ax, right in self.labels:
                    _label(ax, source, right.replace(ENERGY, energy))
                for ax in self.axes:
                    if ax.get_title(loc="right") == ENERGY:
                        ax.set_title(energy, loc="right", fontsize=15)
                _uncover_data(self)
            # All is in its place: not looked for by each display and each file ("none" would have each drawn twice)
            self.set_layout_engine(None)
        return self

    def draw(self, renderer: RendererBase) -> None:
        """Draw in the project's style."""
        self.complete()
        with plt.style.context(_STYLE):
            super().draw(renderer)

    def get_tightbbox(self, *args: Any, **kwargs: Any) -> Bbox:
        """The box around all that is drawn, as in the project's style."""
        self.complete()
        with plt.style.context(_STYLE):
            return super().get_tightbbox(*args, **kwargs)


def subplots(rows: int = 1, columns: int = 1, **options: Any) -> tuple[StyledFigure, Any]:
    """``plt.subplots`` for a figure that keeps the project's style."""
    return plt.subplots(rows, columns, FigureClass=StyledFigure, **options)


def save_figure(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write ``<folder>/<name>.png`` and ``.pdf``, each complete or not at all, and return their paths."""
    paths = [Path(folder) / f"{name}.{suffix}" for suffix in ("png", "pdf")]
    for path in paths:
        # Without a date the same figure gives the same bytes.
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
        with atomic_path(path) as temporary, plt.style.context(_STYLE):
            figure.savefig(temporary, metadata=metadata, dpi=120)
    return paths


def experiment_label(ax: Axes, right: str = "13 TeV") -> None:
    """Have it said above the axes what made the jets, see `StyledFigure.complete`, and `right` at the other end."""
    cast("StyledFigure", ax.figure).labels.append((ax, right))


def selection_label(ax: Axes, text: str, x: float = 0.04, y: float = 0.96) -> None:
    """Write the selection in the upper left corner of the axes."""
    ax.text(x, y, text, transform=ax.transAxes, ha="left", va="top", fontsize=15, linespacing=1.5)


def legend(ax: Axes, columns: int = 1, **options: Any) -> None:
    """A legend in the upper right corner, where `room_on_top` keeps data away."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper right", ncols=columns, **options)


def room_on_top(ax: Axes, share: float = 0.3) -> None:
    """Extend the vertical axis so that data end below the top `share` of it, where legend and selection stand."""
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log":
        ax.set_ylim(low, low * (high / low) ** (1 / (1 - share)))
    else:
        ax.set_ylim(low, low + (high - low) / (1 - share))


def finish(
    ax: Axes,
    text: str = "",
    *,
    room: float = 0.25,
    key: Axes | None = None,
    right: str | None = "13 TeV",
    x: float = 0.04,
) -> None:
    """How most figures end: room above the data for the selection `text` and the legend, and what made the jets.

    The legend stands in the axes `key`, by default these; `x` is where the text begins, and `right` what stands at the
    other end of the line that says what made the jets; None: the figure is not about jets, and has no such line.
    """
    room_on_top(ax, room)
    if text:
        selection_label(ax, text, x)
    legend(key or ax)
    if right is not None:
        experiment_label(ax, right)


def finish_row(axes: Sequence[Axes], text: str = "", *, room: float = 0.25) -> None:
    """As `finish` for panels beside each other: the selection in the first one, the legend in the last one."""
    finish(axes[0], text, room=room, key=axes[-1], right=None)
    label_row(axes)


def label_row(axes: Sequence[Axes]) -> None:
    """Say above panels beside each other what made the jets, at the first one, and the energy, at the last one."""
    alone = len(axes) == 1
    experiment_label(axes[0], ENERGY if alone else "")
    if not alone:
        axes[-1].set_title(ENERGY, loc="right", fontsize=15)


def axis_of_names(ax: Axes, names: Collection[str], margin: float = 0.1, **options: Any) -> None:
    """A horizontal axis with a name at each whole number; `options` are those of `Axes.set_xticks`."""
    ax.set_xticks(range(len(names)), list(names), **options)
    ax.tick_params(axis="x", which="minor", bottom=False, top=False)
    ax.set_xlim(-0.5 - margin, len(names) - 0.5 + margin)


def density_steps(
    ax: Axes, values: ArrayLike, low: float, high: float, bins: int | None = None, **options: Any
) -> None:
    """A histogram of `values` as a probability density, with its statistical errors.

    Without `bins` their number follows the number of values (Rice's rule), 10 to 50. A range without a width, that of
    values which are all the same, is widened to 1.
    """
    low, high = (low, high) if low < high else (low - 0.5, low + 0.5)
    size = np.size(values)
    bins = bins or int(np.clip(2 * np.cbrt(size), 10, 50))
    filled = hist.Hist.new.Reg(bins, low, high).Int64().fill(values)
    scale = 1 / max(size * filled.axes[0].widths[0], 1e-12)
    errors = np.sqrt(filled.values()) * scale
    mplhep.histplot(filled.values() * scale, filled.axes[0].edges, yerr=errors, ax=ax, histtype="step", **options)


def figure_with_ratio() -> tuple[Figure, Axes, Axes]:
    """A figure with a main panel and a ratio panel below that shares its horizontal axis."""
    figure, (main, ratio) = subplots(
        2, 1, sharex=True, figsize=(8.0, 7.6), gridspec_kw={"height_ratios": [3, 1.25], "hspace": 0.04}
    )
    figure.align_ylabels()
    return figure, main, ratio


def log_pt_axis(ax: Axes, low: float, high: float, label: str = r"$p_\mathrm{T}^\mathrm{gen}$ [GeV]") -> None:
    """A logarithmic horizontal axis in GeV with plain numbers at its ticks."""
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.xaxis.set_major_locator(FixedLocator([20, 50, 100, 200, 500, 1000, 2000]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(label)


class _FewNumbers(LogLocator):
    """At 1, 2 and 5 of each power of ten; at the powers if these are many, and at round numbers if it is none."""

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        low, high = sorted((vmin, vmax))
        powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ticks = np.outer(powers, (1, 2, 5)).ravel() if high <= 100 * low else powers
        if np.count_nonzero((low <= ticks) & (ticks <= high)) < 2:
            ticks = np.asarray(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
        return ticks.tolist()


def plain_log_axis(axis: Axis) -> None:
    """Plain numbers that do not touch, for a logarithmic axis of few powers of ten."""
    axis.set_major_locator(_FewNumbers())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}".replace(",", " ")))
    axis.set_minor_formatter(NullFormatter())


def pt_range(table: pd.DataFrame) -> tuple[float, float]:
    """The range in pt, GeV, of a table of bins with ``low`` and ``high``; all of it if the table is empty."""
    return (float(table["low"].min()), float(table["high"].max())) if len(table) else (20.0, 3000.0)


def note_if_empty(ax: Axes, table: pd.DataFrame) -> None:
    """Say on the axes that there are too few jets, if the table that they show has no row."""
    if len(table) == 0:
        ax.text(0.5, 0.5, "too few jets", transform=ax.transAxes, ha="center", va="center", color="0.4", fontsize=16)


def color_of(correction: str, among: Sequence[str] = ()) -> str:
    """The colour of a correction, the same in every figure."""
    return str(look_of(correction, among).colour)


def marker_of(correction: str, among: Sequence[str] = ()) -> str:
    """The marker of a correction, the same in every figure."""
    return str(look_of(correction, among).marker)


def draw_points(
    ax: Axes, correction: str, among: Sequence[str], x: ArrayLike, y: ArrayLike, error: ArrayLike | None, **options: Any
) -> None:
    """Points with error bars that look as a correction does; `options` are those of `Axes.errorbar`."""
    look = {"fmt": marker_of(correction, among), "color": color_of(correction, among), "label": title_of(correction)}
    ax.errorbar(x, y, **{"yerr": error} | look | options)


def title_of(correction: str) -> str:
    """The name of a correction in legends."""
    return look_of(correction).label


def _label(ax: Axes, left: str, right: str) -> None:
    """Write above the axes as mplhep does; it draws the figure twice to find room beside a power of ten."""
    ticks = ax.yaxis.get_major_formatter()
    ticks.format_ticks(list(ax.yaxis.get_majorticklocs()))
    if ticks.get_offset():
        mplhep.label.exp_label(exp="", llabel=left, rlabel=right, ax=ax, loc=0, fontsize=17)
    else:
        mplhep.label.add_text(left, ax=ax, loc="over left", xpad=0, ypad=0, fontsize=17, fontstyle="italic")
        mplhep.label.add_text(right, ax=ax, loc="over right", xpad=0, ypad=0, fontsize=15.5)


def _uncover_data(figure: Figure, steps: int = 8) -> None:
    """Extend vertical axes, a tenth at a time, until no legend and no text covers data."""
    if any(ax.get_aspect() != "auto" for ax in figure.axes):
        figure.draw_without_rendering()  # the layout of axes of fixed shape is found in two steps
    for _ in range(steps):
        figure.draw_without_rendering()
        covered = [ax for ax in figure.axes if _covers_data(ax)]
        if not covered:
            return
        for ax in covered:
            room_on_top(ax, 0.1)


def _covers_data(ax: Axes) -> bool:
    """Whether the legend or a text in a corner of the axes lies over points, error bars or histogram steps."""
    points = _data_pixels(ax)
    boxes = [text.get_window_extent() for text in ax.texts if text.get_transform() == ax.transAxes]
    boxes += [key.get_window_extent()] if (key := ax.get_legend()) else []
    return any(box.padded(3).count_contains(points) for box in boxes)


def _data_pixels(ax: Axes) -> NDArray[np.float64]:
    """Where data are drawn, in pixels (N, 2); error bars by their ends and middle."""
    # A line of two points without markers is a guide to the eye, such as a diagonal.
    lines = [(line, np.asarray(line.get_xydata())) for line in ax.lines if line.get_transform() == ax.transData]
    points: list[NDArray] = [data for line, data in lines if len(data) != 2 or line.get_marker() not in ("None", "")]
    for container in ax.containers:
        if isinstance(container, ErrorbarContainer):
            # without an error there is no bar
            bars = [each for bars in container.lines[2] for each in bars.get_segments() if each.size]
            points += [*bars, *(bar.mean(axis=0)[None] for bar in bars)]
    points += [np.asarray(patch.get_path().vertices) for patch in ax.patches if isinstance(patch, StepPatch)]
    return ax.transData.transform(np.concatenate(points)) if points else np.empty((0, 2))

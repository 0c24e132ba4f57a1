"""Figures of serving: jets a second, and where the time of a request goes."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..style import COLOURS, color_of, finish, marker_of, plain_log_axis, styled, subplots, title_of
from .inference_cost import PUBLISHED_JETS_PER_S

__all__ = ["plot_multiplicity", "plot_throughput", "plot_time_per_jet"]


@styled
def plot_throughput(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Jets a second against the number of jets in a request, beside the published figures.

    Parameters
    ----------
    tables
        By model, as `inference_cost.measure_inference` returns them.
    """
    figure, ax = subplots()
    for name, table in tables.items():
        look = {"color": color_of(name, list(tables)), "marker": marker_of(name, list(tables))}
        ax.plot(table["batch_size"], table["jets_per_s"], label=f"{title_of(name)}, measured here", **look)
    for (name, device), published in PUBLISHED_JETS_PER_S.items():
        if name in tables:
            look = {"color": color_of(name, list(tables)), "marker": marker_of(name, list(tables)), "fillstyle": "none"}
            label = f"{title_of(name)}, published, {device}"
            ax.plot(
                list(published), list(published.values()), linestyle=":" if device == "CPU" else "--", label=label,
                **look,
            )  # fmt: skip
    _axes_of_batch_sizes(ax, "Jets / s")
    finish(ax, room=0.3, right=None)
    return figure


@styled
def plot_time_per_jet(table: pd.DataFrame, title: str) -> Figure:
    """Where the time of a request goes, for each jet: computing, waiting in the server's queue, and all the rest.

    Parameters
    ----------
    table
        As `inference_cost.measure_inference` returns it; times in microseconds a jet.
    """
    figure, ax = subplots()
    parts = (
        ("wall", "Total, as the client sees it", "black", "s"), ("model", "Model", COLOURS[0], "o"),
        ("queue", "Queue", COLOURS[2], "D"), ("network", "Network, HTTP or gRPC", COLOURS[1], "^"),
        ("packing", "Packing in the client", COLOURS[3], "v"),
    )  # fmt: skip
    for column, label, color, marker in parts:
        if (table[column] > 0).any():
            ax.plot(table["batch_size"], table[column], label=label, color=color, marker=marker)
    _axes_of_batch_sizes(ax, r"Time per jet [$\mu$s]")
    finish(ax, title, right=None)
    return figure


def _axes_of_batch_sizes(ax: Axes, label: str) -> None:
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set(xlabel="Jets in a request", ylabel=label)


@styled
def plot_multiplicity(tables: Mapping[str, pd.DataFrame], batch_size: int) -> Figure:
    """Time per jet against the number of its particles; error bars are the quartiles of the requests.

    Parameters
    ----------
    tables
        By model, as `inference_cost.measure_multiplicity` returns them.
    batch_size
        Jets in a request.
    """
    figure, ax = subplots()
    for name, table in tables.items():
        ax.errorbar(
            table["particles"], table["wall"], yerr=[table["wall"] - table["low"], table["high"] - table["wall"]],
            label=title_of(name), color=color_of(name, list(tables)), marker=marker_of(name, list(tables)),
        )  # fmt: skip
    ax.set_yscale("log")
    plain_log_axis(ax.yaxis)
    ax.set_xlim(left=0)
    ax.set(xlabel="Particles in a jet", ylabel=r"Time per jet [$\mu$s]")
    finish(ax, f"Requests of {batch_size} jets", room=0.3, right=None)
    return figure

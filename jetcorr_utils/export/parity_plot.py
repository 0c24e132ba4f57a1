"""Figures of the exported models: agreement with PyTorch."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ..style import color_of, experiment_label, selection_label, styled, subplots, title_of

__all__ = ["plot_parity"]


@styled
def plot_parity(first: ArrayLike, second: ArrayLike, first_name: str, second_name: str, model: str) -> Figure:
    """Distribution of the relative difference between the correction factors of two runtimes.

    Parameters
    ----------
    first, second
        `(B,)` each, log of the correction factor.
    first_name, second_name
        The runtimes.
    model
        The network.
    """
    difference = np.expm1(np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64))
    figure, ax = subplots()
    largest = max(np.abs(difference).max(), np.finfo(np.float32).eps)
    ax.hist(difference * 1e6, bins=61, range=(-largest * 1e6, largest * 1e6), color=color_of(model))
    ax.set_yscale("log")
    ax.set(xlabel=rf"Correction factor: {second_name} / {first_name} $-$ 1  [$10^{{-6}}$]", ylabel="Jets")
    ax.set_ylim(bottom=0.5)
    selection_label(
        ax, f"{title_of(model)}\n{len(difference):,} jets\nlargest difference {largest:.1e}".replace(",", " ")
    )
    experiment_label(ax)
    return figure

"""What less precision of a served model costs in physics: paired differences, since the jets are the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ..bootstrap import Bootstrap, estimate
from ..config import PhysicsSettings
from ..metrics import METRICS, Jets
from ..style import draw_points, experiment_label, selection_label, styled, subplots
from .binning import ETA_BINS, PT_BINS
from .measurement import absolute_log_error, rows_in
from .predictions import predictions_table, response

__all__ = ["plot_precision_cost", "precision_cost"]


def precision_cost(
    table: Mapping[str, ArrayLike],
    variants: Mapping[str, tuple[ArrayLike, ArrayLike]],
    settings: PhysicsSettings | None = None,
) -> pd.DataFrame:
    """Error, resolution gain and closure of variants of one model, and their changes from the first variant.

    Parameters
    ----------
    table
        The jets' identifiers and labels by branch name, for example ``CloudDataset.table``.
    variants
        By name, log(correction factor) (N,) and sigma (N,); the reference first.
    settings
        Bootstrap replicas and seed.

    Returns
    -------
    DataFrame with one row a variant: ``variant``, ``mae``, ``resolution_gain`` over the standard correction and
    ``closure`` (gen pt > 30 GeV, abs(eta) < 2.5), and for each of them ``<name>_change`` from the first variant with
    its error ``<name>_change_error``.
    """
    predictions = predictions_table(table, variants)
    bootstrap = Bootstrap.of(predictions, settings)
    widest = max(ETA_BINS, key=lambda eta: eta.high - eta.low)
    rows = rows_in(predictions, PT_BINS[0], widest)
    standard = Jets(bootstrap, response(predictions, "standard"), rows, None)
    measured: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name in variants:
        jets = Jets(bootstrap, response(predictions, name), rows, None, standard)
        measured[name] = {"mae": jets.mean(absolute_log_error(predictions, name))}
        found = {metric: METRICS[metric].measure(jets) for metric in ("resolution_gain", "closure")}
        measured[name] |= {metric: values for metric, values in found.items() if values is not None}
    reference = measured[next(iter(variants))]
    return pd.DataFrame([{"variant": name} | _row(numbers, reference, len(rows)) for name, numbers in measured.items()])


def _row(
    numbers: Mapping[str, NDArray[np.float64]], reference: Mapping[str, NDArray[np.float64]], jets: int
) -> dict[str, float | int | None]:
    row: dict[str, float | int | None] = {}
    for name, replicas in numbers.items():
        change = estimate(replicas - reference[name], jets)
        row |= {name: float(replicas[0]), f"{name}_change": change["value"], f"{name}_change_error": change["error"]}
    return row


_PANELS = (
    ("resolution_gain", 100.0, "Change of resolution gain [%]"),
    ("closure", 100.0, "Change of closure [%]"),
    ("mae", 1e3, r"Change of the MAE [$10^{-3}$]"),
)


@styled
def plot_precision_cost(costs: Mapping[str, pd.DataFrame]) -> Figure:
    """Changes of resolution gain, closure and error by variant.

    Parameters
    ----------
    costs
        By model, as `precision_cost` returns them.
    """
    names = list(costs)
    figure, axes = subplots(1, len(_PANELS), figsize=(14.5, 6.0))
    for ax, (quantity, unit, label) in zip(axes, _PANELS, strict=True):
        for number, (model, table) in enumerate(costs.items()):
            variants = table.iloc[1:]
            x = np.arange(len(variants)) + 0.16 * (number - (len(costs) - 1) / 2)
            change, error = (unit * variants[f"{quantity}_{part}"] for part in ("change", "change_error"))
            draw_points(ax, model, names, x, change, error, capsize=4)
        ax.axhline(0, color="grey", linewidth=1)
        ax.set_xticks(range(len(variants)), variants["variant"], rotation=20)
        ax.set(xlim=(-0.6, len(variants) - 0.4), ylabel=label)
        ax.minorticks_off()
        low, high = ax.get_ylim()
        ax.set_ylim(low - 0.1 * (high - low), high + 0.45 * (high - low))
    selection_label(axes[0], r"$p_\mathrm{T}^\mathrm{gen} > 30$ GeV, $|\eta^\mathrm{gen}| < 2.5$")
    axes[-1].legend(loc="upper right")
    experiment_label(axes[0], right="")
    return figure

"""The results table: resolution and flavour gain of each model, with errors, beside the published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..errors import InputError
from ..metrics import Metric, gains_in, shown_metrics
from .binning import ETA_BINS
from .published import published_text

__all__ = ["ETAS", "measured_models", "results_markdown", "results_table"]

ETA_COLUMN = "|η|"

#: the names of the bins in abs(eta)
ETAS = tuple(eta_bin.name for eta_bin in ETA_BINS)


def measured_models(metrics: Mapping[str, Any]) -> list[str]:
    """The models in metrics.json: its entries that have gains."""
    return [name for name, entry in metrics.items() if gains_in(entry)]


def results_table(
    metrics: Mapping[str, Any], models: Sequence[str] | None = None, *, where: str = "metrics"
) -> pd.DataFrame:
    """Gains over the standard correction in %, one row for each quantity, abs(eta) and gen pt bin.

    Parameters
    ----------
    metrics
        As `measure` returns them, or as metrics.json has them.
    models
        Which models to show; default: all.
    where
        What the metrics are, for the message of an error: the path of their file.

    Returns
    -------
    DataFrame of text: columns ``gain``, ``|η|``, ``gen pt [GeV]``, one column for each model
    (``value ± error``), ``jets`` and ``published``.

    Raises
    ------
    InputError
        If a model is not in the metrics.
    """
    known = measured_models(metrics)
    models = list(models) if models is not None else known
    unknown = [name for name in models if name not in known]
    if unknown or not models:
        there = f"there are {', '.join(known)}" if known else "notebook 06 measures them"
        raise InputError(f"{where}: no model {f'{unknown[0]!r} ' if unknown else ''}in them; {there}")
    rows = []
    for metric in shown_metrics():
        if metric.name not in metrics[models[0]]:
            continue  # of a run without this extension
        for eta, pt_bins in metrics[models[0]][metric.name].items():
            for pt, entry in pt_bins.items():
                row = {"gain": metric.title, ETA_COLUMN: eta, "gen pt [GeV]": pt.replace("-inf", "+")}
                row |= {name: _text(metric, metrics[name][metric.name][eta][pt]) for name in models}
                rows.append(row | {"jets": entry["jets"], "published": published_text(metric.name, eta, pt)})
    return pd.DataFrame(rows)


def results_markdown(
    metrics: Mapping[str, Any],
    models: Sequence[str] | None = None,
    *,
    etas: Sequence[str] = ETAS,
    where: str = "metrics",
) -> str:
    """The results table as a markdown table, aligned so that it reads well in a terminal, too.

    Raises
    ------
    InputError
        If a model is not in the metrics, or one of `etas` is no bin.
    """
    if unknown := [name for name in etas if name not in ETAS]:
        raise InputError(f"abs(eta) {unknown[0]!r}: there are {', '.join(ETAS)}")
    table = results_table(metrics, models, where=where)
    # a vertical bar would end the cell
    table = table[table[ETA_COLUMN].isin(etas)].astype(str).rename(columns={ETA_COLUMN: "abs(eta)"})
    columns = {name: [f"{name} [%]" if name in measured_models(metrics) else name, *table[name]] for name in table}
    widths = {name: max(map(len, cells)) for name, cells in columns.items()}
    lines = []
    for number in range(len(table) + 1):
        lines.append("| " + " | ".join(cells[number].ljust(widths[name]) for name, cells in columns.items()) + " |")
        if number == 0:
            lines.append("|" + "|".join("-" * (width + 2) for width in widths.values()) + "|")
    return "\n".join(lines)


def _text(metric: Metric, entry: Mapping[str, Any]) -> str:
    """``8.2 ± 0.3`` from a value and its error, ``-`` where there are too few jets."""
    digits = 1 if metric.unit == "%" else 4
    if entry["value"] is None:
        return "-"
    error = "" if entry["error"] is None else f" ± {metric.scale * entry['error']:.{digits}f}"
    return f"{metric.scale * entry['value']:z.{digits}f}{error}"

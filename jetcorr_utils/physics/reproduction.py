"""The published gains, predicted: what networks with the published inputs gain on our jets, beside what they gained
on CMS's.

It is the blind test of the simulation. The detector is fixed by comparison with CMS's jets alone; then the networks of
studies `paper` and `thesis` are trained once, and what comes out is written down, whatever it is. Studies that are
trained again after a change of the detector are another round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..bootstrap import Bootstrap, estimate
from ..config import PhysicsSettings, Study
from ..data import load_clouds
from ..errors import InputError
from ..metrics import METRICS, Jets
from ..style import COLOURS, axis_of_names, experiment_label, legend, room_on_top, selection_label, styled, subplots
from .binning import ETA_BINS, FLAVOURS, Bin, bin_text, selection_text
from .measurement import rows_in
from .predictions import predictions_table, response
from .published import PUBLISHED, Published

if TYPE_CHECKING:
    from ..run import RunFolder

__all__ = ["gains_beside_published", "plot_reproduction", "published_model", "reproduce", "reproduction_table"]

QUANTITIES = ("resolution_gain", "flavour_gain")


def published_model(study: Study) -> tuple[str, str, str]:
    """Which model of a study has published inputs: its name, the source of these (`paper` or `thesis`), and the network
    whose published gains are beside its own.

    Raises
    ------
    InputError
        If there is none.
    """
    networks: dict[str, list[str]] = {}
    for figure in PUBLISHED:
        networks.setdefault(figure.source, []).append(figure.model)
    for name, model in study.models.items():
        if isinstance(model.features, str) and model.features in networks:
            known = dict.fromkeys(networks[model.features])
            same = [network for network in known if network.lower() == model.architecture]
            return name, model.features, same[0] if same else list(known)[-1]
    raise InputError(
        f"study {study.name}: no model has the features {' or '.join(networks)}: there is nothing to compare"
    )


def reproduce(study: Study, run: RunFolder, *, progress: bool = True) -> dict[str, Any]:
    """The gains of the model with published inputs on the study's test jets, beside the published ones.

    Parameters
    ----------
    study
        With such a model, see `published_model`.
    run
        Where it was trained.

    Returns
    -------
    See `gains_beside_published`.

    Raises
    ------
    MissingStageError
        If the model has not been trained.
    """
    from ..export.export_models import best_checkpoint
    from ..training import load_model, predict

    name, source, network = published_model(study)
    model = load_model(best_checkpoint(study, run, name, tuned=False))
    test = load_clouds(study.data, study.models[name].features, progress=progress).split("test")
    predictions = predictions_table(test.table, {name: predict(model, test)})
    return gains_beside_published(predictions, name, source, network, study.physics)


def gains_beside_published(
    predictions: pd.DataFrame, model: str, source: str, network: str, settings: PhysicsSettings
) -> dict[str, Any]:
    """The gains of a model in each bin in which there is a published one.

    Parameters
    ----------
    predictions
        Test jets with ``<model>_pt``.
    source, network
        Of the published gains.

    Returns
    -------
    ``{"resolution_gain": {abs(eta): {gen pt: {"ours", "error", "published"}}}, "flavour_gain": {…}}``, fractions; None
    where a bin has too few jets.
    """
    bootstrap = Bootstrap.of(predictions, settings)
    values = {name: response(predictions, name) for name in ("standard", model)}
    flavour = predictions["flavour"].to_numpy()
    result: dict[str, Any] = {quantity: {} for quantity in QUANTITIES}
    for figure in PUBLISHED:
        if (figure.source, figure.model) != (source, network):
            continue
        rows = rows_in(predictions, *_bins(figure))
        groups = [rows[flavour[rows] == code] for code in FLAVOURS]
        replicas = None
        if len(rows) >= settings.min_jets:
            parts = groups if min(map(len, groups)) >= settings.min_flavour_jets else None
            standard = Jets(bootstrap, values["standard"], rows, parts)
            replicas = METRICS[figure.quantity].measure(Jets(bootstrap, values[model], rows, parts, standard))
        found: Mapping[str, Any] = {"value": None, "error": None} if replicas is None else estimate(replicas, len(rows))
        entry = {"ours": found["value"], "error": found["error"], "published": figure.percent / 100}
        result[figure.quantity].setdefault(figure.eta, {})[figure.pt] = entry
    return result


def _bins(figure: Published) -> tuple[Bin, Bin]:
    low, high = (float(edge) for edge in figure.pt.split("-"))
    (eta,) = (region for region in ETA_BINS if region.name == figure.eta)
    return Bin(low, high), eta


def reproduction_table(reproduction: Mapping[str, Any]) -> pd.DataFrame:
    """reproduction.json as one table, in per cent: ``ours``, ``error``, ``published`` and their ``difference``."""
    rows = [
        {"inputs": source, "gain": METRICS[quantity].title, "abs(eta)": eta, "gen pt / GeV": pt,
         **{name: None if value is None else 100 * value for name, value in entry.items()}}
        for source, entries in reproduction.items()
        for quantity in QUANTITIES
        for eta, bins in entries[quantity].items()
        for pt, entry in bins.items()
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["inputs", "gain", "abs(eta)", "gen pt / GeV", "ours", "error", "published"])
    table = table.astype(dict.fromkeys(["ours", "error", "published"], float))
    return table.assign(difference=table["ours"] - table["published"])


@styled
def plot_reproduction(reproduction: Mapping[str, Any]) -> Figure:
    """The gains on our jets beside the published ones: a row for each quantity, a column for each source and region."""
    places = [(source, eta) for source, entries in reproduction.items() for eta in entries[QUANTITIES[0]]]
    figure, axes = subplots(
        len(QUANTITIES), len(places), sharey="row", squeeze=False, figsize=(5.2 * len(places) + 1.6, 9.6)
    )
    table = reproduction_table(reproduction)
    for row, quantity in zip(axes, QUANTITIES, strict=True):
        metric = METRICS[quantity]
        for ax, (source, eta) in zip(row, places, strict=True):
            here = table[(table["inputs"] == source) & (table["gain"] == metric.title) & (table["abs(eta)"] == eta)]
            _beside(ax, here)
            (region,) = (region for region in ETA_BINS if region.name == eta)
            selection_label(ax, f"inputs of the {source}\n{selection_text(None, region)}")
        row[0].set_ylabel(metric.label)
        room_on_top(row[0], 0.35)
    for ax in axes[-1]:
        ax.set_xlabel(r"$p_\mathrm{T}^\mathrm{gen}$ [GeV]")
    legend(axes[0, -1])
    experiment_label(axes[0, 0])
    return figure


def _beside(ax: Any, table: pd.DataFrame) -> None:
    x = np.arange(len(table))
    there = table["ours"].notna().to_numpy()
    look = {"fmt": "s", "color": "black", "label": "jetcorr simulation"}
    ax.errorbar(x[there] - 0.1, table["ours"][there], yerr=table["error"][there], **look)
    ax.plot(x + 0.1, table["published"], "D", color=COLOURS[2], mfc="none", ms=9, label="CMS simulation, published")
    axis_of_names(ax, table["gen pt / GeV"].map(bin_text), rotation=45, ha="right", fontsize=13)
    ax.axhline(0, color="0.6", linestyle="--", linewidth=1, zorder=0)

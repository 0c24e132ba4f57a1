"""How CMS-like the simulated jets are: resolution, flavour dependence and energy fractions beside CMS's own.

CMS's figures are those of its standard-corrected jets in open data record 12100, abs(eta) < 1.3, from the data of the
figures in github.com/deinal/jec-inference. The detector's parameters are chosen by this comparison, before any network
is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import awkward as ak
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..config import PhysicsSettings
from ..style import (
    COLOURS,
    experiment_label,
    figure_with_ratio,
    legend,
    log_pt_axis,
    note_if_empty,
    room_on_top,
    selection_label,
    styled,
    subplots,
)
from .binning import ETA_BINS, FLAVOURS, PT_BINS, PT_EDGES, selection_text
from .explore_particles import energy_fractions
from .predictions import predictions_table
from .profiles import flavour_medians, profile

__all__ = ["CMS_FLAVOUR", "CMS_RESOLUTION", "cms_comparison", "plot_cms_flavour", "plot_cms_resolution"]

#: IQR / median of the response at the centre of a bin in gen pt (GeV)
CMS_RESOLUTION = {
    50: 0.187, 66: 0.168, 85: 0.153, 111: 0.137, 145: 0.126, 188: 0.112, 245: 0.101, 319: 0.092, 415: 0.085,
    540: 0.076, 703: 0.074, 916: 0.067, 1192: 0.063, 1552: 0.059,
}  # fmt: skip

#: median response by bin in gen pt and flavour
CMS_FLAVOUR = {
    "30-inf": {"u": 1.018, "d": 1.021, "s": 1.001, "c": 1.002, "b": 0.999, "g": 0.996},
    "300-1000": {"u": 1.012, "d": 1.016, "s": 0.996, "c": 0.998, "b": 0.998, "g": 0.991},
}

_COLUMNS = (
    "run", "lumi", "event", "jetPtOrder", "jetPt", "jetEta", "jetRawPt", "genJetPt", "genJetEta", "hadronFlav",
    "partonFlav", "rhoAll",
)  # fmt: skip
_BARREL = ETA_BINS[0]


def cms_comparison(jets: ak.Array, settings: PhysicsSettings | None = None) -> dict[str, Any]:
    """Our simulation beside CMS's.

    Parameters
    ----------
    jets
        Simulated jets with their particles, as `jetcorr_utils.data` reads them.

    Returns
    -------
    The layout of cms_comparison.json: ``{"resolution": [{"pt", "ours", "error", "cms"}, …], "flavour": {"30-inf": {"u":
    {"ours", "error", "cms"}, …}, "300-1000": {…}}, "energy_fractions": {"charged", "photon", "neutral"}, "jets"}``.
    Bins with fewer than 100 jets, or 20 of a flavour, are left out.
    """
    table = predictions_table({name: ak.to_numpy(jets[name]) for name in _COLUMNS}, {})
    measured = profile(table, ["standard"], settings, eta_bin=_BARREL, min_jets=100)
    centers = np.sqrt(PT_EDGES[1:] * PT_EDGES[:-1])
    resolution = []
    for pt, cms in CMS_RESOLUTION.items():
        low = PT_EDGES[np.argmin(np.abs(centers - pt))]
        row = measured[np.isclose(measured["low"], low)]
        if len(row):
            ours, error = row[["resolution", "resolution_error"]].to_numpy()[0]
            resolution.append({"pt": pt, "ours": float(ours), "error": float(error), "cms": cms})
    flavour = {pt_bin.name: _flavours(table, pt_bin.name, settings) for pt_bin in PT_BINS if pt_bin.name in CMS_FLAVOUR}
    shares = {name: float(share.mean()) for name, share in energy_fractions(jets).items()}
    fractions = {
        "charged": shares["charged hadrons"] + shares["electrons"] + shares["muons"],
        "photon": shares["photons"],
        "neutral": shares["neutral hadrons"],
    }
    return {"resolution": resolution, "flavour": flavour, "energy_fractions": fractions, "jets": len(table)}


@styled
def plot_cms_resolution(comparison: Mapping[str, Any]) -> Figure:
    """Resolution of the standard-corrected jets beside CMS's, and their ratio; the band is ±10 %."""
    figure, main, ratio = figure_with_ratio()
    table = pd.DataFrame(comparison["resolution"], columns=["pt", "ours", "error", "cms"])
    note_if_empty(main, table)
    ours, cms, error = table["ours"], table["cms"], table["error"]
    published = list(CMS_RESOLUTION.values())
    main.errorbar(table["pt"], ours, yerr=error, fmt="s", color="black", label="jetcorr simulation")
    main.plot(list(CMS_RESOLUTION), published, "o", color=COLOURS[1], label="CMS simulation, published")
    ratio.errorbar(table["pt"], ours / cms, yerr=error / cms, fmt="s", color="black")
    ratio.axhspan(0.9, 1.1, color="0.9", zorder=0)
    ratio.axhline(1, color="0.4", linestyle="--", linewidth=1, zorder=0)
    log_pt_axis(ratio, 40, 2000)
    low, high = ratio.get_ylim()
    ratio.set_ylim(min(low, 0.8), max(high, 1.2))
    main.set_xlabel("")
    main.set_ylabel("IQR / median of the response")
    main.set_ylim(bottom=0)
    ratio.set_ylabel("jetcorr / CMS", fontsize=15)
    room_on_top(main, 0.15)
    selection_label(main, "L1 + L2L3\n" + selection_text(None, _BARREL))
    legend(main)
    experiment_label(main)
    return figure


@styled
def plot_cms_flavour(comparison: Mapping[str, Any]) -> Figure:
    """Median response by flavour of the standard-corrected jets beside CMS's, one panel for each bin of gen pt."""
    figure, axes = subplots(1, len(CMS_FLAVOUR), sharey=True, figsize=(12.0, 5.8))
    names = list(FLAVOURS.values())
    bins = {pt_bin.name: pt_bin for pt_bin in PT_BINS}
    for ax, (name, published) in zip(axes, CMS_FLAVOUR.items(), strict=True):
        ours = comparison["flavour"][name]
        known = [flavour for flavour in names if flavour in ours]
        ax.errorbar(
            [names.index(flavour) - 0.1 for flavour in known], [ours[flavour]["ours"] for flavour in known],
            yerr=[ours[flavour]["error"] for flavour in known], fmt="s", color="black", label="jetcorr simulation",
        )  # fmt: skip
        x = [names.index(flavour) + 0.1 for flavour in published]
        ax.plot(x, list(published.values()), "o", color=COLOURS[1], label="CMS simulation, published")
        ax.axhline(1, color="0.6", linestyle="--", linewidth=1, zorder=0)
        ax.set_xticks(range(len(names)), names)
        ax.tick_params(axis="x", which="minor", bottom=False, top=False)
        ax.set_xlim(-0.6, len(names) - 0.4)
        ax.set_xlabel("Jet flavour")
        selection_label(ax, selection_text(bins[name], _BARREL))
    axes[0].set_ylabel("Median response, L1 + L2L3")
    room_on_top(axes[0], 0.3)
    legend(axes[-1])
    experiment_label(axes[0], right="")
    axes[-1].set_title("13 TeV", loc="right", fontsize=15)
    return figure


def _flavours(table: pd.DataFrame, pt: str, settings: PhysicsSettings | None) -> dict[str, dict[str, float]]:
    pt_bin = next(pt_bin for pt_bin in PT_BINS if pt_bin.name == pt)
    medians = flavour_medians(table, ["standard"], settings, pt_bin=pt_bin, eta_bin=_BARREL)
    return {
        row.flavour: {"ours": float(row.median), "error": float(row.median_error), "cms": CMS_FLAVOUR[pt][row.flavour]}
        for row in medians.itertuples()
    }

"""How CMS-like the simulated jets are: resolution, flavour dependence, shapes and candidates beside CMS's own.

CMS's figures (cms_published.json) are those of its standard-corrected jets in open data record 12100. The detector's
parameters are chosen by this comparison, before any network is trained.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import awkward as ak
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..config import PhysicsSettings, SelectionSettings
from ..data.selection import reasons
from ..errors import InputError
from .binning import ETA_BINS, PT_BINS, PT_EDGES, Bin
from .explore_particles import PARTICLE_CLASSES, energy_fractions, is_one_of
from .predictions import check_predictions
from .profiles import flavour_medians, profile

__all__ = ["CLASSES", "CLASS_BINS", "REGIONS", "RINGS", "cms_comparison", "cms_published", "cms_summary", "cms_table"]

REGIONS = ETA_BINS[:2]
"""Barrel and endcap, abs(gen eta)."""

RINGS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.7), (0.7, 1.0))
"""Distances from the jet's axis in which stored candidates are counted."""

CLASS_BINS = tuple(Bin(*edges) for edges in ((30, 50), (50, 100), (100, 200), (200, 300), (300, 600), (600, np.inf)))
"""Bins in gen pt, GeV, of the multiplicities of candidates."""

CLASSES = {
    "charged": ("charged hadrons", "electrons", "muons"), "photon": ("photons",), "neutral": ("neutral hadrons",),
}  # fmt: skip
"""Classes of candidates of CMS's figures, and which of `PARTICLE_CLASSES` they hold."""

SHAPES = ("QG_ptD", "QG_axis2", "QG_mult", "jetMass", "jetArea")
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_GROUPS = {"all": None, "uds": (1, 2, 3), "g": (21,), "c": (4,), "b": (5,)}
_SCALARS = ("run", "lumi", "event", "jetPtOrder", "jetPt", "jetEta", "jetRawPt", "genJetPt", "genJetEta", "hadronFlav",
            "partonFlav", "rhoAll", *SHAPES)  # fmt: skip


@functools.cache
def cms_published() -> dict[str, Any]:
    """CMS's figures: ``resolution`` by region and flavour as rows of centre, value and error, ``flavour`` by region and
    pt bin, ``histograms`` of shapes (share of the jets; of ``PF_dR`` candidates a jet), ``energy_fractions``."""
    return json.loads(resources.files(__package__).joinpath("cms_published.json").read_text(encoding="utf-8"))


def cms_table(chunks: Iterable[ak.Array], progress: bool = True) -> pd.DataFrame:
    """What is compared with CMS, one row for each stored jet.

    Parameters
    ----------
    chunks
        Simulated jets, as `data.iterate_jets` yields them: only what is compared is kept of each chunk.

    Returns
    -------
    DataFrame with the jets' scalars; ``ring0`` … (stored candidates in `RINGS`); ``n_`` (clustered candidates) and
    ``f_`` (share of the energy) of each of `CLASSES`; ``selected``, whether the jet passes the paper's selection; and
    ``weight``, with which the generator jets have the spectrum of the open data.
    """
    with tqdm(desc="compare with CMS", unit=" jets", disable=not progress) as bar:
        parts = []
        for jets in chunks:
            parts.append(_chunk(jets))
            bar.update(len(jets))
    if not parts:
        raise InputError("no jets to compare with CMS's")
    table = pd.concat(parts, ignore_index=True)
    return table.assign(weight=_spectrum_weights(table["genJetPt"]))


def _chunk(jets: ak.Array) -> pd.DataFrame:
    columns = {name: ak.to_numpy(jets[name]) for name in _SCALARS}
    left_out = np.any(list(reasons(jets, SelectionSettings()).values()), axis=0)
    columns["selected"] = ~left_out & (columns["genJetPt"] > 0)
    distance = np.hypot(jets["particles", "PF_dEta"], jets["particles", "PF_dPhi"])
    for number, (low, high) in enumerate(RINGS):
        columns[f"ring{number}"] = ak.to_numpy(ak.sum((distance >= low) & (distance < high), axis=1))
    clustered = jets["particles"][jets["particles", "PF_fromAK4Jet"] == 1]
    shares = energy_fractions(jets)
    for name, parts in CLASSES.items():
        codes = [code for part in parts for code in PARTICLE_CLASSES[part][0]]
        columns[f"n_{name}"] = ak.to_numpy(ak.sum(is_one_of(clustered["PF_id"], codes), axis=1))
        columns[f"f_{name}"] = np.sum([shares[part] for part in parts], axis=0)
    return pd.DataFrame(columns)


def _edges(name: str) -> NDArray[np.float64]:
    histogram = cms_published()["histograms"][name]
    return histogram["low"] + histogram["width"] * np.arange(len(histogram["values"]) + 1)


def _spectrum_weights(gen_pt: NDArray) -> NDArray[np.float64]:
    """Weights (N,) that give jets the open data's spectrum; those without a generator jet count in its first bin."""
    edges, shares = _edges("genJetPt"), np.array(cms_published()["histograms"]["genJetPt"]["values"])
    place = np.clip(np.digitize(gen_pt, edges) - 1, 0, len(shares) - 1)
    counts = np.bincount(place, minlength=len(shares))
    return (shares / np.maximum(counts, 1))[place] * len(place)


def cms_comparison(table: pd.DataFrame, settings: PhysicsSettings | None = None) -> dict[str, Any]:
    """Our simulation beside CMS's, from a `cms_table`.

    Returns
    -------
    The layout of cms_comparison.json, lists of rows by name: ``resolution`` (IQR/median of the standard response by
    ``flavour``, ``abs_eta`` and ``pt``, the centre of the published bin) and ``flavour`` (its median), each with
    ``ours``, ``error``, ``cms``, ``cms_error``; ``shapes`` (``name``, ``quantile``), ``rings`` (candidates a jet) and
    ``classes`` (clustered candidates a jet by ``pt``), the first two with the spectrum of the open data;
    ``energy_fractions``; ``jets``. Bins with fewer than 100 jets, or 20 of a flavour, are left out; ``cms`` is None
    where there is no published figure.
    """
    if not table["selected"].any():
        what = "has candidates and a generator jet, and passes the paper's selection"
        raise InputError(f"comparison with CMS: none of {len(table)} jets {what}")
    chosen = check_predictions(table[table["selected"]].reset_index(drop=True), "comparison with CMS")
    return {
        "jets": len(chosen), "resolution": [row for region in REGIONS for row in _resolution(chosen, region, settings)],
        "flavour": [row for region in REGIONS for row in _flavour(chosen, region, settings)], "shapes": _shapes(table),
        "rings": _rings(table), "classes": _classes(chosen),
        "energy_fractions": {name: float(chosen[f"f_{name}"].mean()) for name in CLASSES},
    }  # fmt: skip


def _resolution(table: pd.DataFrame, region: Bin, settings: PhysicsSettings | None) -> list[dict[str, Any]]:
    published, rows = cms_published()["resolution"][region.name], []
    bins = pd.cut(pd.Series([pt for pt, *_ in published["all"]]), PT_EDGES, labels=False).to_numpy()
    for group, codes in _GROUPS.items():
        jets = table if codes is None else table[table["flavour"].isin(codes)].reset_index(drop=True)
        measured = profile(jets, ["standard"], settings, eta_bin=region, min_jets=100).set_index("low")
        for number, (pt, *_) in enumerate(published["all"]):
            if (low := PT_EDGES[bins[number]]) in measured.index:
                ours = measured.loc[low, ["resolution", "resolution_error"]]
                _, value, error = published[group][number] if group in published else (pt, None, None)
                rows.append({"flavour": group, "abs_eta": region.name, "pt": pt, "ours": float(ours.iloc[0]),
                             "error": float(ours.iloc[1]), "cms": value, "cms_error": error})  # fmt: skip
    return rows


def _flavour(table: pd.DataFrame, region: Bin, settings: PhysicsSettings | None) -> list[dict[str, Any]]:
    return [
        {"abs_eta": region.name, "pt": pt_bin.name, "flavour": row.flavour, "ours": float(row.median),
         "error": float(row.median_error), **dict(zip(("cms", "cms_error"), published, strict=True))}
        for pt_bin in PT_BINS
        for row in flavour_medians(table, ["standard"], settings, pt_bin=pt_bin, eta_bin=region).itertuples()
        for published in [cms_published()["flavour"][region.name][pt_bin.name][row.flavour]]
    ]  # fmt: skip


def _shapes(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for name in SHAPES:
        ours = np.quantile(table[name], _QUANTILES, weights=table["weight"], method="inverted_cdf")
        cms = _histogram_quantiles(name) if name in cms_published()["histograms"] else [None] * len(_QUANTILES)
        rows += [
            {"name": name, "quantile": quantile, "ours": float(mine), "cms": theirs}
            for quantile, mine, theirs in zip(_QUANTILES, ours, cms, strict=True)
        ]
    return rows


def _histogram_quantiles(name: str) -> list[float]:
    """Quantiles of a published histogram; entries are even within a bin."""
    share = np.concatenate([[0], np.cumsum(cms_published()["histograms"][name]["values"])])
    return [float(np.interp(quantile * share[-1], share, _edges(name))) for quantile in _QUANTILES]


def _rings(table: pd.DataFrame) -> list[dict[str, Any]]:
    candidates = np.concatenate([[0], np.cumsum(cms_published()["histograms"]["PF_dR"]["values"])])
    return [
        {"dR": [low, high], "ours": float(np.average(table[f"ring{number}"], weights=table["weight"])),
         "cms": float(np.diff(np.interp([low, high], _edges("PF_dR"), candidates))[0])}
        for number, (low, high) in enumerate(RINGS)
    ]  # fmt: skip


def _classes(table: pd.DataFrame) -> list[dict[str, Any]]:
    parts = [(pt_bin.name, table[pt_bin.contains(table["genJetPt"])]) for pt_bin in CLASS_BINS]
    return [{"pt": name} | {kind: float(part[f"n_{kind}"].mean()) for kind in CLASSES} for name, part in parts
            if len(part) >= 100]  # fmt: skip


def cms_summary(comparison: Mapping[str, Any]) -> pd.DataFrame:
    """The comparison as one table: ``what``, ``abs_eta``, ``bin``, ``ours``, ``error``, ``CMS`` and ``ours / CMS``."""
    rows = [
        (f"IQR/median, {row['flavour']}", row["abs_eta"], f"{row['pt']:.0f} GeV", row) for row in
        comparison["resolution"]
    ]  # fmt: skip
    rows += [(f"median, {row['flavour']}", row["abs_eta"], f"{row['pt']} GeV", row) for row in comparison["flavour"]]
    rows += [(row["name"], "", f"{100 * row['quantile']:.0f} %", row) for row in comparison["shapes"]]
    rows += [("candidates a jet", "", "dR {}–{}".format(*row["dR"]), row) for row in comparison["rings"]]
    fractions = cms_published()["energy_fractions"]
    rows += [("energy fraction", "", name, {"ours": share, "cms": fractions[name]})
             for name, share in comparison["energy_fractions"].items()]  # fmt: skip
    rows += [(f"{kind} candidates", "", f"{row['pt']} GeV", {"ours": row[kind], "cms": None})
             for row in comparison["classes"] for kind in CLASSES]  # fmt: skip
    table = pd.DataFrame(
        [(what, eta, where, row["ours"], row.get("error"), row["cms"]) for what, eta, where, row in rows],
        columns=["what", "abs_eta", "bin", "ours", "error", "CMS"],
    ).astype({"ours": float, "error": float, "CMS": float})
    return table.assign(**{"ours / CMS": table["ours"] / table["CMS"]})

"""The response where a jet expert looks: in fine eta, as a map, for each flavour, of dijets; terms of the resolution.

All is measured by `profiles.profile`, with its paired bootstrap: these functions choose the bins and what is averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..bootstrap import Bootstrap
from ..config import PhysicsSettings
from ..looks import look_of
from .binning import ETA_BINS, FLAVOUR_GROUPS, JEC_ETA_EDGES, PT_BINS, PT_EDGES_ABOVE_CUT, filled_bins, selection_text
from .measurement import ONE_SIGMA
from .predictions import corrected_pt, pt_branch
from .prior import FULL_ACCEPTANCE
from .profiles import has_flavour, profile
from .uncertainty import coverage_profile

__all__ = [
    "TERMS", "VARIABLES", "closure_map", "dependence", "dijets", "eta_profile", "factor_profile", "flavour_profiles",
    "resolution_of", "resolution_profiles", "resolution_terms", "sigma_calibration",
]  # fmt: skip

#: edges of the map and of the flavours' bins in gen pt, GeV
WIDE_PT_EDGES = np.array([30.0, 50, 80, 130, 200, 300, 500, 800, 1300, 3000])

#: edges of the map in abs(gen eta)
WIDE_ETA_EDGES = np.linspace(0, 2.5, 11)

#: a bin with fewer jets shows no factor
MIN_JETS = 30

#: Gaussian widths in an interquartile range
GAUSSIAN_IQR = 1.349

#: the terms of the resolution and their units, see `resolution_terms`
TERMS = {"N": "GeV", "S": "√GeV", "C": ""}


@dataclass(frozen=True)
class Variable:
    """What jets are binned in: the label of an axis, how a sentence calls it, and its unit.

    ``{standard}`` in the label stands for the standard correction.
    """

    label: str
    said: str
    unit: str = ""

    def axis(self) -> str:
        """The label, with the correction that the study has."""
        return self.label.replace("{standard}", look_of("standard").label)


VARIABLES = {
    "abs_eta": Variable(r"$|\eta^\mathrm{gen}|$", "from the smallest to the largest |η|"),
    "PV_npvsGood": Variable(r"$N_\mathrm{PV}$", "from the fewest to the most vertices"),
    "jetPt": Variable(r"$p_\mathrm{T}$ after {standard} [GeV]", "momentum", "GeV"),
    "QG_mult": Variable("Constituents (charged, neutral above 1 GeV)", "number of constituents"),
}
"""Those of `dependence` and `factor_profile`, by their column."""


def dependence(
    predictions: pd.DataFrame, corrections: Sequence[str], settings: PhysicsSettings | None = None
) -> dict[str, pd.DataFrame]:
    """The profiles, see `profile`, against abs(gen eta) and the number of vertices, by the name of the variable.

    Of jets above 30 GeV of gen pt. The number of vertices is there if the predictions have it, in six bins with as many
    jets each.
    """
    jets = predictions.assign(abs_eta=predictions["genJetEta"].abs())
    binned = {"abs_eta": WIDE_ETA_EDGES}
    if "PV_npvsGood" in jets and np.ptp(jets["PV_npvsGood"]) > 0:
        edges = np.unique(jets["PV_npvsGood"].quantile(np.linspace(0, 1, 7)).round())
        edges[-1] += 1  # the upper edge belongs to the next bin
        binned["PV_npvsGood"] = edges
    return {
        name: profile(jets, corrections, settings, by=name, edges=edges, pt_bin=PT_BINS[0])
        for name, edges in binned.items()
    }


def eta_profile(
    predictions: pd.DataFrame, corrections: Sequence[str], settings: PhysicsSettings | None = None
) -> pd.DataFrame:
    """The profile, see `profile`, against gen eta above 30 GeV of gen pt, in the bins of CMS's corrections."""
    return profile(predictions, corrections, settings, by="genJetEta", edges=JEC_ETA_EDGES, pt_bin=PT_BINS[0])


def closure_map(
    predictions: pd.DataFrame, corrections: Sequence[str], settings: PhysicsSettings | None = None
) -> pd.DataFrame:
    """The profile in abs(gen eta), once for each bin of gen pt.

    Returns
    -------
    The table of `profile`, with ``pt_low`` and ``pt_high`` (GeV) of each row.
    """
    jets = predictions.assign(abs_eta=predictions["genJetEta"].abs())
    parts = []
    for low, high in pairwise(WIDE_PT_EDGES):
        inside = jets[(jets["genJetPt"] >= low) & (jets["genJetPt"] < high)]
        table = profile(inside, corrections, settings, by="abs_eta", edges=WIDE_ETA_EDGES)
        parts.append(table.assign(pt_low=low, pt_high=high))
    return pd.concat(parts, ignore_index=True)


def flavour_profiles(
    predictions: pd.DataFrame, corrections: Sequence[str], settings: PhysicsSettings | None = None
) -> pd.DataFrame:
    """The profile against gen pt of each of `FLAVOUR_GROUPS`, named in the column ``flavour``."""

    def of(jets: pd.DataFrame) -> pd.DataFrame:
        return profile(jets, corrections, settings, edges=WIDE_PT_EDGES)

    return _by_flavour(predictions, of)


def sigma_calibration(
    predictions: pd.DataFrame, models: Sequence[str], settings: PhysicsSettings | None = None
) -> pd.DataFrame:
    """Pull and coverage, see `coverage_profile`, against gen pt for each of `FLAVOUR_GROUPS` (column ``flavour``).

    Where the ``pull_width`` is one, the predicted resolution is right.
    """

    def of(jets: pd.DataFrame) -> pd.DataFrame:
        return coverage_profile(jets, models, settings, edges=WIDE_PT_EDGES, min_jets=50)

    return _by_flavour(predictions, of).rename(columns={"model": "correction"})


def _by_flavour(predictions: pd.DataFrame, of: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    parts = [
        of(predictions[has_flavour(predictions, names)].reset_index(drop=True)).assign(flavour=group)
        for group, names in FLAVOUR_GROUPS.items()
    ]
    return pd.concat(parts, ignore_index=True)


def factor_profile(
    predictions: pd.DataFrame, models: Sequence[str], settings: PhysicsSettings | None = None
) -> dict[str, pd.DataFrame]:
    """The factors of the models on the standard-corrected pt, against that pt and the number of constituents.

    Returns
    -------
    By the name of the variable tables with a row for each model and bin: ``correction, low, high, center, jets``, the
    ``median`` of the factor with its ``_error``, and ``lower`` and ``upper``, between which the central 68 % lie. The
    number of constituents is there if the predictions have it.
    """
    bootstrap = Bootstrap.of(predictions, settings)
    binned = {"jetPt": WIDE_PT_EDGES}
    if "QG_mult" in predictions and np.ptp(predictions["QG_mult"]) > 0:
        binned["QG_mult"] = np.unique(predictions["QG_mult"].quantile(np.linspace(0.005, 0.995, 13)).round())
    columns = ["correction", "low", "high", "center", "jets", "median", "median_error", "lower", "upper"]
    tables = {}
    for name, edges in binned.items():
        variable, rows = predictions[name].to_numpy(dtype=np.float64), []
        for model in models:
            factor = corrected_pt(predictions, model) / corrected_pt(predictions, "standard")
            for low, high, jets in filled_bins(variable, edges, MIN_JETS):
                lower, median, upper = bootstrap.quantiles(factor, jets, (ONE_SIGMA[0], 0.5, ONE_SIGMA[1])).T
                row = (model, low, high, np.median(variable[jets]), len(jets), median[0], np.std(median[1:], ddof=1))
                rows.append((*row, lower[0], upper[0]))
        tables[name] = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:], float))
    return tables


def dijets(predictions: pd.DataFrame, corrections: Sequence[str]) -> pd.DataFrame:
    """The events in which two jets are left, as a table like that of jets with *masses* (GeV) in place of momenta.

    The two are those of highest gen pt. All masses are of massless jets in the directions that were reconstructed: the
    response is that of the energies, m / m(gen) = √(R₁ R₂).

    Returns
    -------
    DataFrame with a row for each event: ``run, lumi, event``, ``genJetPt`` (the generator jets' mass) and, for each
    correction, its pt column (the mass after it); without rows if the predictions have no ``jetPhi``.
    """
    event = ["run", "lumi", "event"]
    branches = dict.fromkeys(["genJetPt", *(pt_branch(name) for name in corrections)])
    if "jetPhi" not in predictions:
        return pd.DataFrame(columns=[*event, *branches], dtype=np.float64)
    ordered = predictions.sort_values([*event, "genJetPt"], ascending=[True, True, True, False], kind="stable")
    place = ordered.groupby(event).cumcount()
    first, second = ordered[place == 0].set_index(event), ordered[place == 1].set_index(event)
    first = first.loc[second.index]
    apart = np.cosh(first["jetEta"] - second["jetEta"]) - np.cos(first["jetPhi"] - second["jetPhi"])

    def mass(branch: str) -> pd.Series:
        return np.sqrt(2 * first[branch].astype(np.float64) * second[branch] * apart)

    return pd.DataFrame({branch: mass(branch) for branch in branches}).reset_index()


def resolution_of(pt: ArrayLike, noise: float, stochastic: float, constant: float) -> NDArray[np.float64]:
    """σ(pt)/pt = √(N|N|/pt² + S|S|/pt + C|C|) with N in GeV, S in √GeV; a negative term takes away, as CMS's N may.

    >>> float(resolution_of(100.0, 0.0, 0.8, 0.06))
    0.1
    """
    pt = np.asarray(pt, dtype=np.float64)
    squared = noise * abs(noise) / pt**2 + stochastic * abs(stochastic) / pt + constant * abs(constant)
    return np.sqrt(np.maximum(squared, 1e-12))


def resolution_profiles(
    predictions: pd.DataFrame, corrections: Sequence[str], settings: PhysicsSettings | None = None
) -> dict[str, pd.DataFrame]:
    """The profiles against gen pt in the barrel and the endcap, by their selection as a text for figures."""
    return {
        selection_text(None, eta_bin): profile(
            predictions, corrections, settings, edges=PT_EDGES_ABOVE_CUT, eta_bin=eta_bin
        )
        for eta_bin in ETA_BINS[:2]
    }


def resolution_terms(table: pd.DataFrame, corrections: Sequence[str]) -> pd.DataFrame:
    """Fit the noise, stochastic and constant term, see `resolution_of`, to the resolution in bins; σ is IQR / 1.349.

    Only bins beyond `prior.FULL_ACCEPTANCE` take part: below, the cut on the reconstructed pt narrows the response.

    Parameters
    ----------
    table
        A profile against gen pt, GeV.
    corrections
        Which; one with fewer than five bins is left out.

    Returns
    -------
    DataFrame with a row for each correction: ``N, S, C`` (GeV, √GeV, 1), each with its ``_error``, ``chi2`` and
    ``bins`` less the three terms, ``ndf``.
    """
    from scipy.optimize import curve_fit  # a quarter of a second for who only wants another part of this package

    result = []
    for correction in corrections:
        rows = table[
            (table["correction"] == correction) & (table["resolution_error"] > 0) & (table["low"] > FULL_ACCEPTANCE)
        ]
        if len(rows) < 5:
            continue
        pt = rows["center"].to_numpy()
        sigma, error = (rows[name].to_numpy() / GAUSSIAN_IQR for name in ("resolution", "resolution_error"))
        try:
            fitted, covariance = curve_fit(
                resolution_of, pt, sigma, (1.0, 0.8, 0.04), error, absolute_sigma=True, maxfev=20_000
            )
        except RuntimeError:  # it does not converge
            continue
        chi2 = float((((resolution_of(pt, *fitted) - sigma) / error) ** 2).sum())
        row = {"correction": correction}
        for name, value, width in zip(TERMS, fitted, np.sqrt(np.diag(covariance)), strict=True):
            row |= {name: value, f"{name}_error": width}
        result.append(row | {"chi2": chi2, "ndf": len(rows) - len(TERMS)})
    names = [column for name in TERMS for column in (name, f"{name}_error")]
    return pd.DataFrame(result, columns=["correction", *names, "chi2", "ndf"])

"""Do the candidates belong to their jets? What was clustered into a jet sums up to its raw momentum.

A jet's candidates are found by its place in its event, or stored with it; a file or an analysis that has changed the
one without the other gives jets the particles of others, and nothing else would show it. Anti-kt jets of radius 0.4 are
at least 0.4 apart, so candidates that sum up to a direction within half of this of a jet can be those of no other one.
Their momentum differs from the raw one by what files round: 0.3 % at most in CMS's and 0.03 % in ours. More than that
are PUPPI weights that are not those of the clustering, or a raw momentum that is none.
"""

from __future__ import annotations

import logging
from collections import Counter

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..jets.columns import candidates_of
from .dataset import Clouds, clouds_from_jets

__all__ = ["STRANGERS", "TOLERATED", "candidate_sums", "refuse_strangers", "strangers"]

log = logging.getLogger(__name__)

STRANGERS = "candidates that do not sum up to the jet"
"""The reason why a jet without its own candidates cannot be used."""

DISTANCE = 0.2
"""Between a jet and the sum of its candidates, in (eta, phi): half the radius of the jets."""
DIFFERENCE = 0.05
"""Of the sum's pt from the raw pt, as a share of it: many times what files round."""
TYPICAL = 0.01
"""The same, for half of the jets."""
TOLERATED = 0.01
"""Share of jets that may differ by more, but for chance; more of them are taken for an error of all."""

MANY = 20
"""Jets of which some have a correction that is not one, if they are corrected."""

_SUMMED = ("PF_pT", "PF_dEta", "PF_dPhi", "PF_fromAK4Jet", "jetPt", "jetEta", "jetRawPt")
"""The columns that tell; without PF_fromAK4Jet, all particles were clustered."""

_ORDER = "give all jets of an event in the order of its file, and sort and select them later"
_MOMENTUM = "the raw pt (pt_raw, rawFactor) or the candidates' pt (PUPPI weights) is not that of the clustering"


def candidate_sums(clouds: Clouds) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Where the sum of the candidates that were clustered into a jet (PF_fromAK4Jet) lies.

    Returns
    -------
    ratio, d_eta, d_phi
        `(B,)`: pt of the sum over raw pt, and its direction relative to the jet; not a number where there are none.
    """
    ptr = np.asarray(clouds.ptr)
    d_eta, d_phi, pt = (clouds.particle(name) for name in ("PF_dEta", "PF_dPhi", "PF_pT"))
    if "PF_fromAK4Jet" in clouds.columns:
        rows = np.flatnonzero(clouds.particle("PF_fromAK4Jet") > 0)
        if len(rows) < len(pt):
            d_eta, d_phi, pt, ptr = d_eta[rows], d_phi[rows], pt[rows], np.searchsorted(rows, ptr)
    jet_eta, counts = clouds.jet("jetEta"), np.diff(ptr)
    filled = counts > 0

    def sums(values: NDArray) -> NDArray[np.float64]:
        total = np.zeros(len(clouds))
        if filled.any():
            total[filled] = np.add.reduceat(values, ptr[:-1][filled], dtype=np.float64)
        return total

    px, py = sums(pt * np.cos(d_phi)), sums(pt * np.sin(d_phi))
    pz = sums(pt * np.sinh(d_eta + np.repeat(jet_eta, counts)))
    with np.errstate(invalid="ignore", divide="ignore"):
        sum_pt = np.where(px**2 + py**2 > 0, np.hypot(px, py), np.nan)
        ratio = sum_pt / clouds.jet("jetRawPt")
        return ratio, np.arcsinh(pz / sum_pt) - jet_eta, np.arctan2(py, px)


def strangers(
    clouds: Clouds, jets: ak.Array, which: NDArray[np.bool_] | None = None, where: str = "the jets"
) -> tuple[NDArray[np.bool_], Counter[str]]:
    """The jets whose candidates do not sum up to them; a few are named in the log, see `refuse_strangers`.

    Parameters
    ----------
    clouds
        Jets with their candidates.
    jets
        The jets that these were made of, all of their events, with run, lumi, event, jetEta, jetPhi and jetRawPt, and
        all their candidates, `(B,)`: clouds need not have what tells.
    which
        `(B,)`, `b` of them true: which of the jets are in the clouds; default: all.
    where
        What they come from, for the message.

    Returns
    -------
    strange
        `(b,)`, which they are.
    tally
        Numbers of jets, to be added up over all that belong together: ``jets`` with candidates, of which ``strange``
        ones, those of them that lie ``away``, those that are ``off`` by more than `TYPICAL`, by how many ``permille``
        of the raw pt these are together, and those whose pt is the ``raw`` one.

    Raises
    ------
    InputError
        If candidates belong to another jet of their event.
    """
    rows = np.arange(len(jets)) if which is None else np.flatnonzero(which)
    complete = candidates_of(clouds.features, "jet")[1] is None
    if not (complete and {*_SUMMED} <= {*clouds.columns, *clouds.jet_columns}):
        there = {*jets.fields, *jets["particles"].fields}
        clouds = clouds_from_jets(jets[rows], tuple(name for name in _SUMMED if name in there))
    ratio, d_eta, d_phi = candidate_sums(clouds)
    judged = ~np.isnan(ratio)
    difference = np.abs(ratio - 1)
    away = judged & ~(np.hypot(d_eta, d_phi) < DISTANCE)
    strange = away | (judged & ~(difference < DIFFERENCE))
    off = judged & ~(difference <= TYPICAL)
    raw = judged & (ak.to_numpy(jets["jetPt"])[rows] == clouds.jet("jetRawPt"))
    counted = {"jets": judged, "strange": strange, "away": away, "off": off, "raw": raw}
    tally = Counter({name: int(mask.sum()) for name, mask in counted.items()})
    tally["permille"] = int(np.rint(1000 * np.minimum(difference[off], 10)).sum())
    if any(_of_another(jets, rows[i], d_eta[i], d_phi[i]) for i in np.flatnonzero(away)):
        raise _refusal(tally, where)
    if strange.any():
        log.warning("%s: %d of %d jets have %s", where, tally["strange"], tally["jets"], STRANGERS)
    return strange, tally


def refuse_strangers(tally: Counter[str], where: str, jets: int = 0, tolerated: float = TOLERATED) -> None:
    """Refuse jets if too many of them do not sum up, however they were divided for `strangers`.

    Parameters
    ----------
    tally
        The sum of those of `strangers`.
    where
        What the jets come from, for the message.
    jets
        How many there are in all, if more of them are to come.
    tolerated
        Share of jets that may differ; with 1, jets that do not sum up are left out, however many there are.

    Raises
    ------
    InputError
        If `tolerated` is no share; if more than the tolerated ones do not sum up to their jets, if most sums differ
        from the raw pt, or if all jets are raw: networks correct what has the standard corrections.
    """
    if not 0 <= tolerated <= 1:  # nor not a number, with which nothing would ever be refused
        raise InputError(f"tolerated {tolerated}: must be a share of the jets, from 0 to 1")
    number = max(tally["jets"], jets)
    expected = tolerated * number
    # One jet besides, and what chance adds once in a thousand times
    most = max(0.5, tolerated) * number
    if tally["strange"] > 1 + expected + 3 * np.sqrt(expected) or tally["off"] > max(1, most):
        raise _refusal(tally, where)
    if MANY <= tally["jets"] == tally["raw"]:
        raise InputError(
            f"{where}: the jets have no standard corrections: the pt of all {tally['jets']} is the raw one (in "
            "NanoAOD, a rawFactor of 0); apply these first, with `jetcorr correct --official` or in your analysis"
        )


def _refusal(tally: Counter[str], where: str) -> InputError:
    far = tally["permille"] / (10 * max(1, tally["off"]))
    return InputError(
        f"{where}: the candidates do not belong to the jets: for {tally['strange']} of {tally['jets']} they sum up to "
        f"another direction or to a pt that is more than {DIFFERENCE:.0%} from the raw one, for {tally['off']} by more "
        f"than {TYPICAL:.0%} ({tally['off'] / max(1, tally['jets']):.0%} of the jets, which differ by {far:.1f}% on "
        f"average); {_ORDER if tally['away'] > tally['strange'] / 2 else _MOMENTUM}"
    )


def _of_another(jets: ak.Array, row: int, d_eta: float, d_phi: float) -> bool:
    """Whether a direction relative to a jet is that of another jet of the event."""
    event, lumi, run, eta, phi = (ak.to_numpy(jets[name]) for name in ("event", "lumi", "run", "jetEta", "jetPhi"))
    others = (event == event[row]) & (lumi == lumi[row]) & (run == run[row])
    others[row] = False
    turn = np.remainder(phi[others] - phi[row] - d_phi + np.pi, 2 * np.pi) - np.pi
    return bool((np.hypot(eta[others] - eta[row] - d_eta, turn) < DISTANCE).any())

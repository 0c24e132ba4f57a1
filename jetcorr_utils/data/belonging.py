"""Do the candidates belong to their jets? What was clustered into a jet sums up to its raw momentum.

A jet's candidates are found by its place in its event, or stored with it; a file or an analysis that has changed the
one without the other gives jets the particles of others, and nothing else would show it. Anti-kt jets of radius 0.4 are
at least 0.4 apart, so candidates that sum up to a direction within half of this of a jet can be those of no other one.
Their momentum differs from the raw one by what files round: 0.3 % at most in CMS's and 0.03 % in ours. More than that
are PUPPI weights that are not those of the clustering, or a raw momentum that is none.
"""

from __future__ import annotations

import logging

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .dataset import CloudLike
from .features import JET_COLUMNS, PARTICLE_COLUMNS, POINT_COLUMNS

__all__ = ["STRANGERS", "candidate_sums", "strangers"]

log = logging.getLogger(__name__)

STRANGERS = "candidates that do not sum up to the jet"
"""The reason why a jet without its own candidates cannot be used."""

DISTANCE = 0.2
"""Between a jet and the sum of its candidates, in (eta, phi): half the radius of the jets."""
DIFFERENCE = 0.05
"""Of the sum's pt from the raw pt, as a share of it: many times what files round."""
TYPICAL = 0.01
"""The same, for the median of the jets."""
TOLERATED = 0.01
"""Share of jets that may differ by more, and one jet besides; more of them are taken for an error of all."""

_COLUMNS = POINT_COLUMNS + PARTICLE_COLUMNS["open"]
_ORDER = "give all jets of an event in the order of its file, and sort and select them later"
_MOMENTUM = "the raw pt (pt_raw, rawFactor) or the candidates' pt (PUPPI weights) is not that of the clustering"


def candidate_sums(clouds: CloudLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Where the sum of the candidates that were clustered into a jet (PF_fromAK4Jet) lies.

    Returns
    -------
    ratio, d_eta, d_phi
        `(B,)`: pt of the sum over raw pt, and its direction relative to the jet; not a number where there are none.
    """
    particles, jets, ptr = (np.asarray(part) for part in (clouds.particles, clouds.jets, clouds.ptr))
    own = particles[:, _COLUMNS.index("PF_fromAK4Jet")] > 0
    if not own.all():
        rows = np.flatnonzero(own)
        particles, ptr = particles[rows], np.searchsorted(rows, ptr)
    d_eta, d_phi, pt = (particles[:, _COLUMNS.index(name)] for name in ("PF_dEta", "PF_dPhi", "PF_pT"))
    jet_eta, counts = jets[:, JET_COLUMNS.index("jetEta")], np.diff(ptr)
    filled = counts > 0

    def sums(values: NDArray) -> NDArray[np.float64]:
        total = np.zeros(len(jets))
        if filled.any():
            total[filled] = np.add.reduceat(values, ptr[:-1][filled], dtype=np.float64)
        return total

    px, py = sums(pt * np.cos(d_phi)), sums(pt * np.sin(d_phi))
    pz = sums(pt * np.sinh(d_eta + np.repeat(jet_eta, counts)))
    with np.errstate(invalid="ignore", divide="ignore"):
        sum_pt = np.where(px**2 + py**2 > 0, np.hypot(px, py), np.nan)
        ratio = sum_pt / jets[:, JET_COLUMNS.index("jetRawPt")]
        return ratio, np.arcsinh(pz / sum_pt) - jet_eta, np.arctan2(py, px)


def strangers(
    clouds: CloudLike, jets: ak.Array, which: NDArray[np.bool_] | None = None, where: str = "the jets"
) -> NDArray[np.bool_]:
    """The jets whose candidates do not sum up to them, `(b,)`; a few are named in the log, more are refused.

    Parameters
    ----------
    clouds
        Jets with their candidates.
    jets
        The jets that these were made of, all of their events, with run, lumi, event, jetEta and jetPhi, `(B,)`.
    which
        `(B,)`, `b` of them true: which of the jets are in the clouds; default: all.
    where
        What they come from, for the message.

    Raises
    ------
    InputError
        If candidates belong to another jet of their event, if too many do not sum up to their jets, or if most sums
        differ from the raw pt.
    """
    ratio, d_eta, d_phi = candidate_sums(clouds)
    judged = ~np.isnan(ratio)
    number = int(judged.sum())
    if not number:
        return judged
    difference = np.abs(ratio - 1)
    away = judged & ~(np.hypot(d_eta, d_phi) < DISTANCE)
    strange = away | (judged & ~(difference < DIFFERENCE))
    typical, count = float(np.median(difference[judged])), int(strange.sum())
    rows = np.arange(len(jets)) if which is None else np.flatnonzero(which)
    if (
        count > 1 + TOLERATED * number
        or typical > TYPICAL
        or any(_of_another(jets, rows[i], d_eta[i], d_phi[i]) for i in np.flatnonzero(away))
    ):
        raise InputError(
            f"{where}: the candidates do not belong to the jets: for {count} of {number} they sum up to another "
            f"direction or to a pt that is more than {DIFFERENCE:.0%} from the raw one, for half by {typical:.2%} or "
            f"more; {_ORDER if away.sum() > count / 2 else _MOMENTUM}"
        )
    if count:
        log.warning("%s: %d of %d jets have %s", where, count, number, STRANGERS)
    return strange


def _of_another(jets: ak.Array, row: int, d_eta: float, d_phi: float) -> bool:
    """Whether a direction relative to a jet is that of another jet of the event."""
    event, lumi, run, eta, phi = (ak.to_numpy(jets[name]) for name in ("event", "lumi", "run", "jetEta", "jetPhi"))
    others = (event == event[row]) & (lumi == lumi[row]) & (run == run[row])
    others[row] = False
    turn = np.remainder(phi[others] - phi[row] - d_phi + np.pi, 2 * np.pi) - np.pi
    return bool((np.hypot(eta[others] - eta[row] - d_eta, turn) < DISTANCE).any())

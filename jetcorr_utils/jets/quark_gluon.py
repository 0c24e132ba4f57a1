"""Quark/gluon variables of CMS from the candidates of a jet: ptD, axis2 and multiplicity (CMS-PAS-JME-13-002)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .particle_classes import CLASSES

__all__ = ["quark_gluon"]

_NEUTRAL = CLASSES["photons"] + CLASSES["neutral hadrons"]


def quark_gluon(
    owner: NDArray, jets: int, pt: NDArray, d_eta: NDArray, d_phi: NDArray, pdg: NDArray, from_pv: NDArray
) -> dict[str, NDArray]:
    """The variables of `jets` jets from the candidates that were clustered into them.

    Used are neutral ones above 1 GeV, and charged ones with fromPV = 3. With weights pt², ptD = sqrt(Σ pt²) / Σ pt, and
    axis2 is the square root of the smaller eigenvalue of the covariance of (eta, phi).

    Parameters
    ----------
    owner
        The jet of each candidate, `(N,)`.
    jets
        How many jets there are, B.
    pt, d_eta, d_phi, pdg, from_pv
        Of the candidates, `(N,)`: GeV, position relative to the jet, PDG number, fromPV.

    Returns
    -------
    QG_ptD, QG_axis2 (float32) and QG_mult (int32), `(B,)` each; zeros for a jet without such candidates.
    """
    neutral, deposit = np.isin(np.abs(pdg), _NEUTRAL), np.isin(np.abs(pdg), (1, 2))
    used = np.where(neutral, pt > 1, from_pv == 3) & ~deposit
    owner, pt, eta, phi = owner[used], pt[used].astype(np.float64), d_eta[used], d_phi[used]

    def total(weights: NDArray | None) -> NDArray:
        return np.bincount(owner, weights, minlength=jets)

    def divided(a: NDArray, b: NDArray) -> NDArray:
        return np.divide(a, b, out=np.zeros(jets), where=b > 0)

    weight = pt**2
    norm = total(weight)
    mean_eta, mean_phi = divided(total(weight * eta), norm), divided(total(weight * phi), norm)
    a = divided(total(weight * eta**2), norm) - mean_eta**2
    b = divided(total(weight * phi**2), norm) - mean_phi**2
    c = divided(total(weight * eta * phi), norm) - mean_eta * mean_phi
    minor = (a + b - np.sqrt((a - b) ** 2 + 4 * c**2)) / 2
    return {
        "QG_ptD": divided(np.sqrt(norm), total(pt)).astype(np.float32),
        "QG_axis2": np.sqrt(np.maximum(minor, 0)).astype(np.float32),
        "QG_mult": total(None).astype(np.int32),
    }

"""Quark/gluon variables of CMS from the candidates of a jet, for files that do not carry them."""

from __future__ import annotations

import awkward as ak
import numpy as np
from numpy.typing import NDArray

__all__ = ["quark_gluon"]


def quark_gluon(particles: ak.Array) -> dict[str, NDArray]:
    """ptD, axis2 and multiplicity of jets, after CMS-PAS-JME-13-002.

    Used are the candidates of the jet (PF_fromAK4Jet): neutral ones above 1 GeV, charged ones with fromPV = 3. With
    weights pt², ptD = sqrt(Σ pt²) / Σ pt, and axis2 is the square root of the smaller eigenvalue of the covariance of
    (eta, phi).

    Parameters
    ----------
    particles
        `(B, var)` records with PF_pT (GeV), PF_dEta, PF_dPhi, PF_id, PF_fromPV and PF_fromAK4Jet.

    Returns
    -------
    QG_ptD, QG_axis2 (float32) and QG_mult (int32), `(B,)` each; zeros for a jet without such candidates.
    """
    jets = len(particles)
    owner = np.repeat(np.arange(jets), ak.to_numpy(ak.num(particles)))
    flat = ak.flatten(particles, axis=1)
    pt, eta, phi, pdg, from_pv, inside = (
        ak.to_numpy(flat[f"PF_{name}"]) for name in ("pT", "dEta", "dPhi", "id", "fromPV", "fromAK4Jet")
    )
    neutral = np.isin(np.abs(pdg), (22, 130))
    used = (inside > 0) & np.where(neutral, pt > 1, from_pv == 3) & ~np.isin(np.abs(pdg), (1, 2))
    owner, pt, eta, phi = owner[used], pt[used].astype(np.float64), eta[used], phi[used]

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

"""What is measured of the candidates' tracks besides their momentum: how far they pass by the primary vertex.

A track of a decay or of a secondary of an interaction does not come from where the protons collided; one of pileup
comes from elsewhere along the beam. The resolution (arXiv:1405.6569) has a part of the pixels' own, and one of multiple
scattering, which soft tracks suffer more. Columns have the names, units (cm) and codes of CMS's NanoAOD.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..jets.ragged import owners
from .parameters import Detector, Tracking
from .particles import Particles
from .reconstruction import Candidates

__all__ = ["bent_d0", "impact_parameters", "impact_resolution"]

_NONE = -1.0  # CMS's value where there is no track
_LOOSE, _HIGH_PURITY = 1, 5  # bits of CMS's track quality


def impact_resolution(pt: NDArray, eta: NDArray, tracking: Tracking) -> tuple[NDArray, NDArray]:
    """Resolutions (n,) of d0 and dz in cm, of tracks with transverse momentum pt (GeV)."""
    soft, long = np.maximum(pt, 1e-3) ** -0.6, np.cosh(eta)
    d0 = np.hypot(tracking.d0_resolution[0], tracking.d0_resolution[1] * soft * np.sqrt(long))
    dz = np.hypot(tracking.dz_resolution[0], tracking.dz_resolution[1] * soft * long**1.5)
    return 1e-4 * d0, 1e-4 * dz


def bent_d0(d0: NDArray, radius: NDArray, pt: NDArray, charge: NDArray, field: float) -> NDArray:
    """Impact parameters (n,), m, of circles in the field from those of their tangents where the particles were made.

    Parameters
    ----------
    d0
        Of the tangents, m.
    radius
        Distance of the production point from the beam, m.
    pt, charge
        GeV and units of e; a straight line has charge 0.
    field
        T.
    """
    bend = pt / (0.3 * field)  # radius of the circle
    with np.errstate(invalid="ignore"):
        middle = np.sqrt(np.maximum(bend**2 - 2 * charge * bend * d0 + radius**2, 0.0))
    return np.where(charge == 0, d0, -np.sign(charge) * (middle - bend))


def impact_parameters(
    particles: Particles, candidates: Candidates, detector: Detector, tracking: Tracking, rng: np.random.Generator
) -> dict[str, NDArray]:
    """Columns (c,) of the candidates by their name in NanoAOD: d0, d0Err, dz, dzErr (cm) and trkQuality.

    Parameters
    ----------
    particles
        The particles whose rows the candidates name.
    """
    row = candidates.particle
    seen = np.flatnonzero((row >= 0) & (candidates.pt > tracking.details_min_pt))
    row, pt, eta = row[seen], candidates.pt[seen], candidates.eta[seen]
    error = impact_resolution(pt, eta, tracking)
    charge = np.sign(particles.charge[row])
    d0 = 100 * bent_d0(particles.d0[row], particles.radius[row], particles.pt[row], charge, detector.field)
    # The collisions of an event lie apart along the beam
    event, most = owners(candidates.offsets)[seen], int(np.max(particles.vertex, initial=0)) + 1
    place = tracking.luminous_length * rng.standard_normal((particles.events, most))
    dz = 100 * (particles.dz[row] + place[event, particles.vertex[row]] - place[event, 0])
    fewer_hits = rng.random(len(row)) > 1 - particles.radius[row] / detector.track_decay_length
    measured = {
        "d0": d0 + error[0] * rng.standard_normal(len(row)), "d0Err": error[0],
        "dz": dz + error[1] * rng.standard_normal(len(row)), "dzErr": error[1],
    }  # fmt: skip
    columns = {name: np.full(len(candidates.pt), _NONE) for name in measured}
    for name, values in measured.items():
        columns[name][seen] = values
    quality = np.zeros(len(candidates.pt), np.int32)
    quality[seen] = np.where(fewer_hits, _LOOSE, _HIGH_PURITY)
    return columns | {"trkQuality": quality}

"""What each particle leaves in the tracker and the calorimeters: tracks and energy deposits, vectorised over events.

Energies are calibrated as in CMS: the ECAL for photons, the HCAL for hadrons. Muons leave no energy in
the calorimeters here; particle flow would assign the 2 GeV or so to the muon anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled
from .parameters import Detector
from .particles import Particles

__all__ = ["Cells", "Signals", "cells_of", "hadron_response", "impact", "measure", "track_efficiency"]

_PROMPT = 0.02  # m; electrons made farther out are taken for hadrons, if they leave a track


@dataclass
class Signals:
    """What the detector sees of n particles; arrays (n,).

    Attributes
    ----------
    track
        What the track is taken for: 0 none, 211 hadron, 11 electron, 13 muon.
    track_pt
        Measured transverse momentum of the track, GeV.
    eta, phi
        Where the particle enters the ECAL.
    ecal, hcal
        Energies deposited, GeV; both 0 for what does not reach the calorimeters.
    reaches
        Whether the particle reaches the calorimeters.
    """

    track: NDArray
    track_pt: NDArray
    eta: NDArray
    phi: NDArray
    ecal: NDArray
    hcal: NDArray
    reaches: NDArray


@dataclass(frozen=True)
class Cells:
    """Cells (n,) of points on the calorimeters' faces, their width in units of the smallest, and how many there are."""

    ecal: NDArray
    hcal: NDArray
    width: NDArray
    ecal_count: int
    hcal_count: int


def by_region(values: tuple[float, float], eta: NDArray, border: float = 1.48) -> NDArray:
    """The first value where abs(eta) is below `border`, else the second."""
    return np.where(np.abs(eta) < border, values[0], values[1])


def impact(particles: Particles, detector: Detector) -> tuple[NDArray, NDArray]:
    """Azimuth (n,) where the particles enter the ECAL, and whether they do (n,).

    A charge q turns around the field with radius pt / (0.3 q B): it curls up inside the tracker where that is less
    than half the way out. A particle that is made on the way turns on the rest of it only.
    """
    pt = np.maximum(particles.pt, 1e-6)
    curvature = 0.3 * detector.field * np.abs(particles.charge) / pt
    slope = np.maximum(np.sinh(np.abs(particles.eta)), 1e-6)
    side = curvature * np.maximum(detector.ecal_radius - particles.radius, 0.0) / 2
    end = curvature * np.maximum(detector.ecal_z / slope - particles.radius, 0.0) / 2
    turn = np.minimum(np.arcsin(np.minimum(side, 1.0)), end)
    phi = particles.phi - np.sign(particles.charge) * turn
    return (phi + np.pi) % (2 * np.pi) - np.pi, (side < 1) | (end < np.pi / 2)


def cells_of(eta: NDArray, phi: NDArray, detector: Detector) -> Cells:
    """ECAL and HCAL cells of the points; an HCAL cell has ecal_cell x ecal_cell ECAL cells in front of it."""
    ratio = detector.ecal_cell
    in_phi = ratio * detector.hcal_cells_phi
    size = 2 * np.pi / in_phi
    half = int(np.ceil(detector.max_abs_eta / (2 * ratio * size))) * 2 * ratio
    row = np.clip(np.floor(eta / size).astype(np.int64) + half, 0, 2 * half - 1)
    column = np.clip(np.floor((phi + np.pi) / size).astype(np.int64), 0, in_phi - 1)
    middle = (row // (2 * ratio) * 2 * ratio + ratio - half) * size
    width = np.where(np.abs(middle) > detector.coarse_eta, 2, 1)
    ecal = row // width * width * in_phi + column // width * width
    wide = ratio * width
    hcal = row // wide * width * detector.hcal_cells_phi + column // wide * width
    return Cells(ecal, hcal, width, 2 * half * in_phi, 2 * half // ratio * detector.hcal_cells_phi)


@compiled
def _neighbours(offsets: NDArray, cell: NDArray, counted: NDArray, cells: int) -> NDArray:
    """How many counted particles share the cell of each particle, itself included."""
    tally = np.zeros(cells, np.int32)
    result = np.zeros(len(cell), np.int32)
    for event in range(len(offsets) - 1):
        for i in range(offsets[event], offsets[event + 1]):
            tally[cell[i]] += counted[i]
        for i in range(offsets[event], offsets[event + 1]):
            result[i] = tally[cell[i]]
        for i in range(offsets[event], offsets[event + 1]):
            tally[cell[i]] = 0
    return result


def track_efficiency(particles: Particles, shared: NDArray, detector: Detector) -> NDArray:
    """Probability (n,) that a charged hadron is tracked unless it interacts with the tracker's material.

    `shared` (n,) is the number of charged particles in its ECAL cell.
    """
    softness = np.log(np.clip(particles.pt, detector.track_min_pt, 1.0)) / np.log(detector.track_min_pt)
    efficiency = detector.track_efficiency - detector.track_soft_loss * softness
    efficiency = efficiency / (1 + detector.track_core_loss * np.maximum(shared - 1, 0))
    efficiency = efficiency * np.clip(1 - particles.radius / detector.track_decay_length, 0, 1)
    inside = (np.abs(particles.eta) < detector.tracker_eta) & (particles.pt > detector.track_min_pt)
    return np.where(inside, efficiency, 0.0)


def hadron_response(energy: NDArray, detector: Detector) -> NDArray:
    """Mean calibrated response (n,) of the calorimeters to hadrons: it rises towards 1, as the electromagnetic share of
    showers does (D. E. Groom, Nucl. Instrum. Meth. A 572 (2007) 633)."""
    scale, loss, power = detector.hadron_response
    return scale - loss * np.maximum(energy, 1.0) ** -power


def measure(particles: Particles, end: NDArray, detector: Detector, rng: np.random.Generator) -> Signals:
    """Simulate the tracker's and the calorimeters' answer to particles.

    A hadron that interacts in the tracker at the radius `end` (n,), m, leaves no energy, and a track if that happened
    behind the layers that a track needs. The energy of the others is shared between ECAL and HCAL; both fluctuate
    together, by a gamma distribution whose width is the calorimeters' resolution (it is never negative and has the
    upper tail of hadron showers).
    """
    n = len(particles)
    pdg = np.abs(particles.pdg)
    phi, reaches = impact(particles, detector)
    cells = cells_of(particles.eta, phi, detector)
    charged = particles.charge != 0
    electromagnetic = (pdg == 22) | (pdg == 11)
    hadronic = ~electromagnetic & (pdg != 13)
    shared = _neighbours(particles.offsets, cells.ecal, charged & reaches, cells.ecal_count)
    efficiency = track_efficiency(particles, shared, detector) * (
        end > detector.track_material * detector.tracker_radius
    )
    visible = efficiency > 0
    displaced = particles.radius > _PROMPT
    electrons = np.where(displaced, detector.conversion_efficiency * efficiency, detector.electron_efficiency * visible)
    efficiency = np.where(pdg == 11, electrons, efficiency)
    efficiency = np.where(pdg == 13, detector.muon_efficiency * visible, efficiency)
    found = charged & (rng.random(n) < efficiency)
    track = np.where(found, np.where(((pdg == 11) & ~displaced) | (pdg == 13), pdg, 211), 0)
    resolution = np.hypot(
        by_region(detector.track_resolution, particles.eta, 1.4),
        by_region(detector.track_resolution_pt, particles.eta, 1.4) * particles.pt,
    )
    track_pt = np.where(found, particles.pt * np.maximum(1 + resolution * rng.standard_normal(n), 0.05), 0.0)

    energy = particles.energy
    width = np.hypot(
        detector.ecal_stochastic / np.sqrt(np.maximum(energy, 1e-3)), by_region(detector.ecal_constant, particles.eta)
    )
    photon = energy * np.maximum(1 + width * rng.standard_normal(n), 0.0)

    width = np.hypot(
        by_region(detector.hadron_stochastic, particles.eta) / np.sqrt(np.maximum(energy, 1.0)),
        by_region(detector.hadron_constant, particles.eta),
    )
    hadron = energy * hadron_response(energy, detector) * rng.standard_gamma(width**-2) * width**2
    share = np.where(rng.random(n) < detector.ecal_shower_start, 1 - np.sqrt(rng.random(n)), 0.0)
    # What a displaced electron with a track leaves in the ECAL is taken for a hadron's, see `reconstruction`.
    photon = np.where(track == 211, photon * detector.ecal_hadron_response, photon)
    ecal = np.where(electromagnetic, photon, hadron * share * detector.ecal_hadron_response * hadronic)
    arrives = reaches & np.isinf(end)
    ecal = np.where((track == 11) | ~arrives, 0.0, ecal)
    hcal = np.where(hadronic & arrives, hadron * (1 - share), 0.0)
    return Signals(track, track_pt, particles.eta, phi, ecal, hcal, reaches)

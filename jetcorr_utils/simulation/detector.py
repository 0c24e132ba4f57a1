"""What each particle leaves in the tracker and the calorimeters: tracks and energy deposits, vectorised over events.

Energies are calibrated as in CMS: the ECAL for photons, the HCAL for hadrons. Muons leave no energy in
the calorimeters here; particle flow would assign the 2 GeV or so to the muon anyway.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled
from .parameters import Detector
from .particles import Particles

__all__ = [
    "Cells", "Signals", "cells_of", "convert_photons", "hadron_response", "impact", "material", "measure",
    "track_efficiency",
]  # fmt: skip


_PROMPT = 0.02  # m; electrons made farther out are not found as such


@dataclass
class Signals:
    """What the detector sees of n particles; arrays (n,).

    Attributes
    ----------
    track
        Kind of the track: 0 none, 211 hadron, 11 electron, 13 muon.
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


def material(eta: NDArray, detector: Detector) -> NDArray:
    """Thickness (n,) of the tracker in radiation lengths."""
    return np.interp(np.abs(eta), detector.material_eta, detector.material)


def hadron_response(energy: NDArray, detector: Detector) -> NDArray:
    """Mean calibrated response (n,) of the calorimeters to hadrons: it rises towards 1, as the electromagnetic share of
    showers does (D. E. Groom, Nucl. Instrum. Meth. A 572 (2007) 633)."""
    loss, power = detector.hadron_response
    return 1 - loss * np.maximum(energy, 1.0) ** -power


def convert_photons(particles: Particles, detector: Detector, rng: np.random.Generator) -> Particles:
    """Replace photons that convert in the tracker by an electron and a positron that leave no track.

    A photon converts with probability 1 - exp(-7/9 x/X0), anywhere on its way; the pair shares its momentum, evenly
    distributed. The field then drives it apart in phi, and curls up what is soft.
    """
    photons = np.flatnonzero(particles.pdg == 22)
    chance = 1 - np.exp(-7 / 9 * material(particles.eta[photons], detector))
    converted = photons[rng.random(len(photons)) < chance]
    copies = np.ones(len(particles), np.int64)
    copies[converted] = 2
    start = np.concatenate([[0], np.cumsum(copies)])
    rows = np.repeat(np.arange(len(particles)), copies)
    result = Particles(
        **{f.name: getattr(particles, f.name)[rows] for f in dataclasses.fields(Particles) if f.name != "offsets"},
        offsets=start[particles.offsets],
    )
    share, radius = rng.random(len(converted)), rng.random(len(converted)) * detector.tracker_radius
    for leg, part in ((0, share), (1, 1 - share)):
        row = start[converted] + leg
        result.pt[row] *= part
        result.pdg[row], result.charge[row] = (11, -1.0) if leg == 0 else (-11, 1.0)
        result.radius[row] = radius
    return result


def measure(particles: Particles, detector: Detector, rng: np.random.Generator) -> Signals:
    """Simulate the tracker's and the calorimeters' answer to particles.

    Photons must have been converted before. A hadron may interact in the tracker: its track is lost if that happens
    early, and so is a part of its energy. The energy that arrives is shared between ECAL and HCAL; both fluctuate
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
    # how deep in the tracker a hadron interacts, in units of the tracker; above 1 it does not
    thickness = detector.material_nuclear * material(particles.eta, detector)
    depth = np.where(hadronic, rng.standard_exponential(n) / np.maximum(thickness, 1e-9), np.inf)

    efficiency = track_efficiency(particles, shared, detector) * (depth > detector.track_material)
    visible = efficiency > 0
    efficiency = np.where(
        pdg == 11, detector.electron_efficiency * (visible & (particles.radius < _PROMPT)), efficiency
    )
    efficiency = np.where(pdg == 13, detector.muon_efficiency * visible, efficiency)
    found = charged & (rng.random(n) < efficiency)
    track = np.where(found, np.where((pdg == 11) | (pdg == 13), pdg, 211), 0)
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

    loss = np.where(depth < 1, detector.nuclear_loss * rng.standard_exponential(n), 0.0)
    hadron = np.maximum(energy - loss, 0.0)
    width = np.hypot(detector.hadron_resolution[0] / np.sqrt(np.maximum(hadron, 1.0)), detector.hadron_resolution[1])
    hadron = hadron * hadron_response(hadron, detector) * rng.standard_gamma(width**-2) * width**2
    share = np.where(rng.random(n) < detector.ecal_shower_start, 1 - np.sqrt(rng.random(n)), 0.0)
    ecal = np.where(electromagnetic, photon, hadron * share * detector.ecal_hadron_response * hadronic)
    ecal = np.where((track == 11) | ~reaches, 0.0, ecal)
    hcal = np.where(hadronic & reaches, hadron * (1 - share), 0.0)
    return Signals(track, track_pt, particles.eta, phi, ecal, hcal, reaches)

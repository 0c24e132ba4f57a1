"""What the tracker's material does to particles before the calorimeters: photons convert, hadrons interact."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from .parameters import Detector
from .particles import Particles, concatenate_in_order

__all__ = ["convert_photons", "interact", "material"]

_PION_MASS, _KAON_MASS = 0.13957, 0.49761
_LEAST_ENERGY = 0.5  # GeV; a softer hadron that interacts leaves nothing
_LARGEST_ANGLE = 0.8  # of a secondary from the direction of its hadron, in eta and in phi


def material(eta: NDArray, detector: Detector) -> NDArray:
    """Thickness (n,) of the tracker in radiation lengths."""
    return np.interp(np.abs(eta), detector.material_eta, detector.material)


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


def interact(particles: Particles, detector: Detector, rng: np.random.Generator) -> tuple[Particles, NDArray]:
    """Let hadrons interact with the nuclei of the tracker.

    A hadron interacts with probability 1 - exp(-x/lambda), anywhere on its way, and becomes 1 + n secondaries, n
    Poisson distributed with a mean that grows as the logarithm of its energy: pions of both charges, neutral hadrons
    and photons (of neutral pions) that share its energy, less what the nucleus keeps, with a transverse momentum of
    some hundred MeV. The charged ones are displaced tracks.

    Returns
    -------
    The particles and after them, in each event, the secondaries (n,); and the radius (n,), m, where a particle ended by
    an interaction, infinite for all others.
    """
    pdg = np.abs(particles.pdg)
    hadronic = (pdg != 22) & (pdg != 11) & (pdg != 13)
    thickness = detector.material_nuclear * material(particles.eta, detector)
    depth = np.where(hadronic, rng.standard_exponential(len(pdg)) / np.maximum(thickness, 1e-9), np.inf)
    end = np.where(depth < 1, np.maximum(depth * detector.tracker_radius, particles.radius), np.inf)
    secondaries = _secondaries(particles, np.flatnonzero(depth < 1), end, detector, rng)
    everything, order = concatenate_in_order(particles, secondaries)
    return everything, np.append(end, np.full(len(secondaries), np.inf))[order]


def _secondaries(
    particles: Particles, hit: NDArray, end: NDArray, detector: Detector, rng: np.random.Generator
) -> Particles:
    """What the interactions of the rows `hit` at the radii `end` (n,) make."""
    hit = hit[particles.energy[hit] > _LEAST_ENERGY]
    energy = particles.energy[hit]
    count = 1 + rng.poisson(detector.secondaries * np.log10(np.maximum(energy, 1.0)))
    owner, group = np.repeat(hit, count), np.repeat(np.arange(len(hit)), count)
    share = rng.standard_exponential(len(owner))
    share /= np.bincount(group, share, minlength=len(hit))[group]
    left = np.maximum(energy - detector.nuclear_loss * rng.standard_exponential(len(hit)), 0.0)
    photonic, charged, _ = detector.secondary_kinds
    kind = np.digitize(rng.random(len(owner)), [photonic, photonic + charged])  # 0 photon, 1 charged, 2 neutral
    pt = share * left[group] / np.cosh(particles.eta[owner])
    radius, charge = end[owner], particles.charge[owner]
    # Kinks count over the rest of the way to the calorimeters; up to here the hadron was turned by the field.
    kink = detector.secondary_kt * rng.standard_normal((2, len(owner))) / np.maximum(pt, 0.05)
    full = np.clip(kink, -_LARGEST_ANGLE, _LARGEST_ANGLE)
    kink = full * np.maximum(1 - radius / detector.ecal_radius, 0.0)
    turn = 0.3 * detector.field * charge * radius / (2 * np.maximum(particles.pt[owner], 1e-6))
    phi = particles.phi[owner] - np.arcsin(np.clip(turn, -1, 1)) + kink[0]
    return Particles(
        pt=pt, eta=particles.eta[owner] + kink[1], phi=(phi + np.pi) % (2 * np.pi) - np.pi,
        mass=np.choose(kind, [0.0, _PION_MASS, _KAON_MASS]), pdg=np.choose(kind, [22, 211, 130]),
        charge=np.where(kind == 1, rng.choice([-1.0, 1.0], len(owner)), 0.0), radius=radius,
        vertex=particles.vertex[owner], offsets=np.searchsorted(owner, particles.offsets),
        d0=radius * np.sin(np.arcsin(np.clip(turn, -1, 1)) - full[0]), dz=particles.dz[owner] - radius * full[1],
    )  # fmt: skip

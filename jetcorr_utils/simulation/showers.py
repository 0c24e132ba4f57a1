"""Showers of hadrons: the places in the calorimeters where they leave energy.

A hadron's shower is no point: neutral pions, neutrons and low-energy fragments carry a part of its energy some
interaction or radiation lengths to the side, where it makes clusters of its own. Some of these are taken for photons
and neutral hadrons. The electromagnetic part, which stays near the shower's axis, grows with energy (D. E. Groom, Nucl.
Instrum. Meth. A 572 (2007) 633), and so hard showers spread less. Distances are in metres, so that they span more of
eta and phi in the endcaps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..jets.ragged import owners
from .detector import Signals
from .parameters import Detector
from .particles import Particles

__all__ = ["Deposits", "deposits"]


@dataclass
class Deposits:
    """Energy left in the calorimeters at d places, sorted by event.

    Attributes
    ----------
    ecal, hcal
        Energies (d,), GeV.
    eta, phi
        Where (d,), on the calorimeter's face as seen from the collision.
    source
        The particle (d,) whose shower begins here; -1 for parts of showers that lie apart.
    offsets
        Deposits of event i are rows offsets[i] to offsets[i + 1] (E + 1,).
    """

    ecal: NDArray
    hcal: NDArray
    eta: NDArray
    phi: NDArray
    source: NDArray
    offsets: NDArray


def deposits(particles: Particles, signals: Signals, detector: Detector, rng: np.random.Generator) -> Deposits:
    """The deposits of particles (n,): one for each, and those parts of hadrons' showers that lie apart."""
    n, pdg = len(particles), np.abs(particles.pdg)
    hadronic = (pdg != 22) & (pdg != 11) & (pdg != 13)
    rows, columns = [np.arange(n)], [np.stack([signals.ecal, signals.hcal, signals.eta, signals.phi])]
    for row, threshold, share, distance, radius, z in (
        (0, *detector.ecal_spread[:2], detector.ecal_spread[2:], detector.ecal_radius, detector.ecal_z),
        (1, *detector.hcal_spread[:2], detector.hcal_spread[2:], detector.hcal_radius, detector.hcal_z),
    ):
        shower = np.flatnonzero(hadronic & (columns[0][row] > threshold))
        energy = columns[0][row, shower]
        count = 1 + rng.poisson(detector.shower_parts * np.log10(np.maximum(energy, 1.0)))
        owner = np.repeat(shower, count)
        part = _shares(count, share * energy ** (detector.hadronic_power - 1), rng) * np.repeat(energy, count)
        columns[0][row] -= np.bincount(owner, part, minlength=n)
        place = _aside(signals.eta[owner], signals.phi[owner], distance, radius, z, rng)
        rows.append(owner)
        columns.append(np.stack([part * (row == 0), part * (row == 1), *place]))
    owner = np.concatenate(rows)
    event = owners(particles.offsets)[owner]
    order = np.argsort(event, kind="stable")
    ecal, hcal, eta, phi = np.concatenate(columns, axis=1)[:, order]
    source = np.where(order < n, owner[order], -1)
    return Deposits(ecal, hcal, eta, phi, source, np.searchsorted(event[order], np.arange(particles.events + 1)))


def _shares(count: NDArray, share: NDArray, rng: np.random.Generator) -> NDArray:
    """The shares in their shower's energy of the parts that lie apart, `count` (s,) of shower after shower (sum of s,).

    They have a Dirichlet distribution, where all parts of a shower together hold `share` (s,) in the mean and what lies
    where it begins holds the rest: the more parts, the less their sum fluctuates.
    """
    shower = np.repeat(np.arange(len(count)), count)
    part, middle = rng.standard_gamma(share[shower]), rng.standard_gamma(count * (1 - share))
    return part / (np.bincount(shower, part, minlength=len(count)) + middle)[shower]


def _aside(
    eta: NDArray, phi: NDArray, distance: tuple[float, ...], radius: float, z: float, rng: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """Places at exponential distances, of mean `distance` (barrel, endcap), from points on a calorimeter's face."""
    endcap = np.abs(eta) > np.arcsinh(z / radius)
    length = np.where(endcap, distance[1], distance[0]) * rng.standard_exponential(len(eta))
    angle = rng.uniform(-np.pi, np.pi, len(eta))
    along, across = length * np.cos(angle), length * np.sin(angle)
    sinh, cosh = np.sinh(np.abs(eta)), np.cosh(eta)
    d_eta = np.where(endcap, along * sinh**2 / (z * cosh), along / (radius * cosh))
    d_phi = np.where(endcap, across * sinh / z, across / radius)
    return eta + d_eta, (phi + d_phi + np.pi) % (2 * np.pi) - np.pi

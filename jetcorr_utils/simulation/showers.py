"""Showers of hadrons: the places in the calorimeters where they leave energy.

A hadron's shower is no point: neutral pions, neutrons and low-energy fragments carry a part of its energy some
interaction or radiation lengths to the side, where it makes clusters of its own. Some of these are taken for photons
and neutral hadrons. Distances are in metres, so that they span more of eta and phi in the endcaps.
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

_SATELLITES = 2


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
        owner = np.repeat(shower, _SATELLITES)
        part = _parts(len(shower), share, rng) * columns[0][row, owner]
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


def _parts(showers: int, share: float, rng: np.random.Generator) -> NDArray:
    """The share of each satellite in its shower's energy (2 * showers,); both together have `share` in the mean."""
    both, first = rng.beta(2 * share, 2 * (1 - share), showers), rng.random(showers)
    return np.stack([both * first, both * (1 - first)], axis=1).ravel()


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

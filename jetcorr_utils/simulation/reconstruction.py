"""Particle flow: tracks and calorimeter cells become charged hadrons, photons, neutral hadrons, electrons and muons.

The algorithm is that of CMS (arXiv:1706.04965, sections 3.4 and 4). ECAL clusters are cells of a grid, HCAL clusters
are local maxima among cells with the cells that lead up to them:

* a track is a charged hadron, an electron or a muon;
* an ECAL cell that no track points to is a photon;
* an HCAL cluster that no track points to is a neutral hadron;
* where tracks point to an HCAL cluster, its energy and that of the ECAL cells near the tracks are compared with the
  momentum of the tracks. A significant excess becomes a photon, as far as the ECAL energy allows, and a neutral hadron
  for what remains.

Charged-hadron subtraction then marks the tracks of pileup vertices.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled
from ..jets.ragged import offsets_of, owners
from .detector import Cells, Signals, cells_of
from .parameters import Detector, Pileup
from .particles import Particles
from .showers import deposits

__all__ = ["Candidates", "reconstruct"]

_PION_MASS, _MUON_MASS, _ELECTRON_MASS = 0.13957, 0.10566, 0.000511
_MAX_CALO_FRACTION = 2.55  # CMS packs the fraction into 8 bits, in steps of 0.01


@dataclass
class Candidates:
    """Particle-flow candidates of E events, by falling pt in each; arrays (c,), offsets (E + 1,).

    Attributes
    ----------
    pt, eta, phi, mass
        GeV and radians.
    pdg
        211 charged hadron, 130 neutral hadron, 22 photon, 11 electron, 13 muon, with the sign of a charge.
    from_pv
        3 used in the fit of the primary vertex (and all neutrals), 2 and 1 looser, 0 from a pileup vertex.
    calo_fraction
        Linked calorimeter energy over the candidate's energy.
    hcal_fraction
        The HCAL's share of the linked calorimeter energy.
    particle
        The particle that left the candidate's track (c,), -1 for neutral ones.
    """

    pt: NDArray
    eta: NDArray
    phi: NDArray
    mass: NDArray
    pdg: NDArray
    from_pv: NDArray
    calo_fraction: NDArray
    hcal_fraction: NDArray
    offsets: NDArray
    particle: NDArray = field(default_factory=lambda: np.empty(0, np.int64))


@compiled
def _fill(row, event, pdg, energy, eta, phi):
    row[0], row[1], row[2], row[3], row[4] = event, pdg, energy, eta, phi


@compiled
def _any_near(pointed, cell, row, width):
    """Whether a track points to the cell or to one of the eight around it; `row` is the number of cells in phi."""
    first = cell - cell % row
    for side in (-width * row, 0, width * row):
        for step in (-width, 0, width):
            near = first + side + (cell - first + step) % row
            if 0 <= near < len(pointed) and pointed[near]:
                return True
    return False


@compiled
def _highest_neighbour(energy, cell, row, width):
    """The one of the four neighbours of a cell with the most energy, or the cell itself if it has more."""
    first, best = cell - cell % row, cell
    left, right = first + (cell - first - width) % row, first + (cell - first + width) % row
    for near in (cell - width * row, cell + width * row, left, right):
        if 0 <= near < len(energy) and energy[near, 0] > energy[best, 0]:
            best = near
    return best


@compiled
def _link(offsets, ecal_cell, hcal_cell, points, momentum, forward, width, ecal_count, ecal_row, hcal_count, hcal_row,
          ecal_min, hcal_cell_min, hcal_min, ecal_response, stochastic, constant, sigmas):  # fmt: skip
    """Link tracks to cells and clusters.

    `points` (n, 4) holds ecal, hcal, eta, phi of each deposit, `momentum` (n,) that of the track that points to it and
    reaches the calorimeters, if there is one, `forward` (n,) the index of its region, `width` (n,) that of its cells.
    Returns neutrals as columns event, pdg, energy, eta, phi; and for each track the linked calorimeter energy over the
    momentum and the HCAL's share of it. Cells do not cross phi = pi, so that means of phi need no care.
    """
    n = len(momentum)
    neutrals = np.empty((3 * n, 5))
    made = 0
    fractions = np.zeros((n, 2))
    ecal = np.zeros((ecal_count, 3))  # energy, and its sums with eta and phi
    hcal = np.zeros((hcal_count, 4))  # HCAL energy; all energy, its sums with eta and phi
    cluster = np.zeros((hcal_count, 3))  # HCAL energy, linked ECAL energy, momentum of a local maximum's cells
    root = np.empty(hcal_count, np.int64)
    pointed = np.zeros(ecal_count, np.bool_)
    ecal_seen, hcal_seen = np.zeros(ecal_count, np.bool_), np.zeros(hcal_count, np.bool_)
    ecal_list, hcal_list = np.empty((n, 4), np.int64), np.empty((n, 3), np.int64)
    for event in range(len(offsets) - 1):
        first, last = offsets[event], offsets[event + 1]
        in_ecal, in_hcal = 0, 0
        for i in range(first, last):
            total = points[i, 0] + points[i, 1]
            if total <= 0 and momentum[i] <= 0:
                continue
            c, h = ecal_cell[i], hcal_cell[i]
            if not ecal_seen[c]:
                ecal_seen[c] = True
                ecal_list[in_ecal, 0], ecal_list[in_ecal, 1] = c, h
                ecal_list[in_ecal, 2], ecal_list[in_ecal, 3] = forward[i], width[i]
                in_ecal += 1
            if not hcal_seen[h]:
                hcal_seen[h] = True
                hcal_list[in_hcal, 0], hcal_list[in_hcal, 1], hcal_list[in_hcal, 2] = h, forward[i], width[i]
                in_hcal += 1
            ecal[c, 0] += points[i, 0]
            ecal[c, 1] += points[i, 0] * points[i, 2]
            ecal[c, 2] += points[i, 0] * points[i, 3]
            hcal[h, 0] += points[i, 1]
            hcal[h, 1] += total
            hcal[h, 2] += total * points[i, 2]
            hcal[h, 3] += total * points[i, 3]
            pointed[c] |= momentum[i] > 0
        for k in range(in_hcal):
            h = hcal_list[k, 0]
            if hcal[h, 0] < hcal_cell_min:
                hcal[h, 0] = 0.0
        for k in range(in_hcal):
            h = hcal_list[k, 0]
            root[h] = _highest_neighbour(hcal, h, hcal_row, hcal_list[k, 2])
        for k in range(in_hcal):
            h = hcal_list[k, 0]
            while root[root[h]] != root[h]:
                root[h] = root[root[h]]
            cluster[root[h], 0] += hcal[h, 0]
        for i in range(first, last):
            if momentum[i] > 0:
                cluster[root[hcal_cell[i]], 2] += momentum[i]
        for k in range(in_ecal):
            c, h, region, wide = ecal_list[k]
            energy, r = ecal[c, 0], root[h]
            if cluster[r, 2] > 0 and _any_near(pointed, c, ecal_row, wide):
                cluster[r, 1] += energy
            elif energy > ecal_min[region]:
                _fill(neutrals[made], event, 22, energy, ecal[c, 1] / energy, ecal[c, 2] / energy)
                made += 1
        for i in range(first, last):
            if momentum[i] > 0:
                r = root[hcal_cell[i]]
                linked = cluster[r, 0] + cluster[r, 1] / ecal_response
                fractions[i, 0], fractions[i, 1] = linked / cluster[r, 2], cluster[r, 0] / max(linked, 1e-9)
        for k in range(in_hcal):
            h, region, wide = hcal_list[k]
            if root[h] != h:
                continue
            photon, neutral, p = 0.0, cluster[h, 0], cluster[h, 2]
            if p > 0:
                neutral = 0.0
                sigma = p * np.sqrt(stochastic[region] ** 2 / max(p, 1.0) + constant[region] ** 2)
                excess = cluster[h, 0] + cluster[h, 1] / ecal_response - p
                if excess > sigmas * (1 + np.exp(-p / 100)) * sigma:
                    photon = min(excess * ecal_response, cluster[h, 1])
                    neutral = excess - photon / ecal_response
            if photon > ecal_min[region]:
                _fill(neutrals[made], event, 22, photon, hcal[h, 2] / hcal[h, 1], hcal[h, 3] / hcal[h, 1])
                made += 1
            if neutral > hcal_min[region]:
                _fill(neutrals[made], event, 130, neutral, hcal[h, 2] / hcal[h, 1], hcal[h, 3] / hcal[h, 1])
                made += 1
        for k in range(in_ecal):
            c = ecal_list[k, 0]
            ecal[c] = 0.0
            pointed[c] = False
            ecal_seen[c] = False
        for k in range(in_hcal):
            h = hcal_list[k, 0]
            hcal[h] = 0.0
            cluster[h] = 0.0
            hcal_seen[h] = False
    return neutrals[:made], fractions


def reconstruct(
    particles: Particles, signals: Signals, detector: Detector, pileup: Pileup, rng: np.random.Generator
) -> Candidates:
    """Make particle-flow candidates of the detector's signals; see the module for the algorithm.

    Parameters
    ----------
    particles
        The particles that left the signals (n,); of them only vertex, direction and charge are used.
    signals
        Tracks and deposits (n,).
    """
    left = deposits(particles, signals, detector, rng)
    cells: Cells = cells_of(left.eta, left.phi, detector)
    in_block = (signals.track == 211) & signals.reaches
    momentum = np.where(in_block, signals.track_pt * np.cosh(particles.eta), 0.0)
    begins = left.source >= 0
    neutrals, fractions = _link(
        left.offsets, cells.ecal, cells.hcal, np.stack([left.ecal, left.hcal, left.eta, left.phi], axis=1),
        np.where(begins, momentum[left.source], 0.0), (np.abs(left.eta) > 1.48).astype(np.int64), cells.width,
        cells.ecal_count, detector.ecal_cell * detector.hcal_cells_phi, cells.hcal_count, detector.hcal_cells_phi,
        np.array(detector.ecal_threshold), detector.hcal_cell_threshold, np.array(detector.hcal_threshold),
        detector.ecal_hadron_response, np.array(detector.hcal_stochastic), np.array(detector.hcal_constant),
        detector.excess_sigma,
    )  # fmt: skip
    fractions = fractions[begins]  # of the particles, in their order
    event, pdg, energy, eta, phi = neutrals.T
    count = len(event)

    track = signals.track > 0
    kind = signals.track[track]
    charge = np.sign(particles.charge[track])
    # a positive charge has the number 211, but -11 and -13
    signed = np.where(kind == 211, kind * charge, -kind * charge)
    mass = np.select([kind == 11, kind == 13], [_ELECTRON_MASS, _MUON_MASS], _PION_MASS)
    from_pv = _vertex_association(particles.vertex[track], detector, pileup, rng)
    columns = {
        "pt": (signals.track_pt[track], energy / np.cosh(eta)), "eta": (particles.eta[track], eta),
        "phi": (particles.phi[track], phi), "mass": (mass, np.zeros(count)),
        "pdg": (signed.astype(np.int32), pdg.astype(np.int32)), "from_pv": (from_pv, np.full(count, 3, np.int32)),
        "calo_fraction": (np.minimum(fractions[track, 0], _MAX_CALO_FRACTION), np.ones(count)),
        "hcal_fraction": (fractions[track, 1], (pdg == 130).astype(float)),
        "particle": (np.flatnonzero(track), np.full(count, -1)),
    }  # fmt: skip
    events = np.concatenate([owners(particles.offsets)[track], event.astype(np.int64)])
    order = np.lexsort((-np.concatenate(columns["pt"]), events))
    return Candidates(
        **{name: np.concatenate(parts)[order] for name, parts in columns.items()},
        offsets=offsets_of(np.bincount(events, minlength=particles.events)),
    )


def _vertex_association(
    vertex: NDArray, detector: Detector, pileup: Pileup, rng: np.random.Generator
) -> NDArray[np.int32]:
    """fromPV of tracks (t,): tracks of pileup get 0, and are subtracted, unless their vertex was missed."""
    chance = rng.random(len(vertex))
    loose = 1 + (rng.random(len(vertex)) < 0.5)
    hard = np.where(chance < detector.from_pv_tight, 3, loose)
    soft = np.where(chance < pileup.kept, loose, 0)
    return np.where(vertex == 0, hard, soft).astype(np.int32)

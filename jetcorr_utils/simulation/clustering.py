"""Jets: anti-kt with R = 0.4 by fastjet, their areas, the energy density rho, and the match with generator jets.

FastJet: M. Cacciari, G.P. Salam and G. Soyez, Eur. Phys. J. C 72 (2012) 1896, arXiv:1111.6097.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import awkward as ak
import fastjet
import numpy as np
from fastjet._swig import ClusterSequence as _PlainClusterSequence
from numpy.typing import NDArray

from ..compiled import compiled
from ..jets.ragged import offsets_of, owners
from .reconstruction import Candidates

__all__ = ["RADIUS", "Jets", "areas", "cluster", "delta_phi", "match", "rho"]

RADIUS = 0.4
_PlainClusterSequence.set_fastjet_banner_stream(None)  # fastjet prints its banner into notebooks; cited above
_GHOST_SPACING = 0.1


@dataclass
class Jets:
    """Jets of E events, by falling pt in each.

    Attributes
    ----------
    pt, eta, phi, mass
        Arrays (j,), GeV and radians.
    offsets
        Jets of event i are rows offsets[i] to offsets[i + 1] (E + 1,).
    constituents
        Rows of the clustered particles (m,), jet after jet, counted over all events.
    bounds
        Constituents of jet j are bounds[j] to bounds[j + 1] (j + 1,).
    """

    pt: NDArray
    eta: NDArray
    phi: NDArray
    mass: NDArray
    offsets: NDArray
    constituents: NDArray
    bounds: NDArray


def delta_phi(first: NDArray, second: NDArray) -> NDArray:
    """Difference of two azimuths, in [-pi, pi)."""
    return (first - second + np.pi) % (2 * np.pi) - np.pi


def cluster(momenta: ak.Array, min_pt: float) -> Jets:
    """Cluster four-momenta (E * var with px, py, pz, E) into anti-kt jets above `min_pt` GeV."""
    sequence = fastjet.ClusterSequence(momenta, fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS))
    jets, members = sequence.inclusive_jets(min_pt), sequence.constituent_index(min_pt)
    order = ak.argsort(jets.px**2 + jets.py**2, ascending=False, stable=True)
    jets, members = jets[order], members[order]
    offsets = offsets_of(ak.to_numpy(ak.num(jets)))
    start = offsets_of(ak.to_numpy(ak.num(momenta)))[:-1][owners(offsets)]
    flat, members = ak.flatten(jets), ak.flatten(members)
    px, py, pz, energy = (ak.to_numpy(flat[name]) for name in ("px", "py", "pz", "E"))
    sizes = ak.to_numpy(ak.num(members))
    pt = np.hypot(px, py)
    return Jets(
        pt=pt, eta=np.arcsinh(pz / pt), phi=np.arctan2(py, px),
        mass=np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0.0)), offsets=offsets,
        constituents=ak.to_numpy(ak.flatten(members)) + np.repeat(start, sizes), bounds=offsets_of(sizes),
    )  # fmt: skip


def areas(
    pt: NDArray, eta: NDArray, phi: NDArray, offsets: NDArray, max_abs_eta: float, rng: np.random.Generator
) -> NDArray:
    """Areas (j,) of anti-kt jets, from ghosts as FastJet's active area has them.

    Ghosts lie on a grid of 0.1 x 0.1, each at random in its cell, the same for all jets of an event. One joins the jet
    with the smallest distance dR / pt among those within R (JHEP 04 (2008) 005): an isolated jet has pi R^2 but for the
    number of ghosts that happen to lie in it, a soft jet loses what it shares with a hard neighbour. That ghosts move
    the jets' axes is left out, which saves all but some per cent of the time.
    """
    rows, columns = 2 * math.ceil((max_abs_eta + RADIUS) / _GHOST_SPACING), math.ceil(2 * np.pi / _GHOST_SPACING)
    place = rng.random((len(offsets) - 1, rows, columns, 2))
    return _ghosts(pt, eta, phi, offsets, place) * _GHOST_SPACING * 2 * np.pi / columns


@compiled
def _ghosts(pt: NDArray, eta: NDArray, phi: NDArray, offsets: NDArray, place: NDArray) -> NDArray:
    """Number of ghosts in each jet (j,); `place` (E, rows, columns, 2) is where they lie in their cells."""
    rows, columns = place.shape[1], place.shape[2]
    width = 2 * np.pi / columns
    result = np.zeros(len(pt))
    rivals = np.empty((len(pt), 3))
    for event in range(len(offsets) - 1):
        for j in range(offsets[event], offsets[event + 1]):
            found = 0
            for k in range(offsets[event], offsets[event + 1]):
                x, y = eta[k] - eta[j], (phi[k] - phi[j] + np.pi) % (2 * np.pi) - np.pi
                if pt[k] > pt[j] and x * x + y * y < 4 * RADIUS * RADIUS:
                    rivals[found, 0], rivals[found, 1], rivals[found, 2] = x, y, (pt[j] / pt[k]) ** 2
                    found += 1
            row = int(np.floor((eta[j] - RADIUS) / _GHOST_SPACING)) + rows // 2
            column = int(np.floor((phi[j] + np.pi - RADIUS) / width))
            for a in range(max(row, 0), min(row + round(2 * RADIUS / _GHOST_SPACING) + 1, rows - 1) + 1):
                for b in range(column, column + int(2 * RADIUS / width) + 2):
                    u, v = place[event, a, b % columns]
                    x, y = (a - rows // 2 + u) * _GHOST_SPACING - eta[j], (b + v) * width - np.pi - phi[j]
                    result[j] += _joins(x, y, rivals[:found])
    return result


@compiled
def _joins(x: float, y: float, rivals: NDArray) -> bool:
    """Whether a ghost at (x, y) from a jet joins it, and not one of `rivals`: x, y, squared ratio of pt."""
    own = x * x + y * y
    free = own < RADIUS * RADIUS
    for k in range(len(rivals)):
        distance = (x - rivals[k, 0]) ** 2 + (y - rivals[k, 1]) ** 2
        free = free and not (distance < RADIUS * RADIUS and distance * rivals[k, 2] < own)
    return free


def rho(candidates: Candidates, mask: NDArray, max_abs_eta: float) -> NDArray:
    """Density of transverse momentum of each event (E,), GeV: median over a grid of 0.55 x 0.55 (as CMS fixedGrid).

    `mask` (c,) selects the candidates that count.
    """
    rows, columns = round(2 * max_abs_eta / 0.55), round(2 * np.pi / 0.55)
    used = mask & (np.abs(candidates.eta) < max_abs_eta)
    row = np.minimum(((candidates.eta[used] + max_abs_eta) * rows / (2 * max_abs_eta)).astype(int), rows - 1)
    column = ((candidates.phi[used] + np.pi) * columns / (2 * np.pi)).astype(int) % columns
    events = len(candidates.offsets) - 1
    cell = (owners(candidates.offsets)[used] * rows + row) * columns + column
    sums = np.bincount(cell, candidates.pt[used], minlength=events * rows * columns).reshape(events, -1)
    return np.median(sums, axis=1) / (2 * max_abs_eta / rows * 2 * np.pi / columns)


@compiled
def match(eta: NDArray, phi: NDArray, offsets: NDArray, other_eta: NDArray, other_phi: NDArray,
          other_offsets: NDArray, max_distance: float) -> NDArray:  # fmt: skip
    """The row of the partner of each jet (j,), -1 if it has none: nearest pairs first, each used once."""
    result = np.full(len(eta), -1, np.int64)
    used = np.zeros(len(other_eta), np.bool_)
    for event in range(len(offsets) - 1):
        for _ in range(offsets[event + 1] - offsets[event]):
            best, mine, theirs = max_distance**2, -1, -1
            for i in range(offsets[event], offsets[event + 1]):
                if result[i] >= 0:
                    continue
                for k in range(other_offsets[event], other_offsets[event + 1]):
                    if used[k]:
                        continue
                    turn = (phi[i] - other_phi[k] + np.pi) % (2 * np.pi) - np.pi
                    distance = (eta[i] - other_eta[k]) ** 2 + turn * turn
                    if distance < best:
                        best, mine, theirs = distance, i, k
            if mine < 0:
                break
            result[mine] = theirs
            used[theirs] = True
    return result

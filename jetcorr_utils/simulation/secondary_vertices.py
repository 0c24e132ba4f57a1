"""Secondary vertices: where b and c hadrons, K0S and Lambda decay, as CMS's inclusive vertex finder sees them.

Tracks of the same decay make a vertex if there are two of them at least, if one of them can begin it (a significant
distance to the primary vertex, but no long one), and if the vertex lies significantly away (arXiv:1102.3194). How well
its distance is known follows from the errors of its tracks and from the angle between them. Its momentum is that of its
tracks, taken as pions. Losses follow from those of the tracks; there are no vertices of tracks that do not belong
together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..jets.ragged import owners
from .parameters import Tracking
from .particles import Particles
from .reconstruction import Candidates

__all__ = ["SecondaryVertices", "secondary_vertices"]

_PION_MASS = 0.13957
_LEAST_ANGLE = 1e-3


@dataclass
class SecondaryVertices:
    """Vertices of E events, v in all, by falling pt in each.

    Attributes
    ----------
    columns
        By their name in NanoAOD, arrays (v,): pt, eta, phi, mass (GeV), dlenSig (distance to the primary vertex over
        its error), ntracks.
    offsets
        Vertices of event i are rows offsets[i] to offsets[i + 1] (E + 1,).
    """

    columns: dict[str, NDArray]
    offsets: NDArray


def secondary_vertices(
    particles: Particles, candidates: Candidates, further: dict[str, NDArray], tracking: Tracking,
    rng: np.random.Generator,
) -> SecondaryVertices:  # fmt: skip
    """Find the vertices of the hard collisions' decays.

    Parameters
    ----------
    particles
        The particles whose rows the candidates name.
    further
        The candidates' `impact_parameters`.
    """
    row = candidates.particle
    from_decay = (row >= 0) & (further["d0Err"] > 0)
    from_decay[from_decay] = particles.origin[row[from_decay]] >= 0
    track = np.flatnonzero(from_decay)
    pt, eta, phi = candidates.pt[track], candidates.eta[track], candidates.phi[track]
    _, first, vertex = np.unique(particles.origin[row[track]], return_index=True, return_inverse=True)

    def total(values: NDArray) -> NDArray:
        return np.bincount(vertex, values, minlength=len(first))

    ntracks = total(np.ones(len(track)))
    px, py, pz = total(pt * np.cos(phi)), total(pt * np.sin(phi)), total(pt * np.sinh(eta))
    energy = total(np.hypot(pt * np.cosh(eta), _PION_MASS))
    sum_pt = np.hypot(px, py)
    axis = np.arcsinh(pz / np.maximum(sum_pt, 1e-9)), np.arctan2(py, px)
    turn = (phi - axis[1][vertex] + np.pi) % (2 * np.pi) - np.pi
    angle = np.sqrt(total((eta - axis[0][vertex]) ** 2 + turn**2) / ntracks)
    error = np.sqrt(total(further["d0Err"][track] ** 2)) / ntracks / np.maximum(angle, _LEAST_ANGLE)
    distance = 100 * particles.flight[row[track]][first] + error * rng.standard_normal(len(first))

    d0, least, most = np.abs(further["d0"][track]), *tracking.vertex_seed
    seeds = total((d0 > least * further["d0Err"][track]) & (d0 < most))
    found = (ntracks >= 2) & (seeds > 0) & (distance > tracking.vertex_significance * error)
    event = owners(candidates.offsets)[track][first]
    order = np.lexsort((-sum_pt, event))
    order = order[found[order]]
    columns = {
        "pt": sum_pt, "eta": axis[0], "phi": axis[1],
        "mass": np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0)),
        "dlenSig": distance / error, "ntracks": ntracks,
    }  # fmt: skip
    offsets = np.searchsorted(event[order], np.arange(len(candidates.offsets)))
    return SecondaryVertices({name: values[order] for name, values in columns.items()}, offsets)

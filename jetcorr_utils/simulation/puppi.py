"""The PUPPI weight of candidates: how likely each is from the primary vertex (D. Bertolini et al., arXiv:1407.6013).

Charged candidates have 1 or 0, by the vertex that they belong to. For a neutral one, what is near it tells::

    alpha_i = log sum_j (pt_j / dR_ij)^2        over charged candidates j of the primary vertex, r_min < dR_ij < r_max

Charged candidates of pileup show how alpha is distributed in pileup, by its median and the spread below it. The weight
is the probability that a chi-square of one degree of freedom is smaller than that of alpha. Beyond the tracker, j is
any candidate. As in CMS, weights and weighted momenta that are too small become 0.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..compiled import compiled
from .parameters import Tracking
from .reconstruction import Candidates

__all__ = ["puppi_weights"]

_TRACKER_ETA = 2.5


def puppi_weights(candidates: Candidates, vertices: NDArray, tracking: Tracking) -> NDArray:
    """The weights (c,), 0 to 1.

    Parameters
    ----------
    candidates
        Charged ones with from_pv 0 are those of pileup.
    vertices
        Number of good vertices (E,).
    """
    pdg = np.abs(candidates.pdg)
    charged = (pdg != 22) & (pdg != 130)
    return _weights(
        candidates.pt, candidates.eta, candidates.phi, candidates.offsets, charged, charged & (candidates.from_pv > 0),
        vertices.astype(np.float64), *tracking.puppi_radius, tracking.puppi_min_weight,
        np.array([tracking.puppi_cut, tracking.puppi_cut_forward]),
    )  # fmt: skip


@compiled
def _near(pt: NDArray, eta: NDArray, phi: NDArray, primary: NDArray, low: float, high: float) -> NDArray:
    """Sums of (pt / dR)^2 (m, 2) around each of the candidates of an event: primary charged ones, and all."""
    order = np.argsort(eta)
    result = np.zeros((len(pt), 2))
    first = 0
    for a in range(len(order)):
        i = order[a]
        while eta[i] - eta[order[first]] > high:
            first += 1
        for b in range(first, a):  # each pair once
            j = order[b]
            turn = abs(phi[i] - phi[j])
            turn = min(turn, 2 * math.pi - turn)
            distance = (eta[i] - eta[j]) ** 2 + turn * turn
            if low * low < distance < high * high:
                result[i, 1] += pt[j] ** 2 / distance
                result[j, 1] += pt[i] ** 2 / distance
                if primary[j]:
                    result[i, 0] += pt[j] ** 2 / distance
                if primary[i]:
                    result[j, 0] += pt[i] ** 2 / distance
    return result


@compiled
def _median_and_left_spread(values: NDArray) -> tuple[float, float]:
    """The median of some values, and the root of the mean square of those below it from it."""
    if len(values) == 0:
        return 0.0, 0.0
    median = np.median(values)
    below = values[values < median]
    return median, math.sqrt(np.mean((below - median) ** 2)) if len(below) else 0.0


@compiled
def _weights(
    pt: NDArray, eta: NDArray, phi: NDArray, offsets: NDArray, charged: NDArray, primary: NDArray, vertices: NDArray,
    low: float, high: float, least: float, cuts: NDArray,
) -> NDArray:  # fmt: skip
    """The weights; `cuts` (2, 2) are those within and beyond the tracker."""
    result = np.zeros(len(pt))
    for event in range(len(offsets) - 1):
        rows = slice(offsets[event], offsets[event + 1])
        near = _near(pt[rows], eta[rows], phi[rows], primary[rows], low, high)
        pileup = charged[rows] & ~primary[rows]
        for kind in range(2):  # within the tracker, beyond it
            sums = near[:, kind]
            median, spread = _median_and_left_spread(np.log(sums[pileup & (sums > 0)]))
            for k in range(len(sums)):
                i = offsets[event] + k
                if charged[i]:
                    result[i] = 1.0 if primary[i] else 0.0
                    continue
                if (abs(eta[i]) > _TRACKER_ETA) != (kind == 1) or sums[k] <= 0:
                    continue
                above = math.log(sums[k]) - median
                weight = math.erf(above / (spread * math.sqrt(2.0))) if spread > 0 else 1.0
                if above > 0 and weight > least and weight * pt[i] > cuts[kind, 0] + cuts[kind, 1] * vertices[event]:
                    result[i] = weight
    return result

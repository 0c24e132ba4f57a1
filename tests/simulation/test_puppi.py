"""PUPPI: the formulas of arXiv:1407.6013 written down plainly, and what the weights do to a simulated event."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jetcorr_utils.jets.ragged import owners
from jetcorr_utils.simulation.parameters import Tracking
from jetcorr_utils.simulation.puppi import puppi_weights
from jetcorr_utils.simulation.reconstruction import Candidates

TRACKING = Tracking()


def random_candidates(seed: int, counts: tuple[int, ...] = (300, 1, 200)) -> Candidates:
    rng = np.random.default_rng(seed)
    n = sum(counts)
    pdg = rng.choice([211, -211, 22, 130, 11], n)
    from_pv = np.where(np.isin(pdg, [22, 130]), 3, rng.choice([0, 0, 0, 1, 3], n))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    ones = np.ones(n)
    return Candidates(
        rng.exponential(6, n) + 0.2, rng.uniform(-3, 3, n), rng.uniform(-np.pi, np.pi, n), 0 * ones, pdg, from_pv, ones,
        ones, offsets,
    )  # fmt: skip


def plain_weights(c: Candidates, vertices) -> np.ndarray:
    result = []
    for event, (first, last) in enumerate(zip(c.offsets[:-1], c.offsets[1:], strict=True)):
        rows = range(first, last)
        charged = {i: abs(c.pdg[i]) not in (22, 130) for i in rows}
        primary = {i: charged[i] and c.from_pv[i] > 0 for i in rows}

        def alpha(i, among, rows=rows):
            total = 0.0
            for j in rows:
                turn = math.remainder(c.phi[i] - c.phi[j], 2 * math.pi)
                distance = math.hypot(c.eta[i] - c.eta[j], turn)
                if j != i and among(j) and TRACKING.puppi_radius[0] < distance < TRACKING.puppi_radius[1]:
                    total += (c.pt[j] / distance) ** 2
            return math.log(total) if total > 0 else -math.inf

        for i in rows:
            if charged[i]:
                result.append(1.0 if primary[i] else 0.0)
                continue
            forward = abs(c.eta[i]) > 2.5
            among = (lambda j: True) if forward else primary.get
            pileup = np.array([alpha(j, among) for j in rows if charged[j] and not primary[j]])
            pileup = pileup[np.isfinite(pileup)]
            middle = np.median(pileup) if len(pileup) else 0.0
            left = pileup[pileup < middle] - middle
            spread = math.sqrt(np.mean(left**2)) if len(left) else 0.0
            above = alpha(i, among) - middle
            weight = (math.erf(math.sqrt(above**2 / spread**2 / 2)) if spread else 1.0) if above > 0 else 0.0
            cut = TRACKING.puppi_cut_forward if forward else TRACKING.puppi_cut
            kept = weight > TRACKING.puppi_min_weight and weight * c.pt[i] > cut[0] + cut[1] * vertices[event]
            result.append(weight if kept else 0.0)
    return np.array(result)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_weights_are_those_of_the_plain_formulas(seed):
    candidates, vertices = random_candidates(seed), np.array([0, 10, 2])
    found = puppi_weights(candidates, vertices, TRACKING)
    np.testing.assert_allclose(found, plain_weights(candidates, vertices), rtol=1e-9)
    neutral = np.isin(np.abs(candidates.pdg), [22, 130])
    assert 0.02 < np.mean(found[neutral] > 0) < 0.9
    assert (found[neutral & (np.abs(candidates.eta) > 2.5)] > 0).any()


def test_neutral_energy_of_pileup_is_weighted_down(events):
    candidates, weight = events.candidates, events.further["puppiWeight"]
    neutral = candidates.particle < 0
    jet = np.full(len(candidates.pt), -1)
    jet[events.jets.constituents] = owners(events.jets.bounds)
    hard = np.append(events.jets.pt, 0.0)[jet] > 100

    def kept(mask):
        return np.sum((weight * candidates.pt)[mask]) / np.sum(candidates.pt[mask])

    assert kept(neutral & hard) > 0.85
    assert kept(neutral & (jet < 0)) < 0.35

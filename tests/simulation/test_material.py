import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jetcorr_utils.simulation.material import convert_photons, interact, material
from jetcorr_utils.simulation.parameters import Detector

DETECTOR = Detector()
N = 5000


def hadrons(make_particles, energy=50.0, eta=1.5):
    """N charged pions, one an event."""
    row = (energy / np.cosh(eta), eta, 0.5, 211, 1, 0)
    return make_particles(*[row] * N, offsets=list(range(N + 1)))


def test_photons_convert_in_the_material_and_keep_their_momentum(make_particles):
    photons = make_particles(*[(10.0, 1.5, 0.0, 22, 0, 0)] * N, (3.0, 0, 0, 130, 0, 0), offsets=[0, N, N + 1])
    result = convert_photons(photons, DETECTOR, np.random.default_rng(3))
    converted = (np.abs(result.pdg) == 11).sum() / 2
    expected = 1 - np.exp(-7 / 9 * material(np.array([1.5]), DETECTOR)[0])
    assert abs(converted / N - expected) < 0.03
    assert_allclose(result.pt[: result.offsets[1]].sum(), 10.0 * N)
    assert result.charge.sum() == 0
    assert result.pdg[result.offsets[1] :].tolist() == [130]


def test_as_many_hadrons_interact_as_the_material_says_and_others_never(make_particles):
    _, end = interact(particles := hadrons(make_particles), DETECTOR, np.random.default_rng(1))
    expected = 1 - np.exp(-DETECTOR.material_nuclear * material(np.array([1.5]), DETECTOR)[0])
    assert abs(np.isfinite(end).sum() / N - expected) < 0.03
    assert end[np.isfinite(end)].max() <= DETECTOR.tracker_radius
    for pdg in (22, 11, 13):
        others = dataclasses.replace(particles, pdg=np.full(N, pdg))
        same, end = interact(others, DETECTOR, np.random.default_rng(1))
        assert len(same) == N
        assert np.isinf(end).all()


def test_secondaries_share_the_energy_that_the_nucleus_leaves(make_particles):
    detector = dataclasses.replace(DETECTOR, nuclear_loss=0.0, secondary_kt=0.0)
    everything, end = interact(hadrons(make_particles), detector, np.random.default_rng(2))
    secondary = np.ones(len(everything), bool)
    secondary[everything.offsets[:-1]] = False  # in each event they come after the hadron
    event = np.repeat(np.arange(N), np.diff(everything.offsets))
    momentum = np.bincount(event[secondary], (everything.pt * np.cosh(everything.eta))[secondary], minlength=N)
    hit = np.isfinite(end[everything.offsets[:-1]])
    assert_allclose(momentum[hit], 50.0)
    assert_array_equal(momentum[~hit], 0)
    assert_array_equal(everything.radius[secondary], np.repeat(end[everything.offsets[:-1]], np.bincount(event) - 1))
    assert np.isinf(end[secondary]).all()
    count = np.bincount(event[secondary], minlength=N)[hit].mean()
    assert abs(count - 1 - detector.secondaries * np.log10(50.0)) < 0.1
    kinds = np.abs(everything.pdg[secondary])
    assert_allclose([np.mean(kinds == kind) for kind in (22, 211, 130)], detector.secondary_kinds, atol=0.02)


def test_the_nucleus_keeps_some_energy_and_the_secondaries_spread(make_particles):
    everything, end = interact(hadrons(make_particles, energy=20.0, eta=0.1), DETECTOR, np.random.default_rng(2))
    secondary = everything.radius > 0
    hit = np.isfinite(end).sum()
    straight = everything.pt[secondary].sum() * np.cosh(0.1)  # kinks change eta, not pt
    assert abs(20.0 - straight / hit - DETECTOR.nuclear_loss) < 0.15
    kink = np.abs(everything.eta[secondary] - 0.1)
    soft, early = everything.pt[secondary] < 2, everything.radius[secondary] < 0.5
    assert kink[soft].mean() > 2 * kink[~soft].mean()
    assert kink[early].mean() > kink[~early].mean()


@pytest.mark.parametrize("energy", [0.2, 50.0])
def test_without_material_nothing_happens(make_particles, energy):
    detector = dataclasses.replace(DETECTOR, material=(0.0,) * 7)
    particles = hadrons(make_particles, energy)
    everything, end = interact(convert_photons(particles, detector, np.random.default_rng(1)), detector,
                               np.random.default_rng(1))  # fmt: skip
    assert_array_equal(everything.pt, particles.pt)
    assert np.isinf(end).all()

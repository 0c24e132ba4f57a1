import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jetcorr_utils.simulation.detector import Signals
from jetcorr_utils.simulation.parameters import Detector
from jetcorr_utils.simulation.showers import deposits

DETECTOR = Detector()
N = 4000


def showers(make_particles, ecal=0.0, hcal=0.0, eta=0.0, pdg=130):
    """N particles with the same energies in the calorimeters, one an event."""
    particles = make_particles(*[(10.0, eta, 0.0, pdg, 0, 0)] * N, offsets=list(range(N + 1)))
    zero = np.zeros(N)
    signals = Signals(zero, zero, particles.eta, particles.phi, zero + ecal, zero + hcal, np.ones(N, bool))
    return particles, signals


def apart(left):
    """The energy of each event that lies apart from where its shower begins (N,)."""
    event = np.repeat(np.arange(N), np.diff(left.offsets))
    return np.bincount(event, (left.ecal + left.hcal) * (left.source < 0), minlength=N)


def test_parts_of_a_shower_add_up_and_stay_in_their_event(make_particles):
    left = deposits(*showers(make_particles, ecal=20.0, hcal=60.0), DETECTOR, np.random.default_rng(1))
    event = np.repeat(np.arange(N), np.diff(left.offsets))
    assert_allclose(np.bincount(event, left.ecal), 20.0)
    assert_allclose(np.bincount(event, left.hcal), 60.0)
    assert left.ecal.min() >= 0
    assert left.hcal.min() >= 0
    assert_array_equal(left.source[left.source >= 0], np.arange(N))
    assert_array_equal(event[left.source >= 0], np.arange(N))


@pytest.mark.parametrize("energy", [3.0, 10.0, 200.0])
def test_the_share_that_lies_apart_falls_with_energy_and_fluctuates_less(make_particles, energy):
    left = deposits(*showers(make_particles, hcal=energy), DETECTOR, np.random.default_rng(2))
    share = apart(left) / energy
    mean = DETECTOR.hcal_spread[1] * energy ** (DETECTOR.hadronic_power - 1)
    assert abs(share.mean() - mean) < 0.02
    parts = (np.diff(left.offsets) - 1).mean()
    assert abs(parts - 1 - DETECTOR.shower_parts * np.log10(energy)) < 0.1
    assert share.std() < 1.02 * np.sqrt(mean * (1 - mean) / 2)  # what a single part has


@pytest.mark.parametrize(("eta", "region", "radius"), [(0.0, 2, 1.81), (2.2, 3, 3.88 / np.sinh(2.2))])
def test_parts_lie_aside_by_a_length_that_is_more_phi_near_the_beam(make_particles, eta, region, radius):
    detector = dataclasses.replace(DETECTOR, hcal_spread=(2.0, 0.8, 0.01, 0.01))
    left = deposits(*showers(make_particles, hcal=50.0, eta=eta), detector, np.random.default_rng(3))
    aside = left.source < 0
    across = np.abs(left.phi[aside]) * radius
    # the projection of an exponential length on a direction has 2/pi of its mean
    assert_allclose(across.mean(), 2 / np.pi * detector.hcal_spread[region], rtol=0.05)
    theta = 2 * np.arctan(np.exp(-left.eta[aside]))
    z_or_r = 1.81 / np.tan(theta) if eta == 0 else 3.88 * np.tan(theta)
    along = np.abs(z_or_r - (0.0 if eta == 0 else 3.88 * np.tan(2 * np.arctan(np.exp(-eta)))))
    assert_allclose(along.mean(), 2 / np.pi * detector.hcal_spread[region], rtol=0.05)


@pytest.mark.parametrize(("pdg", "energy"), [(22, 50.0), (11, 50.0), (130, 0.9)])
def test_photons_electrons_and_soft_hadrons_do_not_spread(make_particles, pdg, energy):
    left = deposits(*showers(make_particles, ecal=energy, pdg=pdg), DETECTOR, np.random.default_rng(4))
    assert_array_equal(left.source, np.arange(N))
    assert_array_equal(left.ecal, energy)

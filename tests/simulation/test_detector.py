import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from jetcorr_utils.simulation.detector import cells_of, hadron_response, impact, measure, track_efficiency
from jetcorr_utils.simulation.material import interact
from jetcorr_utils.simulation.parameters import Detector

DETECTOR = Detector()


def signals_of(particles, detector, seed=1):
    """What particles leave that do not interact in the tracker."""
    return measure(particles, np.full(len(particles), np.inf), detector, np.random.default_rng(seed))


@pytest.mark.parametrize(("pt", "eta", "arrives"), [(0.73, 0.0, False), (0.74, 0.0, True), (0.3, 2.5, True)])
def test_the_field_holds_back_soft_charges(make_particles, pt, eta, arrives):
    assert impact(make_particles((pt, eta, 0.0, 211, 1, 0)), DETECTOR)[1][0] == arrives


def test_charges_bend_apart_and_neutrals_fly_straight(make_particles):
    phi, _ = impact(
        make_particles((5.0, 0.1, 1.0, 211, 1, 0), (5.0, 0.1, 1.0, -211, -1, 0), (5.0, 0.1, 1.0, 22, 0, 0)), DETECTOR
    )
    turn = np.arcsin(0.3 * 3.8 * 1.29 / (2 * 5.0))
    assert_allclose(phi, [1.0 - turn, 1.0 + turn, 1.0])


@given(st.floats(-2.99, 2.99), st.floats(-np.pi, np.pi))
def test_cells_are_nested_and_near_their_points(eta, phi):
    """Points of one ECAL cell share an HCAL cell."""
    offsets = np.linspace(-0.02, 0.02, 9)
    points = np.array([(eta + a, phi + b) for a in offsets for b in offsets if abs(phi + b) < np.pi])
    cells = cells_of(points[:, 0], points[:, 1], DETECTOR)
    assert cells.ecal.min() >= 0
    assert cells.ecal.max() < cells.ecal_count
    assert cells.hcal.min() >= 0
    assert cells.hcal.max() < cells.hcal_count
    for cell in np.unique(cells.ecal):
        assert len(np.unique(cells.hcal[cells.ecal == cell])) == 1


def test_cells_are_coarser_forward():
    phi = np.linspace(-np.pi, np.pi, 5000, endpoint=False)
    central, forward = (cells_of(np.full(5000, eta), phi, DETECTOR) for eta in (0.5, 2.4))
    assert len(np.unique(central.hcal)) == 72
    assert len(np.unique(forward.hcal)) == 36
    assert len(np.unique(central.ecal)) == 72 * DETECTOR.ecal_cell


def test_track_efficiencies_are_those_of_cms(make_particles):
    """0.94 in the barrel and about 0.85 forward for hadrons above 0.9 GeV (arXiv:1405.6569)."""
    rng = np.random.default_rng(1)
    for low, high, expected in ((0.0, 0.9, 0.94), (0.9, 2.5, 0.86)):
        rows = [(5.0, eta, phi, 211, 1, 0) for eta, phi in zip(
            rng.uniform(low, high, 4000), rng.uniform(-3.1, 3.1, 4000), strict=True)]  # fmt: skip
        # one event each, so that tracks do not crowd each other
        particles, end = interact(make_particles(*rows, offsets=list(range(4001))), DETECTOR, rng)
        signals = measure(particles, end, DETECTOR, rng)
        assert abs(np.mean(signals.track[particles.offsets[:-1]] == 211) - expected) < 0.02


def test_efficiency_falls_in_cores_with_softness_and_far_from_the_beam(make_particles):
    particles = make_particles(
        *[(pt, 0.0, 0.0, 211, 1, 0) for pt in (5.0, 5.0, 0.4, 5.0, 0.2)], (5.0, 2.6, 0, 211, 1, 0)
    )
    particles.radius = np.array([0, 0, 0, 0.3, 0, 0])
    efficiency = track_efficiency(particles, np.array([1, 20, 1, 1, 1, 1]), DETECTOR)
    assert efficiency[0] == DETECTOR.track_efficiency
    assert (efficiency[1:4] < efficiency[0] - 0.05).all()
    assert_array_equal(efficiency[4:], 0)


def test_an_interaction_behind_the_first_layers_keeps_the_track_and_the_calorimeters_see_nothing(make_particles):
    n = 2000
    particles = make_particles(*[(20.0, 0.3, 0.0, 211, 1, 0)] * n, offsets=list(range(n + 1)))
    border = DETECTOR.track_material * DETECTOR.tracker_radius
    for end, tracked in ((0.9 * border, False), (1.1 * border, True)):
        signals = measure(particles, np.full(n, end), DETECTOR, np.random.default_rng(1))
        assert abs(np.mean(signals.track == 211) - DETECTOR.track_efficiency * tracked) < 0.01
        assert_array_equal(signals.ecal + signals.hcal, 0)


def test_electrons_of_a_conversion_are_taken_for_hadrons_whose_energy_fits_their_track(make_particles):
    n = 4000
    particles = make_particles(*[(20.0, 0.3, 0.0, 11, -1, 0)] * n, offsets=list(range(n + 1)))
    particles.radius = np.full(n, 0.3)
    signals = signals_of(particles, DETECTOR)
    found = signals.track == 211
    expected = DETECTOR.conversion_efficiency * DETECTOR.track_efficiency * (1 - 0.3 / DETECTOR.track_decay_length)
    assert abs(found.mean() - expected) < 0.02
    assert set(signals.track) == {0, 211}
    share = signals.ecal / particles.energy
    assert_allclose(share[found].mean(), DETECTOR.ecal_hadron_response, rtol=0.01)
    assert_allclose(share[~found].mean(), 1.0, rtol=0.01)


def test_a_perfect_detector_measures_energies_exactly(make_particles, perfect):
    particles = make_particles((20.0, 0.3, 0.0, 22, 0, 0), (30.0, -1.0, 1.0, 130, 0, 0), (15.0, 2.0, 2.0, 211, 1, 0))
    signals = signals_of(particles, perfect)
    assert_allclose(signals.ecal + signals.hcal, particles.energy, rtol=2e-3)
    assert_allclose(signals.track_pt, [0, 0, 15.0])
    assert_array_equal(signals.ecal > 0, [True, False, False])


@pytest.mark.parametrize(("eta", "region"), [(0.0, 0), (2.0, 1)])
def test_hadron_energies_fluctuate_around_their_response(make_particles, eta, region):
    detector = dataclasses.replace(DETECTOR, ecal_hadron_response=1.0)
    particles = make_particles(*[(50.0 / np.cosh(eta), eta, 0.0, 130, 0, 0)] * 20000)
    signals = signals_of(particles, detector, seed=5)
    energy = signals.ecal + signals.hcal
    expected = 50 * hadron_response(np.array([50.0]), detector)[0]
    width = np.hypot(detector.hadron_stochastic[region] / np.sqrt(50), detector.hadron_constant[region])
    assert abs(energy.mean() / expected - 1) < 0.01
    assert abs(energy.std() / energy.mean() / width - 1) < 0.03
    assert energy.min() >= 0


def test_neutrinos_never_come_here_and_muons_leave_no_energy(make_particles):
    signals = signals_of(make_particles((10.0, 0.0, 0.0, 13, -1, 0)), DETECTOR)
    assert signals.ecal[0] == 0
    assert signals.hcal[0] == 0

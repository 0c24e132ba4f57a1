import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from jetcorr_utils.simulation.clustering import RADIUS, areas, cluster, delta_phi, match, rho
from jetcorr_utils.simulation.particles import to_cartesian
from jetcorr_utils.simulation.reconstruction import Candidates

OFFSETS = np.array([0, 2])


def jets_of(*rows, offsets, min_pt=5.0):
    pt, eta, phi = np.array(rows, float).T
    return cluster(to_cartesian(pt, eta, phi, np.zeros(len(pt)), np.array(offsets)), min_pt)


def test_near_particles_make_a_jet_and_far_ones_do_not():
    jets = jets_of((10, 0, 0), (30, 0.2, 0.1), (20, 0, 1.0), (50, 1, 1), offsets=[0, 3, 4])
    assert jets.offsets.tolist() == [0, 2, 3]
    assert_allclose(jets.pt, [np.hypot(10 + 30 * np.cos(0.1), 30 * np.sin(0.1)), 20, 50])
    members = [sorted(jets.constituents[a:b]) for a, b in zip(jets.bounds[:-1], jets.bounds[1:], strict=True)]
    assert members == [[0, 1], [2], [3]]


def test_events_without_jets_have_none():
    jets = jets_of((1, 0, 0), (50, 0, 0), offsets=[0, 1, 1, 2])
    assert jets.offsets.tolist() == [0, 0, 0, 1]


def test_constituents_add_up_to_their_jets(events):
    jets, candidates = events.jets, events.candidates
    owner = np.repeat(np.arange(len(jets.pt)), np.diff(jets.bounds))
    rows = jets.constituents
    px = np.bincount(owner, candidates.pt[rows] * np.cos(candidates.phi[rows]))
    py = np.bincount(owner, candidates.pt[rows] * np.sin(candidates.phi[rows]))
    assert_allclose(np.hypot(px, py), jets.pt, rtol=1e-9)
    assert (candidates.from_pv[rows] > 0).all()
    assert len(np.unique(rows)) == len(rows)


CIRCLE = np.pi * RADIUS**2


def areas_of(pt, eta, phi, events):
    """Areas (events, jets) of the same jets in each of many events, with other ghosts."""
    columns = [np.tile(np.atleast_1d(np.asarray(column, float)), events) for column in (pt, eta, phi)]
    offsets = np.arange(events + 1) * len(np.atleast_1d(pt))
    return areas(*columns, offsets, 3.0, np.random.default_rng(1)).reshape(events, -1)


def test_an_isolated_jet_has_the_area_of_a_circle_give_or_take_ghosts(events):
    for eta, phi in ((0.0, 1.0), (1.23, np.pi - 0.1), (-2.4, -3.0)):
        area = areas_of(50.0, eta, phi, 400)
        assert abs(area.mean() - CIRCLE) < 0.003
        assert 0.005 < area.std() < 0.03
    assert abs(np.median(events.area) - 0.5) < 0.02


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 2.0), st.floats(0.1, 1.0), st.floats(-np.pi, np.pi))
def test_a_hard_jet_takes_area_from_a_soft_neighbour(distance, ratio, direction):
    eta, phi = np.array([0, distance * np.cos(direction)]), np.array([3.0, 3.0 + distance * np.sin(direction)])
    hard, soft = areas_of([50.0, 50 * ratio], eta, phi, 100).mean(axis=0)
    assert abs(hard - CIRCLE) < 0.01
    assert 0 <= soft <= CIRCLE + 0.01
    if distance >= 2 * RADIUS:
        assert abs(soft - CIRCLE) < 0.01
    elif distance < 1.5 * RADIUS and ratio < 0.5:
        assert soft < 0.98 * CIRCLE


@given(st.floats(-20, 20), st.floats(-20, 20))
def test_differences_of_azimuth_are_small_angles(first, second):
    turn = delta_phi(np.array([first]), np.array([second]))[0]
    assert -np.pi <= turn <= np.pi
    assert_allclose(np.exp(1j * turn), np.exp(1j * (first - second)), atol=1e-9)


def test_matching_takes_the_nearest_pairs_first_and_each_jet_once():
    eta, phi = np.array([0.0, 0.1, 2.0]), np.array([np.pi - 0.01, np.pi - 0.01, 0.0])
    other_eta, other_phi = np.array([0.08, 0.3]), np.array([-np.pi + 0.01, np.pi - 0.01])
    partner = match(eta, phi, np.array([0, 3]), other_eta, other_phi, np.array([0, 2]), 0.4)
    assert partner.tolist() == [1, 0, -1]


def test_jets_find_their_generator_jets(events):
    hard = events.jets.pt > 50
    assert np.mean(events.partner[hard] >= 0) > 0.98
    used = events.partner[events.partner >= 0]
    assert len(np.unique(used)) == len(used)


@pytest.mark.parametrize("density", [0.0, 3.0, 20.0])
def test_rho_is_the_median_density_and_ignores_jets(density):
    rng = np.random.default_rng(7)
    n = 20000
    eta, phi = rng.uniform(-2.5, 2.5, n), rng.uniform(-np.pi, np.pi, n)
    pt = np.full(n, density * 5 * 2 * np.pi / n)
    pt[:3] += 500.0
    zeros = np.zeros(n)
    candidates = Candidates(pt, eta, phi, zeros, zeros, zeros, zeros, zeros, np.array([0, n]))
    assert_allclose(rho(candidates, np.ones(n, bool), 2.5), density, rtol=0.05, atol=1e-9)
    assert_array_equal(rho(candidates, np.zeros(n, bool), 2.5), 0)


def test_rho_by_kind_is_ordered(events):
    assert (events.rho["neutral"] < events.rho["central"]).all()
    assert np.corrcoef(events.rho["all"], events.pileup.interactions)[0, 1] > 0.6

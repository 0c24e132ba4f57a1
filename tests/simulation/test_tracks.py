"""Impact parameters: their geometry, their resolution, and what they tell of the simulated tracks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils.jets.ragged import owners
from jetcorr_utils.simulation.parameters import Tracking
from jetcorr_utils.simulation.tracks import bent_d0, impact_resolution


@given(
    st.floats(0.3, 100), st.sampled_from([-1.0, 1.0]), st.floats(1e-4, 0.5), st.floats(-3, 3), st.floats(-3.14, 3.14)
)
def test_a_circle_passes_by_the_beam_as_its_nearest_point_does(pt, charge, radius, around, phi):
    x, y = radius * np.cos(around), radius * np.sin(around)
    tangent = y * np.cos(phi) - x * np.sin(phi)
    found = bent_d0(*(np.array([value]) for value in (tangent, radius, pt, charge)), field=3.8)[0]
    # backwards along the circle in small steps, until the distance from the beam is least
    bend, angle = pt / (0.3 * 3.8), np.linspace(-np.pi, np.pi, 400_001)
    direction = phi - charge * angle
    px = x + charge * bend * (np.sin(phi) - np.sin(direction))
    py = y - charge * bend * (np.cos(phi) - np.cos(direction))
    nearest = np.argmin(px**2 + py**2)
    expected = py[nearest] * np.cos(direction[nearest]) - px[nearest] * np.sin(direction[nearest])
    np.testing.assert_allclose(found, expected, atol=2e-5 * bend + 1e-7)


def test_without_a_field_or_a_charge_tracks_are_straight():
    d0, radius, pt = np.array([1e-3, -2e-2]), np.array([0.01, 0.1]), np.array([5.0, 50.0])
    np.testing.assert_allclose(bent_d0(d0, radius, pt, np.array([1.0, -1.0]), 1e-9), d0, rtol=1e-2, atol=1e-6)
    np.testing.assert_array_equal(bent_d0(d0, radius, pt, np.zeros(2), 3.8), d0)


def test_the_resolutions_are_those_of_cms():
    """arXiv:1405.6569: 10 and 30 µm for muons of 100 GeV, 25–90 and 45–150 µm from 10 to 1 GeV, abs(eta) < 1.4."""
    eta = np.linspace(-1.4, 1.4, 101)
    d0, dz = (1e4 * values for values in impact_resolution(np.full(101, 100.0), eta, Tracking()))
    assert 9 < d0.mean() < 13
    assert 28 < dz.mean() < 36
    d0, dz = (1e4 * values for values in impact_resolution(np.ones(101), eta, Tracking()))
    assert 80 < d0.mean() < 100
    assert 130 < dz.mean() < 170


def test_tracks_of_the_primary_vertex_are_near_and_those_of_pileup_far(events):
    further, candidates = events.further, events.candidates
    assert {len(values) for values in further.values()} == {len(candidates.pt)}
    details = further["d0Err"] > 0
    charged = candidates.particle >= 0
    np.testing.assert_array_equal(details, charged & (candidates.pt > Tracking().details_min_pt))
    assert (further["d0"][~details] == -1).all()
    assert (further["trkQuality"][~charged] == 0).all()
    tight, pileup = details & (candidates.from_pv == 3), details & (candidates.from_pv == 0)
    pull = further["d0"] / np.where(details, further["d0Err"], 1)
    near = np.abs(pull[tight & (np.abs(further["d0"]) < 0.1)])
    assert 0.6 < np.median(near) < 1.0  # 0.67 without decays
    assert np.median(np.abs(further["dz"][tight])) < 0.05
    assert 2 < np.median(np.abs(further["dz"][pileup])) < 5  # cm, of two collisions apart


def test_tracks_of_b_jets_are_more_displaced_than_those_of_light_jets(events):
    further, jets = events.further, events.jets
    rows = jets.constituents
    flavour = events.hadron_flavour[owners(jets.bounds)]
    good = (further["d0Err"][rows] > 0) & (events.candidates.pt[rows] > 2) & (np.abs(further["d0"][rows]) < 0.2)
    significance = np.abs(further["d0"] / further["d0Err"])[rows]
    heavy, light = (significance[good & mask] > 3 for mask in (flavour == 5, flavour == 0))
    assert len(heavy) > 20
    assert heavy.mean() > 2 * light.mean()

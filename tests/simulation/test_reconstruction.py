import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jetcorr_utils.simulation.detector import Signals, measure
from jetcorr_utils.simulation.parameters import Detector, Pileup
from jetcorr_utils.simulation.particles import concatenate
from jetcorr_utils.simulation.reconstruction import reconstruct

DETECTOR = dataclasses.replace(  # showers that do not spread
    Detector(), from_pv_tight=1.0, ecal_spread=(0.0, 0.0, 0.0, 0.0), hcal_spread=(0.0, 0.0, 0.0, 0.0)
)
HADRON, PHOTON, NEUTRAL = 211, 22, 130


def signals_of(particles, track=0.0, ecal=0.0, hcal=0.0) -> Signals:
    """Signals of particles that fly straight, all given by hand."""
    n = len(particles)
    track, ecal, hcal = (np.broadcast_to(np.array(x, float), n).copy() for x in (track, ecal, hcal))
    return Signals(
        np.where(track > 0, HADRON, 0), track / np.cosh(particles.eta), particles.eta, particles.phi, ecal, hcal,
        np.ones(n, bool),
    )  # fmt: skip


def measured(particles, detector) -> Signals:
    """Signals of particles that do not interact in the tracker."""
    return measure(particles, np.full(len(particles), np.inf), detector, np.random.default_rng(1))


def flow(particles, signals, detector=DETECTOR):
    return reconstruct(particles, signals, detector, Pileup(), np.random.default_rng(1))


def test_a_hadron_with_its_own_energy_is_one_candidate(make_particles):
    particles = make_particles((20.0, 0.5, 1.0, -211, -1, 0))
    energy = 20 * np.cosh(0.5)
    result = flow(particles, signals_of(particles, track=energy, hcal=1.1 * energy))
    assert result.pdg.tolist() == [-HADRON]
    assert_allclose(result.pt, 20.0)
    assert_allclose(result.calo_fraction, 1.1)
    assert_allclose(result.hcal_fraction, 1.0)
    assert result.from_pv.tolist() == [3]


def test_energy_without_a_track_is_neutral(make_particles):
    particles = make_particles((20.0, 0.5, 1.0, 22, 0, 0), (20.0, -1.0, 2.0, 130, 0, 0))
    result = flow(particles, signals_of(particles, ecal=[15.0, 0.0], hcal=[0.0, 12.0]))
    assert sorted(result.pdg) == [PHOTON, NEUTRAL]
    photon, neutral = result.pdg == PHOTON, result.pdg == NEUTRAL
    assert_allclose(result.pt[photon], 15 / np.cosh(0.5))
    assert_allclose(result.pt[neutral], 12 / np.cosh(1.0))
    assert_allclose([result.phi[photon][0], result.phi[neutral][0]], [1.0, 2.0])
    assert result.from_pv.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("ecal", "hcal", "photon", "neutral"),
    [
        (0.0, 22.0, 0, 0),  # within the resolution of a 20 GeV hadron
        (0.0, 60.0, 0, 40.0),
        (40.0, 0.0, 0.6 * (40.0 / 0.6 - 20.0), 0),  # all of the excess can be a photon's
        (10.0, 60.0, 10.0, 60.0 - 20.0),  # the photon takes what the ECAL has
    ],
)
def test_excess_over_tracks_becomes_neutral(make_particles, ecal, hcal, photon, neutral):
    detector = dataclasses.replace(DETECTOR, ecal_hadron_response=0.6)
    particles = make_particles((20.0, 0.0, 1.0, 211, 1, 0))
    result = flow(particles, signals_of(particles, track=20.0, ecal=ecal, hcal=hcal), detector)
    found = {pdg: result.pt[result.pdg == pdg].sum() for pdg in (HADRON, PHOTON, NEUTRAL)}
    assert found[HADRON] == 20.0  # the tracks keep their momentum
    assert_allclose(found[PHOTON], photon)
    assert_allclose(found[NEUTRAL], neutral)


def test_a_photon_away_from_the_track_is_its_own(make_particles):
    particles = make_particles((20.0, 0.0, 1.0, 211, 1, 0), (10.0, 0.0, 1.3, 22, 0, 0))
    result = flow(particles, signals_of(particles, track=[20.0, 0.0], ecal=[0.0, 10.0], hcal=[18.0, 0.0]))
    assert sorted(result.pdg) == [PHOTON, HADRON]


def test_neighbouring_cells_make_one_cluster_also_across_the_seam(make_particles):
    for phi in (0.5, np.pi - 0.01):
        other = (phi + 0.087 + np.pi) % (2 * np.pi) - np.pi
        particles = make_particles((20.0, 0.02, phi, 130, 0, 0), (10.0, 0.02, other, 130, 0, 0))
        result = flow(particles, signals_of(particles, hcal=[20.0, 10.0]))
        assert_allclose(result.pt * np.cosh(result.eta), [30.0])


def test_a_part_of_a_shower_that_lies_apart_is_a_neutral_hadron_of_its_own(make_particles):
    """Of a tracked hadron too, whose energy is then counted twice, as in CMS."""
    n = 400
    detector = dataclasses.replace(DETECTOR, hcal_spread=(0.0, 0.5, 0.5, 0.5), hadronic_power=1.0)
    particles = make_particles(*[(50.0, 0.0, 0.0, 211, 1, 0)] * n, offsets=list(range(n + 1)))
    result = flow(particles, signals_of(particles, track=50.0, hcal=50.0), detector)
    assert (result.pdg == HADRON).sum() == n
    assert (result.pdg == NEUTRAL).sum() > 0.5 * n
    assert result.pt[result.pdg == NEUTRAL].sum() < 0.5 * 50.0 * n
    alone = flow(particles, signals_of(particles, track=50.0, hcal=50.0))
    assert (alone.pdg == NEUTRAL).sum() == 0


def test_thresholds_cut_soft_deposits(make_particles):
    particles = make_particles((1.0, 0.0, 1.0, 22, 0, 0), (1.0, 0.0, 2.0, 130, 0, 0))
    below = signals_of(
        particles, ecal=[0.9 * DETECTOR.ecal_threshold[0], 0], hcal=[0, 0.9 * DETECTOR.hcal_threshold[0]]
    )
    above = signals_of(
        particles, ecal=[1.1 * DETECTOR.ecal_threshold[0], 0], hcal=[0, 1.1 * DETECTOR.hcal_threshold[0]]
    )
    assert len(flow(particles, below).pt) == 0
    assert sorted(flow(particles, above).pdg) == [PHOTON, NEUTRAL]


def test_pileup_tracks_are_marked_for_subtraction(make_particles):
    n = 4000
    rng = np.random.default_rng(2)
    rows = [(2.0, eta, phi, 211, 1, 1) for eta, phi in zip(rng.uniform(-2, 2, n), rng.uniform(-3, 3, n), strict=True)]
    result = flow(particles := make_particles(*rows), signals_of(particles, track=2 * np.cosh(particles.eta)))
    assert abs(np.mean(result.from_pv > 0) - Pileup().kept) < 0.02
    assert set(result.from_pv) == {0, 1, 2}
    hard = dataclasses.replace(particles, vertex=np.zeros(n, int))
    assert set(flow(hard, signals_of(hard, track=2 * np.cosh(hard.eta))).from_pv) == {3}


def test_energy_is_conserved_without_fluctuations(events, perfect):
    """Isolated from each other, all particles' energy is found again: the sum over candidates is that of particles."""
    particles = events.collisions.particles
    inside = particles.select((np.abs(particles.eta) < 2.4) & (particles.charge == 0) & (particles.pdg != 13))
    signals = measured(inside, perfect)
    result = reconstruct(inside, signals, perfect, Pileup(), np.random.default_rng(1))
    assert_allclose(np.sum(result.pt * np.cosh(result.eta)), inside.energy.sum(), rtol=1e-3)


def test_events_do_not_see_each_other(events, perfect):
    """Two copies of the events, one after another, give twice the same candidates."""
    particles = events.collisions.particles.select(np.abs(events.collisions.particles.eta) < 2.9)
    empty = particles.select(np.zeros(len(particles), bool))
    twice = concatenate(particles, empty)
    signals = measured(twice, perfect)
    whole = reconstruct(twice, signals, perfect, Pileup(), np.random.default_rng(1))
    last = int(particles.offsets[-2])
    alone = dataclasses.replace(
        particles.select(np.arange(len(particles)) >= last), offsets=np.array([0, len(particles) - last])
    )
    part = Signals(**{f.name: getattr(signals, f.name)[last:] for f in dataclasses.fields(Signals)})
    single = reconstruct(alone, part, perfect, Pileup(), np.random.default_rng(1))
    assert_array_equal(single.pt, whole.pt[whole.offsets[-2] :])


def test_candidates_are_sorted_by_pt_in_each_event(events):
    candidates = events.candidates
    assert len(candidates.pt) == candidates.offsets[-1]
    for first, last in zip(candidates.offsets[:-1], candidates.offsets[1:], strict=True):
        assert (np.diff(candidates.pt[first:last]) <= 0).all()

import awkward as ak
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jetcorr_utils.errors import JetcorrError
from jetcorr_utils.simulation.generator import Generator, charges, generate, heavy_quark, make_pythia, pythia_seed
from jetcorr_utils.simulation.parameters import Detector


@pytest.mark.parametrize(
    ("pdg", "quark"),
    [(511, 5), (5122, 5), (411, 4), (4122, 4), (443, 4), (541, 5), (211, 0), (2212, 0), (21, 0), (5, 0)],
)
def test_heavy_quark_of_hadrons(pdg, quark):
    assert heavy_quark(np.array([pdg]))[0] == quark


def test_events_depend_on_their_seed_only(hard):
    first = generate(hard, 5, 10)
    other = generate(hard, 6, 10)
    again = generate(hard, 5, 10)
    assert_array_equal(first.particles.pt, again.particles.pt)
    assert_array_equal(first.weight, again.weight)
    assert len(first.particles) != len(other.particles)


def test_another_pythia_object_gives_the_same_events(hard, small):
    assert_array_equal(
        generate(make_pythia(small.generator, small.detector), 5, 10).particles.pt, generate(hard, 5, 10).particles.pt
    )


def test_final_particles_are_visible_and_momentum_is_balanced(events):
    particles = events.collisions.particles
    assert not np.isin(np.abs(particles.pdg), (12, 14, 16)).any()
    event = np.repeat(np.arange(particles.events), np.diff(particles.offsets))
    px = np.bincount(event, particles.pt * np.cos(particles.phi))
    # what is lost to neutrinos and at large eta is little beside the hard process
    assert np.median(np.abs(px) / events.collisions.pthat) < 0.05


def test_weights_undo_the_flat_spectrum(events):
    weight = events.collisions.weight * events.collisions.pthat ** Generator().bias_power
    # Pythia's choice between processes adds less than a per mille
    assert_allclose(weight / weight[0], 1, rtol=2e-3)


def test_ghosts_are_partons_and_the_last_heavy_hadrons(hard, small):
    ghosts = generate(hard, 8, 150).ghosts
    pdg = np.abs(ghosts.pdg)
    hadrons = heavy_quark(pdg) > 0
    assert set(np.unique(pdg[~hadrons])) <= {1, 2, 3, 4, 5, 21}
    assert (heavy_quark(pdg) == 5).any()
    assert (heavy_quark(pdg) == 4).any()
    assert not np.isin(pdg, (513, 523, 533, 413, 423)).any()  # excited states decay to hadrons of the same quark


def test_charges_come_with_their_sign(hard):
    assert_array_equal(charges(hard, np.array([211, -211, 11, 22, 2212, 130, 211])), [1, -1, -1, 0, 1, 0, 1])


def test_kaons_and_hyperons_decay_inside_the_tracker_only(hard):
    record = hard.nextBatch(40).prt
    final = record[record.status > 0]
    radius = np.hypot(ak.fill_none(final.vProd.px, 0.0), ak.fill_none(final.vProd.py, 0.0))
    assert ak.max(radius) > 50  # mm: some K0S decayed
    assert ak.max(radius) < 1e3 * Detector().ecal_radius
    assert ak.any(abs(final.id) == 310)  # and some flew out


def test_seeds_are_within_pythias_limits():
    seeds = [pythia_seed(np.random.SeedSequence([1, i])) for i in range(200)]
    assert len(set(seeds)) == 200
    assert min(seeds) >= 1
    assert max(seeds) <= 900_000_000


def test_an_unknown_process_is_an_error(small):
    with pytest.raises(JetcorrError, match="HardQCD:nothing"):
        make_pythia(small.generator, small.detector, "HardQCD:nothing")

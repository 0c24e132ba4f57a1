import numpy as np
from numpy.testing import assert_array_equal

from jetcorr_utils.simulation.flavour import hadron_flavour, parton_flavour


def test_hadron_flavour_prefers_b_and_ignores_light_hadrons_and_partons(make_particles):
    ghosts = make_particles(*[(10.0, 0, 0, pdg, 0, 0) for pdg in (411, 511, 421, 5, 211, 521)])
    jet = np.array([0, 0, 1, 2, 3, -1])
    assert_array_equal(hadron_flavour(jet, ghosts, 4), [5, 4, 0, 0])


def test_parton_flavour_is_b_then_c_then_the_hardest(make_particles):
    rows = [(5, -5), (90, 21), (8, 4), (50, 1), (20, -2), (40, 21), (99, 511), (7, 3)]
    ghosts = make_particles(*[(float(pt), 0, 0, pdg, 0, 0) for pt, pdg in rows])
    jet = np.array([0, 0, 1, 1, 2, 2, 3, -1])
    assert_array_equal(parton_flavour(jet, ghosts, 4), [-5, 4, 21, 0])


def test_flavours_of_simulated_jets_agree_with_each_other(events):
    hard = events.jets.pt > 50
    parton, hadron = np.abs(events.parton_flavour[hard]), events.hadron_flavour[hard]
    assert np.mean(parton > 0) > 0.98
    assert set(parton) <= {0, 1, 2, 3, 4, 5, 21}
    assert (parton[hadron == 5] == 5).mean() > 0.8
    matched = events.physics_flavour[hard] != 0  # to one of the two partons of the hard process
    agree = np.abs(events.physics_flavour[hard])[matched] == parton[matched]
    assert agree.mean() > 0.6

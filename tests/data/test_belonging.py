"""The candidates of a jet sum up to it: in real files, and in none that was mixed up."""

from __future__ import annotations

from collections import Counter

import awkward as ak
import numpy as np
import pytest

from jetcorr_utils.data import read_jets
from jetcorr_utils.data.belonging import DISTANCE, MANY, candidate_sums, refuse_strangers, strangers
from jetcorr_utils.data.dataset import Clouds
from jetcorr_utils.data.features import jet_matrix, particle_matrix
from jetcorr_utils.data.selection import own_particles
from jetcorr_utils.errors import InputError
from jetcorr_utils.jets.columns import jet_columns, particle_columns

PT = particle_columns("open").index("PF_pT")
RAW = jet_columns("open").index("jetRawPt")


def clouds(jets):
    """The jets as clouds, whose columns may be changed."""
    ptr = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(jets.particles)))])
    return Clouds(particle_matrix(jets), ptr, jet_matrix(jets), "open")


def strange(clouds, jets, where="the jets"):
    """The jets that are left out, if those that there are may be used."""
    found, tally = strangers(clouds, jets, where=where)
    refuse_strangers(tally, where)
    return found


@pytest.fixture(scope="module")
def jets(sample):
    return own_particles(read_jets(sample))


def test_jets_of_the_simulation_are_the_sums_of_their_candidates(sample, jets):
    for some in (jets, read_jets(sample, max_jets=300)):  # with their own candidates, and with all that are stored
        ratio, d_eta, d_phi = candidate_sums(clouds(some))
        np.testing.assert_allclose(ratio, 1, atol=1e-3)
        assert np.hypot(d_eta, d_phi).max() < 1e-3
        assert not strange(clouds(some), some).any()


def test_jets_of_cms_are_the_sums_of_their_candidates(real_data):
    jets = read_jets(real_data / "pfnano.root")
    ratio, d_eta, d_phi = candidate_sums(clouds(jets))
    np.testing.assert_allclose(ratio, 1, atol=3e-3)  # 10 bits of each number are kept
    assert np.hypot(d_eta, d_phi).max() < 1e-3
    assert not strange(clouds(jets), jets).any()


def test_jets_without_candidates_are_not_judged(jets):
    some = jets[:5]
    some = ak.with_field(some, some.particles[[[], [0], [], [0, 1], []]], "particles")
    assert np.isnan(candidate_sums(clouds(some))[0]).tolist() == [True, False, True, False, True]
    none = ak.with_field(some, some.particles[:, :0], "particles")
    assert not strange(clouds(none), none).any()
    assert len(strange(clouds(none[:0]), none[:0])) == 0


def test_candidates_of_other_jets_are_refused(jets):
    mixed = ak.with_field(jets, jets.particles[np.roll(np.arange(len(jets)), 1)], "particles")
    with pytest.raises(InputError, match=r"a\.root: the candidates do not belong to the jets: for \d+ of 2000 "):
        strange(clouds(mixed), mixed, where="a.root")
    turned = ak.with_field(jets, jets["particles", "PF_dEta"] + 0.3, ("particles", "PF_dEta"))
    with pytest.raises(InputError, match=r"for 2000 of 2000 .* in the order of its file"):
        strange(clouds(turned), turned)


def test_one_jet_with_the_candidates_of_another_of_its_event_is_refused(jets):
    """Were it the rare jet of a strange kind, it would be left out; but this is proof of a wrong order."""
    identity = jets.event.to_numpy()
    first = int(np.flatnonzero((identity[1:] == identity[:-1]) & (jets.run[1:] == jets.run[:-1]).to_numpy())[0])
    order = np.arange(len(jets))
    order[[first, first + 1]] = order[[first + 1, first]]
    mixed = jets
    for name in ("jetEta", "jetPhi", "jetRawPt"):
        mixed = ak.with_field(mixed, jets[name][order], name)
    for name in ("PF_dEta", "PF_dPhi"):
        change = mixed["jet" + name[4:]] - jets["jet" + name[4:]]
        values = jets["particles", name] - change
        values = (values + np.pi) % (2 * np.pi) - np.pi if name == "PF_dPhi" else values
        mixed = ak.with_field(mixed, values, ("particles", name))
    with pytest.raises(InputError, match="for 2 of 2000"):
        strange(clouds(mixed), mixed)
    alone = ak.with_field(mixed, np.arange(len(jets)), "event")  # as if they were of different events
    assert strange(clouds(alone), alone).sum() == 2


def test_a_few_strange_jets_are_named_and_left_out(jets, caplog):
    some = clouds(jets)
    some.jets[[3, 77], RAW] *= 1.3
    assert np.flatnonzero(strange(some, jets, where="a.root")).tolist() == [3, 77]
    assert "a.root: 2 of 2000 jets have candidates that do not sum up to the jet" in caplog.text
    some.jets[:40, RAW] *= 1.3
    with pytest.raises(InputError, match=r"for 41 of 2000.*PUPPI"):
        strange(some, jets)


@pytest.mark.parametrize("size", [50, 100, 2000])
def test_few_jets_are_judged_with_what_chance_may_do(jets, size):
    """Three of 300 are tolerated, in whatever pieces they come."""
    some = clouds(jets)
    some.jets[[0, 1, 2], RAW] *= 1.3
    first = clouds(jets[:size])
    first.jets[:] = some.jets[:size]
    assert strange(first, jets[:size]).sum() == 3


@pytest.mark.parametrize("size", [2, 10])
def test_even_few_jets_are_refused_where_most_are_wrong(jets, size):
    some = clouds(jets[:size])
    some.jets[:, RAW] *= 1.03
    with pytest.raises(InputError, match=f"for {size} by more than 1%"):
        strange(some, jets[:size])


def test_weights_that_are_not_those_of_the_clustering_are_refused(jets):
    some = clouds(jets)
    some.particles[:, PT] *= np.random.default_rng(1).uniform(0.9, 1.0, len(some.particles)).astype(np.float32)
    with pytest.raises(InputError, match=r"PUPPI weights\) is not that"):
        strange(some, jets)


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_a_raw_pt_that_is_slightly_wrong_for_all_is_refused(jets, factor):
    some = clouds(jets)
    some.jets[:, RAW] *= factor
    with pytest.raises(InputError, match=r"for 0 of 2000 .* for 2000 by more than 1%"):
        strange(some, jets)


def test_the_distance_cannot_reach_another_jet(jets):
    identity = np.stack([jets[name].to_numpy() for name in ("run", "lumi", "event")])
    same = (identity[:, 1:] == identity[:, :-1]).all(axis=0)
    d_phi = np.abs(np.diff(jets.jetPhi.to_numpy()))
    apart = np.hypot(np.diff(jets.jetEta.to_numpy()), np.minimum(d_phi, 2 * np.pi - d_phi))[same]
    assert apart.min() > 2 * DISTANCE * 0.95


def test_raw_jets_are_no_corrected_ones(jets):
    raw = ak.with_field(jets, jets["jetRawPt"], "jetPt")
    with pytest.raises(InputError, match="the jets have no standard corrections: the pt of all"):
        strange(clouds(raw), raw)
    some = raw[: MANY - 1]
    assert not strange(clouds(some), some).any()
    one = ak.with_field(jets, ak.where(np.arange(len(jets)) == 5, jets["jetPt"], jets["jetRawPt"]), "jetPt")
    assert not strange(clouds(one), one).any()


@pytest.mark.parametrize("tolerated", [float("nan"), -0.1, 1.1])
def test_a_share_that_is_none_is_refused(tolerated):
    """With not a number, no jets would be refused whatever they are."""
    with pytest.raises(InputError, match=r"tolerated .*: must be a share of the jets"):
        refuse_strangers(Counter(jets=100, strange=100, off=100), "a.root", tolerated=tolerated)

import dataclasses

import awkward as ak
import numpy as np
import pytest
import uproot
from numpy.testing import assert_allclose, assert_array_equal

from jetcorr_utils.jets.columns import BRANCHES, TREE
from jetcorr_utils.simulation.ntuple import create_tree, ntuple, select_jets

SEED, BLOCK = 9, 4


def raw(pt, eta, area, rho):
    """No correction."""
    return np.ones_like(pt)


@pytest.fixture(scope="module")
def jets(events):
    return ntuple(events, raw, SEED, BLOCK)


@pytest.mark.parametrize(
    ("pt", "eta", "kept"),
    [
        ([50, 40, 35], [0, 1, 2], [1, 1, 1]),
        ([50, 40, 29], [0, 1, 2], [1, 1, 0]),
        ([50, 40, 35], [0, 2.6, 2], [0, 0, 0]),  # a leading jet outside: the event goes
        ([50, 40, 35], [0, 1, 2.6], [1, 1, 0]),
        ([50, 29, 20], [0, 1, 2], [0, 0, 0]),
        ([50], [0], [0]),
        ([], [], []),
    ],
)
def test_selection_is_that_of_the_open_data(pt, eta, kept):
    mask = select_jets(np.array(pt, float), np.array(eta, float), np.array([0, len(pt)]))
    assert_array_equal(mask, np.array(kept, bool))


def test_selection_treats_events_apart():
    mask = select_jets(np.array([50.0, 40, 60, 50, 40]), np.zeros(5), np.array([0, 2, 3, 3, 5]))
    assert_array_equal(mask, [True, True, False, True, True])


def test_only_the_leading_jets_are_selected_where_that_is_asked():
    pt, offsets = np.array([90.0, 80, 70, 60, 60, 50, 40, 35]), np.array([0, 4, 4, 8])
    for leading, kept in {
        0: [1, 1, 0, 1, 1, 1, 1, 1],
        2: [1, 1, 0, 0, 1, 1, 0, 0],
        3: [1, 1, 0, 1, 1, 1, 1, 0],
    }.items():
        mask = select_jets(pt, np.array([0.0, 0, 3, 0, 0, 0, 0, 0]), offsets, leading)
        assert_array_equal(mask, np.array(kept, bool))


def test_files_have_every_branch_with_its_type(jets, tmp_path):
    with uproot.recreate(tmp_path / "jets.root") as file:
        create_tree(file).extend({name: jets[name] for name in BRANCHES})
    tree = uproot.open(tmp_path / "jets.root")[TREE]
    names = {"float32": "float", "int32": "int32_t", "uint64": "uint64_t"}
    expected = {
        name: names[kind.removeprefix("var * ")] + "[]" * kind.startswith("var") for name, kind in BRANCHES.items()
    }
    assert tree.typenames() == expected | {"nPF": "int32_t", "nGenJetPF": "int32_t", "nSV": "int32_t"}
    read = tree.arrays()
    assert_array_equal(read.nPF, ak.num(jets.PF_pT))
    assert_array_equal(read.nGenJetPF, ak.num(jets.genJetPF_pT))
    for name in BRANCHES:
        assert ak.array_equal(read[name], jets[name], check_parameters=False), name


def test_identifiers_are_unique_and_jets_in_order(jets, events):
    assert set(jets.run.tolist()) == {SEED}
    assert set(jets.lumi.tolist()) == {BLOCK + 1}
    keys = list(zip(jets.event.tolist(), jets.jetPtOrder.tolist(), strict=True))
    assert len(set(keys)) == len(jets)
    assert keys == sorted(keys)
    for event in set(jets.event.tolist()):
        one = jets[jets.event == event]
        assert (np.diff(ak.to_numpy(one.jetPt)) <= 0).all()
        assert set(one.eventJetMult.tolist()) == {len(one)}
    assert jets.event[0] > BLOCK * len(events.vertices)


def test_clustered_candidates_add_up_to_the_raw_jet(jets):
    inside = jets.PF_fromAK4Jet == 1
    phi = jets.PF_dPhi + jets.jetPhi
    px = ak.sum((jets.PF_pT * np.cos(phi))[inside], axis=1)
    py = ak.sum((jets.PF_pT * np.sin(phi))[inside], axis=1)
    assert_allclose(np.hypot(px, py), jets.jetRawPt, rtol=2e-3)  # the precision of MiniAOD
    assert_array_equal(ak.sum(inside, axis=1), jets.jetMult)
    assert ak.all(jets.PF_fromPV[inside] > 0)
    assert ak.all(abs(jets.PF_dEta) <= 1)
    assert ak.all(abs(jets.PF_dPhi) <= 1)
    assert ak.any(jets.PF_fromPV == 0)  # subtracted candidates are stored too


def test_generator_particles_add_up_to_the_generator_jet(jets):
    matched = jets[jets.jetGenMatch == 1]
    along = ak.sum(matched.genJetPF_pT * np.cos(matched.genJetPF_dR * np.sin(matched.genJetPF_dTheta)), axis=1)
    assert_allclose(along, matched.genJetPt, rtol=2e-3)
    assert not ak.any((abs(matched.genJetPF_id) == 12) | (abs(matched.genJetPF_id) == 14))


def test_jets_without_a_generator_jet_have_zeros(events):
    unmatched = dataclasses.replace(events, partner=np.full_like(events.partner, -1))
    jets = ntuple(unmatched, raw, 1, 0)
    assert set(jets.jetGenMatch.tolist()) == {0}
    assert set(jets.genJetPt.tolist()) == {0.0}
    assert ak.sum(ak.num(jets.genJetPF_pT)) == 0


def test_quark_gluon_variables_follow_their_definition(jets):
    """Against a plain loop (CMS-PAS-JME-13-002)."""
    for jet in jets[:25]:
        inside = jet.PF_fromAK4Jet == 1
        pt, eta, phi = (ak.to_numpy(jet[name][inside]).astype(float) for name in ("PF_pT", "PF_dEta", "PF_dPhi"))
        neutral = np.isin(np.abs(ak.to_numpy(jet.PF_id[inside])), (22, 130))
        used = np.where(neutral, pt > 1, ak.to_numpy(jet.PF_fromPV[inside]) == 3)
        pt, eta, phi = pt[used], eta[used], phi[used]
        assert jet.QG_mult == used.sum()
        assert jet.QG_ptD == pytest.approx(np.sqrt(np.sum(pt**2)) / np.sum(pt), rel=1e-3)
        if len(pt) > 1:
            covariance = np.cov(np.stack([eta, phi]), aweights=pt**2, bias=True)
            minor = np.sqrt(max(np.linalg.eigvalsh(covariance)[0], 0))
            assert jet.QG_axis2 == pytest.approx(minor, rel=0.02, abs=2e-4)


def test_multiplicities_and_flags_are_consistent(jets):
    assert_array_equal(jets.jetChargedMult + jets.jetNeutralMult, jets.jetMult)
    assert ak.all(jets.jetTightID <= jets.jetLooseID)
    assert_array_equal(jets.isPartonUDS + jets.isPartonG + jets.isPartonOther, 1)
    assert_array_equal(jets.isPhysUDS + jets.isPhysG + jets.isPhysOther, 1)
    assert np.mean(jets.jetLooseID) > 0.97
    assert_allclose(ak.flatten(jets.PF_dR), np.hypot(ak.flatten(jets.PF_dEta), ak.flatten(jets.PF_dPhi)), rtol=1e-3)
    gluon = jets.isPartonG == 1
    assert np.mean(jets.QG_ptD[gluon]) < np.mean(jets.QG_ptD[jets.isPartonUDS == 1])


def test_the_correction_scales_momentum_and_mass(events, jets):
    doubled = ntuple(events, lambda pt, eta, area, rho: np.full_like(pt, 2.0), SEED, BLOCK)
    assert_allclose(doubled.jetPt, 2 * doubled.jetRawPt)
    assert_allclose(doubled.jetMass, 2 * doubled.jetRawMass, rtol=1e-6)
    assert len(doubled) > len(jets)


def test_the_order_follows_the_corrected_pt(events):
    jets = ntuple(events, lambda pt, eta, area, rho: 1 + 0.5 * (np.arange(len(pt)) % 2), SEED, BLOCK)
    for event in set(jets.event.tolist()):
        assert (np.diff(ak.to_numpy(jets.jetPt[jets.event == event])) <= 0).all()

"""Columns, labels, the target, quark/gluon variables, and the selection."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils.config import SelectionSettings
from jetcorr_utils.data import read_jets
from jetcorr_utils.data.features import TABLE_COLUMNS, jet_matrix, particle_matrix, regression_target, table
from jetcorr_utils.data.selection import own_particles, reasons, select_jets
from jetcorr_utils.errors import InputError
from jetcorr_utils.jets.columns import FEATURE_SETS, JETS, groups_of, jet_columns, particle_columns
from jetcorr_utils.jets.flavours import FLAVOURS, paper_flavour
from jetcorr_utils.jets.quark_gluon import quark_gluon


@pytest.fixture
def jets(ntuple):
    return read_jets(ntuple())


def test_the_named_sets_are_what_models_were_trained_with():
    open_columns = ("PF_dEta", "PF_dPhi", "PF_pT", "PF_mass", "PF_id", "PF_fromPV", "PF_fromAK4Jet")
    assert particle_columns("open") == open_columns
    assert particle_columns("rich") == (*open_columns, "PF_caloFraction", "PF_hcalFraction")
    jets = (
        "jetPt",
        "jetEta",
        "jetMass",
        "jetArea",
        "jetRawPt",
        "rhoAll",
        "PV_npvsGood",
        "QG_ptD",
        "QG_axis2",
        "QG_mult",
    )
    assert jet_columns("open") == jet_columns("rich") == jets


def test_features_are_groups_in_any_order_and_sets_of_them():
    assert groups_of(FEATURE_SETS["rich"][::-1]) == groups_of("rich")
    assert groups_of(("calorimeter", "open")) == groups_of("rich")
    assert particle_columns(("class", "kinematics")) == ("PF_dEta", "PF_dPhi", "PF_pT", "PF_mass", "PF_id")
    assert jet_columns(("class", "kinematics")) == ("jetPt", "jetEta", "jetMass", "jetArea", "jetRawPt")
    with pytest.raises(InputError, match=r"'verteks': there are the sets open, rich, .*groups kinematics, class,"):
        groups_of(("kinematics", "class", "verteks"))
    with pytest.raises(InputError, match=r"PF_pT is missing, .* or the group kinematics"):
        groups_of(("class", "pileup"))
    with pytest.raises(InputError, match="jetEta is missing, which all others are relative to"):
        groups_of(("PF_pT", "PF_dEta", "PF_dPhi", "jetPt", "class"))


@pytest.mark.parametrize("features", ["open", "rich", ("kinematics", "class", "calorimeter")])
def test_matrices_hold_the_columns_in_order(jets, features):
    particles, values = particle_matrix(jets, features), jet_matrix(jets, features)
    names = particle_columns(features)
    assert particles.dtype == values.dtype == np.float32
    assert particles.shape == (ak.sum(ak.num(jets["particles"])), len(names))
    assert values.shape == (len(jets), len(jet_columns(features)))
    for i, name in enumerate(names):
        np.testing.assert_array_equal(particles[:, i], ak.flatten(jets["particles", name]))
    for i, name in enumerate(jet_columns(features)):
        np.testing.assert_array_equal(values[:, i], jets[name])


def test_the_azimuth_is_not_an_input():
    assert not JETS["jetPhi"].group


def test_rich_features_need_their_columns(ntuple):
    jets = read_jets(ntuple(PF_caloFraction=None, PF_hcalFraction=None))
    with pytest.raises(InputError, match=r"need PF_caloFraction, PF_hcalFraction, .*use features: open"):
        particle_matrix(jets, "rich")


def test_target_is_the_logarithm_of_the_ratio(jets):
    jets = ak.with_field(jets, np.where(np.arange(len(jets)) == 3, 0, jets["genJetPt"]), "genJetPt")
    target = regression_target(jets)
    assert np.flatnonzero(np.isnan(target)).tolist() == [3]
    rest = np.arange(len(jets)) != 3
    np.testing.assert_allclose(np.exp(target[rest]), (jets["genJetPt"] / jets["jetPt"])[rest], rtol=1e-5)


def test_table_keeps_the_types(jets):
    columns = table(jets)
    assert {name: column.dtype for name, column in columns.items()} == TABLE_COLUMNS
    large = ak.with_field(jets[:1], np.array([2**64 - 1], dtype=np.uint64), "event")
    assert table(large)["event"][0] == 2**64 - 1


def test_flavour_of_the_paper():
    assert paper_flavour([5, 0, 0, 4, 0], [21, -2, 21, -4, 0]).tolist() == [5, 2, 21, 4, 0]
    assert set(FLAVOURS) == {1, 2, 3, 4, 5, 21}


def plain_quark_gluon(pt, eta, phi):
    """The formulas of CMS-PAS-JME-13-002 for one jet, by the covariance and its eigenvalues."""
    if len(pt) == 0:
        return 0.0, 0.0, 0
    covariance = np.cov(np.stack([eta, phi]), aweights=pt**2, ddof=0)
    return np.sqrt((pt**2).sum()) / pt.sum(), np.sqrt(max(np.linalg.eigvalsh(covariance)[0], 0)), len(pt)


@given(st.integers(0, 2**32 - 1))
def test_quark_gluon_variables_equal_the_plain_formulas(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 8, 5)
    size = counts.sum()
    flat = {
        "PF_pT": rng.uniform(0.3, 30, size), "PF_dEta": rng.normal(0, 0.2, size), "PF_dPhi": rng.normal(0, 0.2, size),
        "PF_id": rng.choice([211, -211, 22, 130, 11, 1], size), "PF_fromPV": rng.integers(0, 4, size),
        "PF_fromAK4Jet": rng.integers(0, 2, size),
    }  # fmt: skip
    flat = {name.removeprefix("PF_"): values for name, values in flat.items()}
    own = flat["fromAK4Jet"] == 1
    columns = [flat[name][own] for name in ("pT", "dEta", "dPhi", "id", "fromPV")]
    found = quark_gluon(np.repeat(np.arange(5), counts)[own], 5, *columns)
    neutral = np.isin(abs(flat["id"]), [22, 130])
    charged = np.isin(abs(flat["id"]), [211, 11])
    used = (neutral & (flat["pT"] > 1)) | (charged & (flat["fromPV"] == 3))
    used &= own
    for jet, start in enumerate(np.cumsum(counts) - counts):
        rows = np.flatnonzero(used[start : start + counts[jet]]) + start
        ptd, axis, mult = plain_quark_gluon(*(flat[name][rows] for name in ("pT", "dEta", "dPhi")))
        assert found["QG_mult"][jet] == mult
        assert found["QG_ptD"][jet] == pytest.approx(ptd, rel=1e-5)
        assert found["QG_axis2"][jet] == pytest.approx(axis, rel=1e-4, abs=1e-6)


def test_quark_gluon_variables_of_the_sample(sample):
    """Recomputed from the stored candidates, they equal those that the simulation wrote, up to rounded positions."""
    jets = read_jets(sample)
    particles = jets["particles"]
    found = JETS["QG_mult"].fill.make({name: particles[name] for name in particles.fields})
    assert np.mean(found["QG_mult"] == jets["QG_mult"]) > 0.99
    assert np.mean(np.abs(found["QG_ptD"] / jets["QG_ptD"] - 1) < 2e-3) > 0.99
    assert np.mean(np.abs(found["QG_axis2"] - jets["QG_axis2"]) < 1e-3) > 0.99


def test_each_lost_jet_has_one_reason(jets):
    settings = SelectionSettings(min_pt=100, max_abs_eta=2.0, min_gen_pt=120, max_abs_gen_eta=1.5)
    found = reasons(jets, settings)
    lost = np.sum(list(found.values()), axis=0)
    assert lost.max() == 1
    keep = (jets["jetPt"] >= 100) & (np.abs(jets["jetEta"]) <= 2) & (jets["genJetPt"] > 120)
    keep = keep & (np.abs(jets["genJetEta"]) <= 1.5)
    np.testing.assert_array_equal(lost == 0, keep)
    assert 0 < lost.sum() < len(jets)


@pytest.mark.parametrize(
    ("name", "value"),
    [("jetPt", np.nan), ("jetPt", np.inf), ("jetPt", -40.0), ("jetRawPt", -1.0), ("rhoAll", np.nan),
     ("QG_axis2", -np.inf), ("genJetPt", np.nan), ("genJetPt", 1e30), ("genJetPt", 3e4), ("jetPt", 1e30),
     ("jetRawPt", 2e4), ("jetMass", -1e30), ("jetEta", 999.0), ("jetArea", 1e6), ("rhoAll", -1e30), ("QG_mult", 10**6)],
)  # fmt: skip
def test_impossible_numbers_of_a_jet_are_left_out(jets, name, value):
    column = ak.to_numpy(jets[name]).copy()
    column[5] = value
    found = reasons(ak.with_field(jets, column, name))
    assert np.flatnonzero(found["values that are not finite or not possible, or a negative pt"]).tolist() == [5]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PF_pT", np.nan),
        ("PF_pT", -1.0),
        ("PF_pT", 1e9),
        ("PF_mass", np.inf),
        ("PF_dEta", -999.0),
        ("PF_hcalFraction", 1e20),
    ],
)
def test_impossible_numbers_of_a_particle_leave_its_jet_out(jets, name, value):
    counts = ak.to_numpy(ak.num(jets["particles"]))
    column = ak.to_numpy(ak.flatten(jets["particles", name])).copy()
    column[counts[:5].sum()] = value
    particles = ak.with_field(jets["particles"], ak.unflatten(column, counts), name)
    found = reasons(ak.with_field(jets, particles, "particles"))
    assert np.flatnonzero(found["values that are not finite or not possible, or a negative pt"]).tolist() == [5]


@pytest.mark.parametrize("name", SelectionSettings.model_fields)
def test_a_cut_beyond_all_numbers_of_a_jet_is_one_like_others(jets, name):
    kept, _ = select_jets(jets, SelectionSettings(**{name: 1e308}))
    assert (len(kept) > 0) == name.startswith("max")


def test_candidates_of_the_jet_or_of_the_window(jets):
    own = own_particles(jets)
    assert ak.all(own["particles", "PF_fromAK4Jet"] == 1)
    assert ak.sum(ak.num(own["particles"])) == ak.sum(jets["particles", "PF_fromAK4Jet"])
    window, _ = select_jets(jets, SelectionSettings(), "window")
    assert ak.sum(ak.num(window["particles"])) > ak.sum(
        ak.num(select_jets(jets, SelectionSettings(), "jet")[0].particles)
    )


def test_jets_without_candidates_are_left_out(ntuple):
    none = ak.Array([[0] * 3 if i % 2 else [1] * 3 for i in range(60)])
    jets = read_jets(ntuple())
    particles = ak.zip(dict.fromkeys(particle_columns("open"), none * 0 + 1.0))
    particles = ak.with_field(particles, none, "PF_fromAK4Jet")
    _, lost = select_jets(ak.with_field(jets, particles, "particles"), SelectionSettings())
    assert lost["no particles"] == 30


def test_without_a_cut_on_gen_pt_unmatched_jets_stay(jets):
    jets = ak.with_field(jets, np.zeros(len(jets)), "genJetPt")
    settings = SelectionSettings(min_gen_pt=0, min_pt=0)
    assert len(select_jets(jets, settings)[0]) == len(jets)
    _, lost = select_jets(jets, SelectionSettings(min_pt=0))
    assert lost["no generator jet"] == len(jets)

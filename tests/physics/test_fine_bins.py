"""What a jet expert looks for: the numbers are those that the toys were made with, and the sentences say them."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from jetcorr_utils import physics
from jetcorr_utils.config import PhysicsSettings
from jetcorr_utils.physics.binning import FLAVOUR_GROUPS, JEC_ETA_EDGES
from jetcorr_utils.physics.fine_bins import GAUSSIAN_IQR, resolution_of
from jetcorr_utils.physics.predictions import check_predictions
from jetcorr_utils.physics.profiles import profile

SETTINGS = PhysicsSettings(replicas=20)
BOTH = ["standard", "pfn"]


@pytest.fixture(scope="module")
def jets(toy):
    return check_predictions(toy(20_000, gain=0.1, flavour_gain=0.5, sigma_scale=0.8))


def test_the_eta_bins_are_symmetric_and_those_of_the_calorimeter():
    np.testing.assert_array_equal(JEC_ETA_EDGES, -JEC_ETA_EDGES[::-1])
    assert len(JEC_ETA_EDGES) == 53
    assert (np.diff(JEC_ETA_EDGES) > 0.07).all()


def test_a_shift_in_one_bin_of_eta_is_found_and_said(jets):
    inside = (jets["genJetEta"] >= 1.305) & (jets["genJetEta"] < 1.392)
    shifted = jets.assign(pfn_pt=jets["pfn_pt"] * np.where(inside, 1.08, 1))
    table = physics.eta_profile(shifted, ["pfn"], SETTINGS)
    worst = table.loc[(table["median"] - 1).abs().idxmax()]
    assert (worst["low"], worst["high"]) == (1.305, 1.392)
    assert worst["median"] == pytest.approx(1.08, abs=0.02)
    assert "PFN is furthest from one at 1.30 < η < 1.39 (+" in physics.say_eta(table, ["pfn"])


def test_the_map_knows_where_it_does_not_close(jets):
    inside = jets["genJetPt"].between(300, 500) & jets["genJetEta"].abs().between(2, 2.25)
    shifted = jets.assign(pfn_pt=jets["pfn_pt"] * np.where(inside, 0.9, 1))
    table = physics.closure_map(shifted, BOTH, SETTINGS)
    said = physics.say_closure_map(table, BOTH).splitlines()
    assert "at 300 to 500 GeV and 2.00 < |η| < 2.25" in said[1]
    assert "at 300 to 500 GeV and 2.00 < |η| < 2.25" not in said[0]
    jets_in_the_map = (shifted["genJetPt"] >= 30) & (shifted["genJetPt"] < 3000)
    assert table[table["correction"] == "pfn"]["jets"].sum() == pytest.approx(jets_in_the_map.sum(), rel=0.02)


def test_each_flavour_has_the_gain_it_was_given(jets):
    gluon = jets["flavour"] == 21
    ratio = jets["pfn_pt"] / jets["genJetPt"]
    jets = jets.assign(pfn_pt=jets["genJetPt"] * np.where(gluon, ratio**0.8, ratio))
    table = physics.flavour_profiles(jets, BOTH, SETTINGS)
    assert set(table["flavour"]) == set(FLAVOUR_GROUPS)
    pfn = table[table["correction"] == "pfn"].groupby("flavour")["ratio"].mean()
    assert pfn["g"] == pytest.approx(0.72, abs=0.01)
    assert pfn["uds"] == pytest.approx(0.9, abs=0.02)
    said = physics.say_flavours(table, BOTH)
    assert said.count("\n") == 0
    assert float(re.search(r"([\d.]+) ± [\d.]+ % for gluon jets", said)[1]) == pytest.approx(28, abs=0.3)


def test_the_terms_of_a_known_resolution_are_found():
    pt = np.geomspace(55, 2500, 15)
    sigma = resolution_of(pt, 3.0, 0.8, 0.04)
    rng = np.random.default_rng(1)
    rows = {"resolution": GAUSSIAN_IQR * sigma * (1 + 0.01 * rng.normal(size=15)),
            "resolution_error": GAUSSIAN_IQR * 0.01 * sigma}  # fmt: skip
    table = pd.DataFrame({"correction": "standard", "low": 0.99 * pt, "center": pt, **rows})
    ((_, row),) = physics.resolution_terms(table, ["standard", "pfn"]).iterrows()
    for name, expected in {"N": 3.0, "S": 0.8, "C": 0.04}.items():
        assert abs(row[name] - expected) < 3 * row[f"{name}_error"], name
        assert 0 < row[f"{name}_error"] < 0.2 * expected + 0.3
    assert row["ndf"] == 12
    assert row["chi2"] < 30


def test_the_fit_of_toys_describes_them_and_is_said_with_units(jets):
    tables = physics.resolution_profiles(jets, BOTH, SETTINGS)
    terms = {selection: physics.resolution_terms(table, BOTH) for selection, table in tables.items()}
    for table in terms.values():
        assert (table["chi2"] / table["ndf"] < 4).all()
        standard, pfn = table.set_index("correction").loc[BOTH, "C"]
        assert standard == pytest.approx(0.045, abs=0.01)
        assert pfn / standard == pytest.approx(0.9, abs=0.1)
    said = physics.say_terms(terms, BOTH).splitlines()
    assert said[0].startswith("At |η| < 1.3, PFN changes N from ")
    assert " √GeV and C from 0.0" in said[0]
    shown = physics.terms_table(terms)
    assert list(shown) == ["jets", "correction", "N [GeV]", "S [√GeV]", "C", "χ² / degrees of freedom"]
    assert list(shown["correction"]) == ["L1 + L2L3", "PFN"] * 2


def test_the_factor_is_that_of_the_model(jets):
    few = jets.assign(
        QG_mult=np.arange(len(jets)) % 40, pfn_pt=jets["jetPt"] * (1 + (np.arange(len(jets)) % 40) / 1000)
    )
    tables = physics.factor_profile(few, ["pfn"], SETTINGS)
    by_pt, by_count = tables.values()
    np.testing.assert_allclose(by_count["median"], 1 + by_count["center"] / 1000, atol=0.001)
    assert by_pt["median"].between(1.015, 1.024).all()
    assert (by_pt["upper"] - by_pt["lower"]).between(0.02, 0.03).all()
    assert "with the number of constituents from 1.00" in physics.say_factor(tables, ["pfn"])


def test_a_dijet_is_made_of_the_two_leading_jets_of_an_event(jets):
    three = jets.iloc[:6].assign(run=1, lumi=1, event=[1, 1, 1, 2, 2, 3], genJetPt=[50, 200, 100, 40, 80, 70])
    pairs = physics.dijets(three, BOTH)
    assert list(pairs["event"]) == [1, 2]
    for row, (a, b) in zip(pairs.itertuples(), ((1, 2), (4, 3)), strict=True):
        one, other = three.iloc[a], three.iloc[b]
        p = [
            jet["pfn_pt"] * np.array([
                np.cosh(jet["jetEta"]), np.cos(jet["jetPhi"]), np.sin(jet["jetPhi"]), np.sinh(jet["jetEta"])
            ])
            for jet in (one, other)
        ]  # fmt: skip
        total = p[0] + p[1]
        assert row.pfn_pt == pytest.approx(np.sqrt(total[0] ** 2 - (total[1:] ** 2).sum()), rel=1e-6)
        product = one["pfn_pt"] / one["genJetPt"] * other["pfn_pt"] / other["genJetPt"]
        assert row.pfn_pt / row.genJetPt == pytest.approx(np.sqrt(product))


def test_the_dijet_mass_gains_what_its_jets_gain(jets):
    pairs = physics.dijets(jets, BOTH)
    assert len(pairs) == jets.groupby("event").size().eq(2).sum()
    table = profile(pairs, BOTH, SETTINGS, edges=np.array([0, np.inf]))
    assert table.set_index("correction").loc["pfn", "ratio"] == pytest.approx(0.89, abs=0.02)
    assert "better than L1 + L2L3" in physics.say_dijets(pairs, BOTH, SETTINGS).splitlines()[1]
    nothing = physics.dijets(jets.drop(columns="jetPhi"), BOTH)
    assert len(nothing) == 0
    assert physics.say_dijets(nothing, BOTH, SETTINGS) == "Too few jets for a statement."


def test_a_predicted_resolution_that_is_too_small_has_wide_pulls(jets):
    table = physics.sigma_calibration(jets, ["pfn"], SETTINGS)
    mean = np.average(table["pull_width"], weights=table["pull_width_error"] ** -2)
    assert mean == pytest.approx(1 / 0.8, rel=0.03)
    assert "too small, for " in physics.say_calibration(table, ["pfn"])


def test_the_resolution_of_jets_of_many_vertices_is_said_to_be_worse(jets):
    worse = jets["PV_npvsGood"] > jets["PV_npvsGood"].quantile(0.8)
    ratio = jets["pfn_pt"] / jets["genJetPt"]
    tables = physics.dependence(
        jets.assign(pfn_pt=jets["genJetPt"] * np.where(worse, ratio**1.5, ratio)), BOTH, SETTINGS
    )
    assert len(tables) == 2
    said = physics.say_dependence(tables, BOTH).splitlines()[1]
    assert said.startswith("From the fewest to the most vertices, IQR / median changes by ")
    of_pfn = float(said.partition(" and by +")[2].split()[0])
    assert of_pfn == pytest.approx(50, abs=8)


def test_figures_that_say_above_30_gev_have_no_jets_below(jets):
    jets = jets[jets["genJetPt"] >= 30]
    more = pd.concat([jets, jets.assign(genJetPt=25.0)], ignore_index=True)
    shown = ["low", "high", "jets", "median"]
    for measure in (physics.eta_profile, lambda *given: physics.dependence(*given)["PV_npvsGood"]):
        alone, mixed = (measure(table, ["pfn"], SETTINGS)[shown] for table in (jets, more))
        pd.testing.assert_frame_equal(alone, mixed)


def test_without_jets_nothing_is_said(jets):
    few = jets.iloc[:5]
    for number, kept in itertools.product((0, 1), (few, few.drop(columns=["PV_npvsGood", "jetPhi"]))):
        names = BOTH[number:]
        assert physics.say_eta(physics.eta_profile(kept, names, SETTINGS), names) == "Too few jets for a statement."
        assert physics.say_dependence(physics.dependence(kept, names, SETTINGS), names).startswith("Too few")

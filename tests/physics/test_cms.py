"""The comparison with CMS: a toy with CMS's own figures gives them back; the layout is that of the contract."""

import json

import awkward as ak
import numpy as np
import pytest

from jetcorr_utils import physics
from jetcorr_utils.config import PhysicsSettings
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import read_json, write_json
from jetcorr_utils.physics import cms
from jetcorr_utils.physics.cms import RINGS, cms_comparison, cms_published, cms_summary


def _like_cms(jets: ak.Array) -> ak.Array:
    """The jets with CMS's resolution and, by flavour, CMS's medians above 30 GeV, in the barrel and the endcap."""
    rng = np.random.default_rng(len(jets) + int(1e3 * jets["genJetPt"][0]))
    gen_pt = ak.to_numpy(jets["genJetPt"])
    flavour = np.where(jets["hadronFlav"] != 0, jets["hadronFlav"], abs(jets["partonFlav"]))
    names = {2: "u", 1: "d", 3: "s", 4: "c", 5: "b", 21: "g"}
    region = np.where(np.abs(ak.to_numpy(jets["genJetEta"])) < 1.3, "0-1.3", "1.3-2.5")
    width, median = np.ones(len(jets)), np.ones(len(jets))
    for name, rows in cms_published()["resolution"].items():
        pt, value, _ = np.array(rows["all"]).T
        here = region == name
        width[here] = np.interp(np.log(gen_pt[here]), np.log(pt), value) / 1.349
        medians = {flavour: value for flavour, (value, _) in cms_published()["flavour"][name]["30-inf"].items()}
        median[here] = [medians[names[int(code)]] for code in flavour[here]]
    return ak.with_field(jets, gen_pt * median * (1 + width * rng.normal(size=len(jets))), "jetPt")


@pytest.fixture(scope="module")
def table(make_jets):
    """A table of jets that answer as CMS's do."""
    return physics.cms_table([_like_cms(make_jets(15_000, seed)) for seed in (8, 9)], progress=False)


@pytest.fixture(scope="module")
def comparison(table):
    return cms_comparison(table, PhysicsSettings(replicas=20))


def test_the_figures_are_the_published_ones(real_data):
    """What stands in the package was read off the original figures, all of it."""
    original = json.loads((real_data / "published" / "resolution.json").read_text())
    for region, eta in (("0-1.3", "eta1"), ("1.3-2.5", "eta2")):
        for group, rows in cms_published()["resolution"][region].items():
            published = original[f"{group}_{eta}"]
            assert len(rows) == 14
            for pt, value, error in rows:
                key = min(published["iqr_median"]["Baseline"], key=lambda key: abs(float(key) - pt))
                assert pt == pytest.approx(float(key), abs=0.06)
                assert value == pytest.approx(published["iqr_median"]["Baseline"][key], abs=1e-4)
                assert error == pytest.approx(published["iqr_median_error"]["Baseline"][key], abs=1e-4)
    original = json.loads((real_data / "published" / "flavours.json").read_text())
    for region, eta in (("0-1.3", "eta1"), ("1.3-2.5", "eta2")):
        for number, flavours in enumerate(cms_published()["flavour"][region].values(), 1):
            medians = original[f"pt{number}{eta}"]["median"]["Baseline"]
            assert {name: value for name, (value, _) in flavours.items()} == pytest.approx(medians, abs=1e-4)
    original = json.loads((real_data / "published" / "open_data_histograms.json").read_text())
    for name, histogram in cms_published()["histograms"].items():
        values = original[name]["values"]
        assert histogram["values"] == values[: len(histogram["values"])]
        assert sum(values) == pytest.approx(sum(histogram["values"]))


def test_cms_resolution_and_flavours_come_back(comparison):
    found = {(row["abs_eta"], row["pt"]) for row in comparison["resolution"] if row["flavour"] == "all"}
    assert found == {(eta, pt) for eta, rows in cms_published()["resolution"].items() for pt, *_ in rows["all"]}
    rows = [row for row in comparison["resolution"] if row["flavour"] == "all"]
    pulls = [(row["ours"] / row["cms"] - 1) / (row["error"] / row["cms"] + 0.015) for row in rows]
    assert np.abs(pulls).max() < 4
    for row in comparison["flavour"]:
        if row["pt"] == "30-inf":
            assert row["ours"] == pytest.approx(row["cms"], abs=4 * row["error"] + 0.003)


def test_what_no_figure_gives_has_no_value_of_cms(comparison, make_jets):
    jets = make_jets(12_000, 5)
    heavy = ak.with_field(jets, np.arange(len(jets)) % 2 + 4, "hadronFlav")
    rows = cms_comparison(physics.cms_table([heavy], progress=False), PhysicsSettings(replicas=3))["resolution"]
    groups = {row["flavour"]: row["cms"] for row in rows}
    assert groups["c"] is groups["b"] is None
    assert groups["all"] > 0
    assert {row["name"] for row in comparison["shapes"] if row["cms"] is None} == {"QG_mult"}


def test_jets_of_which_none_can_be_compared_are_said_to_be_so(table):
    """Jets without candidates have generator jets nevertheless."""
    with pytest.raises(InputError, match=f"none of {len(table)} jets has candidates and a generator jet"):
        cms_comparison(table.assign(selected=False))


def test_the_weights_give_the_spectrum_of_the_open_data(table):
    published = cms_published()["histograms"]["genJetPt"]
    edges = published["low"] + published["width"] * np.arange(len(published["values"]) + 1)
    ours, _ = np.histogram(table["genJetPt"], edges, weights=table["weight"])
    filled = ours > 0
    shares = np.array(published["values"])
    assert ours[filled] / ours.sum() == pytest.approx(shares[filled] / shares[filled].sum(), rel=1e-9)


def test_candidates_are_counted_in_rings_and_classes(make_jets):
    """Against a plain loop over the candidates of each jet."""
    jets = make_jets(40, 3)
    table = physics.cms_table([jets], progress=False)
    for number, jet in enumerate(jets):
        distance = np.hypot(*(np.asarray(jet["particles", name]) for name in ("PF_dEta", "PF_dPhi")))
        for ring, (low, high) in enumerate(RINGS):
            assert table[f"ring{ring}"][number] == sum(low <= d < high for d in distance)
        inside = [abs(candidate["PF_id"]) for candidate in jet["particles"] if candidate["PF_fromAK4Jet"] == 1]
        assert table["n_charged"][number] == sum(code in (211, 11, 13) for code in inside)
        assert table["n_photon"][number] == sum(code in (22, 2) for code in inside)
        assert table["n_neutral"][number] == sum(code in (130, 1) for code in inside)


def test_quantiles_of_a_published_histogram():
    for name in ("QG_ptD", "QG_axis2", "jetMass", "jetArea"):
        quantiles = cms._histogram_quantiles(name)
        assert quantiles == sorted(quantiles)
    assert cms._histogram_quantiles("QG_ptD")[2] == pytest.approx(0.383, abs=0.001)  # as the MANIFEST has it
    assert cms._histogram_quantiles("QG_axis2")[2] == pytest.approx(0.030, abs=0.001)


def test_the_layout_is_that_of_the_contract(comparison, tmp_path):
    assert set(comparison) == {"jets", "resolution", "flavour", "shapes", "rings", "classes", "energy_fractions"}
    fields = {
        "resolution": {"flavour", "abs_eta", "pt", "ours", "error", "cms", "cms_error"},
        "flavour": {"abs_eta", "pt", "flavour", "ours", "error", "cms", "cms_error"},
        "shapes": {"name", "quantile", "ours", "cms"},
        "rings": {"dR", "ours", "cms"},
        "classes": {"pt", "charged", "photon", "neutral"},
    }
    for name, expected in fields.items():
        assert comparison[name]
        assert all(set(row) == expected for row in comparison[name])
    assert set(comparison["energy_fractions"]) == {"charged", "photon", "neutral"}
    assert read_json(write_json(tmp_path / "cms.json", comparison)) == comparison


def test_the_table_has_every_row(comparison):
    table = cms_summary(comparison)
    rows = sum(len(comparison[name]) for name in ("resolution", "flavour", "shapes", "rings", "energy_fractions"))
    assert len(table) == rows + 3 * len(comparison["classes"])
    assert (table["ours / CMS"].dropna() > 0).all()


def test_the_figures_are_drawn_for_many_and_for_few_jets(table, make_jets):
    for jets in (table, physics.cms_table([make_jets(200, 1)], progress=False)):
        found = cms_comparison(jets, PhysicsSettings(replicas=3))
        for draw in (physics.plot_cms_resolution, physics.plot_cms_flavour, physics.plot_cms_rings,
                     physics.plot_cms_candidates):  # fmt: skip
            assert all(ax.get_ylabel() for ax in draw(found).axes[:1])
        assert physics.plot_cms_shapes(jets).axes

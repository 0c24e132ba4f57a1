"""The comparison with CMS: a toy with CMS's own figures gives them back; the layout is that of the contract."""

import awkward as ak
import numpy as np
import pytest

from jetcorr_utils.config import PhysicsSettings
from jetcorr_utils.files import read_json, write_json
from jetcorr_utils.physics.cms import CMS_FLAVOUR, CMS_RESOLUTION, cms_comparison, plot_cms_flavour, plot_cms_resolution


@pytest.fixture(scope="module")
def comparison(make_jets):
    """Jets in the barrel whose response has CMS's resolution and, by flavour, CMS's medians above 30 GeV."""
    jets = make_jets(16_000, 8)
    rng = np.random.default_rng(9)
    gen_pt = ak.to_numpy(jets["genJetPt"])
    width = np.interp(np.log(gen_pt), np.log(list(CMS_RESOLUTION)), list(CMS_RESOLUTION.values())) / 1.349
    flavour = np.where(jets["hadronFlav"] != 0, jets["hadronFlav"], abs(jets["partonFlav"]))
    names = {2: "u", 1: "d", 3: "s", 4: "c", 5: "b", 21: "g"}
    median = np.array([CMS_FLAVOUR["30-inf"][names[int(code)]] for code in flavour])
    for name in ("jetEta", "genJetEta"):
        jets = ak.with_field(jets, ak.to_numpy(jets[name]) / 2, name)
    jets = ak.with_field(jets, gen_pt * median * (1 + width * rng.normal(size=len(jets))), "jetPt")
    return cms_comparison(jets, PhysicsSettings(replicas=20))


def test_cms_figures_come_back(comparison):
    assert [row["pt"] for row in comparison["resolution"]] == list(CMS_RESOLUTION)
    pulls = [(row["ours"] / row["cms"] - 1) / (row["error"] / row["cms"] + 0.01) for row in comparison["resolution"]]
    assert np.abs(pulls).max() < 4
    for name, row in comparison["flavour"]["30-inf"].items():
        assert row["ours"] == pytest.approx(CMS_FLAVOUR["30-inf"][name], abs=4 * row["error"])
        assert row["cms"] == CMS_FLAVOUR["30-inf"][name]


def test_the_layout_is_that_of_the_contract(comparison, tmp_path):
    assert set(comparison) == {"resolution", "flavour", "energy_fractions", "jets"}
    assert set(comparison["flavour"]) == {"30-inf", "300-1000"}
    assert set(comparison["flavour"]["300-1000"]) == set("udscbg")
    assert sum(comparison["energy_fractions"].values()) == pytest.approx(1, abs=1e-5)
    assert set(comparison["energy_fractions"]) == {"charged", "photon", "neutral"}
    assert comparison["jets"] == 16_000
    assert read_json(write_json(tmp_path / "cms.json", comparison)) == comparison


def test_the_figures_are_drawn_for_many_and_for_few_jets(comparison, make_jets):
    for found in (comparison, cms_comparison(make_jets(200, 1), PhysicsSettings(replicas=3))):
        for draw in (plot_cms_resolution, plot_cms_flavour):
            figure = draw(found)
            assert all(ax.get_ylabel() for ax in figure.axes[:1])

"""CMS's own regressions in the 200 events of NanoAODv15: the rule of the neutrinos, and gains with errors."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pandas as pd
import pytest
import uproot
from click.testing import CliRunner

from jetcorr_utils.cli import main
from jetcorr_utils.correct import correct_files
from jetcorr_utils.data import describe, read_jets
from jetcorr_utils.errors import InputError
from jetcorr_utils.jerc import CorrectionsChoice
from jetcorr_utils.jets.regressions import REGRESSIONS, regressed
from jetcorr_utils.physics.peers import peer_gains
from tests.nanoaod_files import with_regression, written_again
from tests.networks import exported


@pytest.fixture(scope="module")
def path(real_data):
    return real_data / "nano_tt_v15.root"


@pytest.fixture(scope="module")
def gains(path):
    return peer_gains([path]).set_index(["model", "neutrinos", "against", "gen_pt", "flavour"]).sort_index()


def test_gains_of_200_events(gains):
    """19 and 21 % with 4 % of error, found by hand when the file was looked at first."""
    for model, gain in (("pnet", 0.19), ("upart", 0.21)):
        row = gains.loc[(model, "without", "without", "30-inf", "all")]
        assert row["jets"] == 896
        assert row["gain"] == pytest.approx(gain, abs=0.01)
        assert row["gain_error"] == pytest.approx(0.04, abs=0.015)
    assert set(gains.index.get_level_values("gen_pt")) == {"30-inf", "30-100", "100-300"}
    assert set(gains.index.get_level_values("flavour")) == {"all", "light", "b"}
    assert (gains["gain_error"].dropna() > 0).all()
    counts = gains.loc[("standard", "", "without")]["jets"]
    assert counts["30-100", "light"] + counts["30-100", "b"] <= counts["30-100", "all"] < counts["30-inf", "all"]


def test_the_medians_tell_the_rule_of_the_neutrinos(gains, path):
    for model in REGRESSIONS:
        assert gains.loc[(model, "with", "with", "30-inf", "all")]["median"] == pytest.approx(1.01, abs=0.015)
        assert gains.loc[(model, "with", "with", "30-inf", "b")]["median"] == pytest.approx(1, abs=0.025)
    assert gains.loc[("standard", "", "with", "30-inf", "b")]["median"] < 0.97  # which do not know of neutrinos
    jets = read_jets(path)
    jets = jets[(jets["genJetPt"] > 30) & (np.abs(jets["genJetEta"]) < 2.5)]
    corr, with_neutrinos, _ = (jets[column] for column in REGRESSIONS["upart"].columns)
    mistaken = jets["jetRawPt"] * corr * with_neutrinos / jets["genJetPt"]
    assert np.median(ak.to_numpy(mistaken)) == pytest.approx(1.13, abs=0.015)


def test_factors_by_hand():
    table = {"jetPt": np.array([100.0, 100.0]), "jetRawPt": np.array([90.0, 90.0])}
    for known in REGRESSIONS.values():
        values = dict(zip(known.columns, (1.2, 1.1, 0.12), strict=True))
        table |= {name: np.array([value, 0.0]) for name, value in values.items()}
    expected = {("pnet", False): 1.08, ("pnet", True): 1.188, ("upart", False): 1.08, ("upart", True): 0.99}
    for (name, neutrinos), value in expected.items():
        factor, sigma = regressed(pd.DataFrame(table), name, neutrinos=neutrinos)
        np.testing.assert_allclose(factor, [value, 1])  # a jet without a regression keeps its pt
        np.testing.assert_allclose(sigma, [0.1, np.nan])


def test_the_command_prints_the_table(path, real_data):
    answer = CliRunner().invoke(main, ["results", str(path)])
    assert answer.exit_code == 0
    assert "it has CMS's own regressions pnet and upart" in describe(path).reason
    assert "| UParT of CMS | without | without | 30-inf | all | 896 |" in answer.output
    assert "| UParT of CMS | with | with | 30-inf | all | 896 |" in answer.output
    with pytest.raises(InputError, match=r"pfnano\.root: has none of CMS's regressions"):
        peer_gains([real_data / "pfnano.root"])


def test_regressions_are_models_in_corrected_files(real_data, tmp_path):
    """In the real file with candidates, the columns of regressions that it does not have are planted."""
    source, path = real_data / "v15_ak4_names.root", tmp_path / "planted.root"
    written_again(source, path, with_regression("pnet", 1.25, 0.1))
    assert describe(path).regressions == ("pnet",)
    correct_files([path], exported("pfn"), tmp_path / "out.root", progress=False)
    with uproot.open(tmp_path / "out.root") as file:
        table = file["jets"].arrays(library="np")
    np.testing.assert_allclose(table["pnet_pt"], 1.25 * table["jetRawPt"], rtol=1e-6)
    np.testing.assert_allclose(table["pnet_sigma"], 0.08, rtol=1e-6)
    assert "upart_pt" not in table
    correct_files([path, source], exported("pfn"), tmp_path / "both.root", progress=False)
    with uproot.open(tmp_path / "both.root") as file:
        assert "pnet_pt" not in file["jets"]


@pytest.mark.parametrize("workers", [1, 2])
def test_regressions_alone_need_no_candidates(path, real_data, tmp_path, workers):
    """NanoAODv15 as it is: the official correction, its uncertainty, and both regressions relative to it."""
    choice = CorrectionsChoice(str(real_data / "jet_jerc_2018UL_NanoV15.json.gz"), uncertainties=("Total",))
    options = {"corrections": choice, "workers": workers, "step_size": 1000, "progress": False}
    report = correct_files([path], "regressions", tmp_path / "out.root", **options)
    assert report.models == ("pnet", "upart")
    with uproot.open(tmp_path / "out.root") as file:
        table = file["jets"].arrays(library="np")
    jets = read_jets(path)
    official = choice.load().apply(jets)
    good = np.isfinite(ak.to_numpy(official["jetPt"]))
    np.testing.assert_allclose(table["jetPt"], official["jetPt"][good], rtol=1e-6)
    np.testing.assert_allclose(table["JES_Total_up"], official["JES_Total_up"][good], rtol=1e-6)
    corr = ak.to_numpy(jets["PNetRegPtRawCorr"])[good]
    there = corr > 0
    np.testing.assert_allclose(table["pnet_pt"][there], (corr * table["jetRawPt"])[there], rtol=1e-5)
    np.testing.assert_allclose(table["pnet_pt"][~there], table["jetPt"][~there], rtol=1e-6)
    assert report.corrected == good.sum() > 1600


def test_a_file_without_regressions_is_refused_for_these(real_data, tmp_path):
    with pytest.raises(InputError, match="--model regressions: the files have none of CMS's own in common"):
        correct_files([real_data / "pfnano.root"], "regressions", tmp_path / "out.root", progress=False)

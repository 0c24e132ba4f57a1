"""Residual closure: what is closed stays closed on other jets, through a correctionlib file."""

import correctionlib
import numpy as np
import pytest

from jetcorr_utils.errors import InputError
from jetcorr_utils.jerc import CorrectionsChoice
from jetcorr_utils.physics.closure import apply_closure, derive_closure, l2_relative, load_closure, save_closure
from jetcorr_utils.physics.measurement import measure, pull
from jetcorr_utils.physics.predictions import check_predictions, model_names, response
from jetcorr_utils.physics.profiles import profile


def spoil(table):
    """A network that is off by a few per cent, differently in pt and eta, and too sure of itself."""
    bias = 1 + 0.05 * np.exp(-table["genJetPt"] / 200) - 0.02 * (table["jetEta"].abs() > 1.3)
    return check_predictions(table.assign(pfn_pt=table["pfn_pt"] * bias, pfn_sigma=0.8 * table["pfn_sigma"]))


@pytest.fixture(scope="module")
def splits(toy):
    """Validation and test jets, independent of each other, without flavour dependence."""
    return [spoil(toy(40_000, seed, flavour_shift=0)) for seed in (11, 12)]


@pytest.fixture(scope="module")
def corrections(splits):
    return derive_closure(splits[0], ["standard", "pfn"])


def test_the_median_response_closes_on_other_jets(splits, corrections):
    closed = apply_closure(splits[1], corrections)
    assert model_names(closed) == ["pfn", "pfn_closed"]
    found = measure(closed, ["pfn", "pfn_closed"], progress=False)
    for bins in found["pfn_closed"]["closure"].values():
        for entry in bins.values():
            assert abs(entry["value"]) < max(0.003, 4 * entry["error"])
    assert abs(found["pfn"]["closure"]["0-1.3"]["30-100"]["value"]) > 0.02, "there was something to close"
    fine = profile(closed, ["pfn_closed"], min_jets=1000)
    fine = fine[fine["low"] > 30]
    assert (fine["median"] - 1).abs().max() < 0.01


def test_the_pull_gets_its_width(splits, corrections):
    closed = apply_closure(splits[1], corrections)
    low, high = np.quantile(pull(closed, "pfn_closed"), (0.1587, 0.8413))
    assert (high - low) / 2 == pytest.approx(1, abs=0.02)
    assert np.mean(np.abs(pull(closed, "pfn_closed")) < 1) == pytest.approx(0.6827, abs=0.01)


def test_the_resolution_gain_survives(splits, corrections):
    closed = apply_closure(splits[1], corrections)
    found = measure(closed, ["pfn", "pfn_closed"], progress=False)
    before, after = (found[name]["resolution_gain"]["0-2.5"]["300-1000"] for name in ("pfn", "pfn_closed"))
    assert after["value"] == pytest.approx(before["value"], abs=3 * before["error"])


def test_the_file_is_correctionlib(splits, corrections, tmp_path):
    path = save_closure(corrections, tmp_path / "closure.json")
    evaluator = correctionlib.CorrectionSet.from_file(str(path))
    assert set(evaluator) == {"standard", "pfn", "pfn_sigma"}
    jets = splits[1].iloc[:500]
    expected = apply_closure(jets, corrections)
    found = evaluator["pfn"].evaluate(jets["jetEta"].abs().to_numpy(), jets["pfn_pt"].to_numpy())
    np.testing.assert_allclose(expected["pfn_closed_pt"] / jets["pfn_pt"], found, rtol=1e-12)
    again = apply_closure(jets, load_closure(path))
    np.testing.assert_array_equal(again["pfn_closed_pt"], expected["pfn_closed_pt"])


def test_the_residual_correction_as_cms_has_it(splits, corrections, tmp_path):
    """raw pt × factor × L2Relative is the closed pt; a function of eta of either sign, read as CMS's files are."""
    path = save_closure(l2_relative(corrections), tmp_path / "L2Relative.json")
    level = correctionlib.CorrectionSet.from_file(str(path))
    assert list(level) == ["pfn_MC_L2Relative_AK4PF"]
    assert [entry.name for entry in level["pfn_MC_L2Relative_AK4PF"].inputs] == ["JetEta", "JetPt"]
    jets = splits[1].iloc[:5000]
    raw, factor = jets["jetRawPt"].to_numpy(), (jets["pfn_pt"] / jets["jetRawPt"]).to_numpy()
    found = level["pfn_MC_L2Relative_AK4PF"].evaluate(jets["jetEta"].to_numpy(), raw * factor)
    assert (jets["jetEta"] < 0).any()
    assert np.ptp(found) > 0.01
    np.testing.assert_allclose(raw * factor * found, apply_closure(jets, corrections)["pfn_closed_pt"], rtol=1e-9)
    given = {"jetRawPt": raw * factor, "jetEta": jets["jetEta"].to_numpy()}
    read = CorrectionsChoice(str(path), "L2Relative").load()
    np.testing.assert_allclose(read.factor(given), found, rtol=1e-9)


def test_the_factor_is_continuous_and_constant_at_the_ends(corrections):
    evaluator = correctionlib.CorrectionSet.from_string(corrections.model_dump_json(exclude_unset=True))["pfn"]
    pt = np.geomspace(1, 10_000, 20_001)
    factor = evaluator.evaluate(0.3, pt)
    assert np.abs(np.diff(factor)).max() < 1e-3
    assert factor[0] == factor[2000]
    assert factor[-1] == factor[-1000]
    assert evaluator.evaluate(4.0, 100.0) == evaluator.evaluate(2.4, 100.0)


def test_closing_a_closed_table_changes_nothing_more_than_noise(splits, corrections):
    closed = apply_closure(splits[0], corrections)
    again = apply_closure(closed, derive_closure(closed, ["pfn_closed"]))
    ratio = response(again, "pfn_closed_closed") / response(closed, "pfn_closed")
    assert np.abs(ratio - 1).max() < 0.01


def test_too_few_jets_or_no_file_is_said(splits, tmp_path):
    with pytest.raises(InputError, match=r"closure of pfn: \d+ validation jets in 0 < abs\(eta\) < 1.3"):
        derive_closure(splits[0].iloc[:200], ["pfn"])
    with pytest.raises(InputError, match=r"closure .*nothing\.json"):
        load_closure(tmp_path / "nothing.json")

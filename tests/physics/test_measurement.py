"""metrics.json: the known answer of log-normal toys, the layout, bins with too few jets, and bad input."""

import json

import numpy as np
import pytest

from jetcorr_utils.config import PhysicsSettings
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import write_json
from jetcorr_utils.metrics import flavour_spread
from jetcorr_utils.physics.binning import ETA_BINS, PT_BINS
from jetcorr_utils.physics.measurement import measure, rows_in
from jetcorr_utils.physics.predictions import check_predictions, load_predictions, model_names

BINS = {"30-inf", "30-100", "100-300", "300-1000", "1000-inf"}


def lognormal_resolution(sigma):
    """IQR / median of exp(sigma z)."""
    return 2 * np.sinh(0.6744897501960817 * sigma)


@pytest.fixture(scope="module")
def metrics(predictions):
    return measure(predictions, ["pfn", "particlenet"], PhysicsSettings(replicas=60), progress=False)


def test_the_layout_is_that_of_the_contract(metrics, tmp_path):
    assert set(metrics) == {"pfn", "particlenet", "baseline"}
    for quantity in ("resolution_gain", "flavour_gain", "closure"):
        assert set(metrics["pfn"][quantity]) == {"0-1.3", "1.3-2.5", "0-2.5"}
        for bins in metrics["pfn"][quantity].values():
            assert set(bins) == BINS
            assert all(set(entry) == {"value", "error", "jets"} for entry in bins.values())
    assert {"mae", "jets", "pull_width", "coverage68"} <= set(metrics["pfn"])
    assert "closure" in metrics["baseline"]
    assert "resolution_gain" not in metrics["baseline"]
    assert json.loads(write_json(tmp_path / "metrics.json", metrics).read_text()) == metrics


def test_known_gains_are_found(toy):
    """One width for all jets and no flavour dependence: the gain is a formula."""
    table = check_predictions(toy(60_000, seed=3, sigma=0.1, gain=0.12, flavour_shift=0.0))
    found = measure(table, ["pfn"], PhysicsSettings(replicas=60), progress=False)["pfn"]
    expected = 1 - lognormal_resolution(0.1 * 0.88) / lognormal_resolution(0.1)
    pulls = [
        (entry["value"] - expected) / entry["error"]
        for bins in found["resolution_gain"].values()
        for entry in bins.values()
    ]
    assert np.abs(pulls).max() < 4
    assert found["mae"] == pytest.approx(0.088 * np.sqrt(2 / np.pi), abs=4 * found["mae_error"])
    assert found["pull_width"] == pytest.approx(1, abs=4 * found["pull_width_error"])
    assert found["pull_median"] == pytest.approx(0, abs=4 * found["pull_median_error"])
    assert found["coverage68"] == pytest.approx(0.6827, abs=4 * found["coverage68_error"])
    assert found["coverage95"] == pytest.approx(0.95, abs=4 * found["coverage95_error"])
    assert found["coverage99"] == pytest.approx(0.99, abs=4 * found["coverage99_error"])


def test_known_flavour_gain_is_found(metrics):
    """The toy halves log(median): with medians near 1 that halves the spread."""
    entry = metrics["pfn"]["flavour_gain"]["0-2.5"]["30-inf"]
    assert entry["value"] == pytest.approx(0.5, abs=3.5 * entry["error"])
    assert entry["error"] < 0.1


def test_the_flavour_spread_of_the_published_medians():
    medians = np.array([1.018, 1.021, 1.001, 1.002, 0.999, 0.996])
    assert flavour_spread(medians) == pytest.approx(np.abs(medians - medians.mean()).sum())
    assert flavour_spread(np.full((3, 6), 1.02)) == pytest.approx([0, 0, 0])


def test_a_correction_without_flavour_dependence_scores_the_reach(toy):
    """The gain cannot be 100 %: the sum of absolute deviations has a floor, which the bootstrap knows."""
    gains, reaches = [], []
    for seed in range(12):
        table = check_predictions(toy(8_000, seed + 50, flavour_gain=1.0))
        found = measure(table, ["pfn"], PhysicsSettings(replicas=40), progress=False)["pfn"]
        gains.append(found["flavour_gain"]["0-2.5"]["30-inf"]["value"])
        reaches.append(found["flavour_reach"]["0-2.5"]["30-inf"]["value"])
    assert np.mean(reaches) < 0.95
    assert np.mean(gains) == pytest.approx(np.mean(reaches), abs=4 * np.std(gains) / np.sqrt(12))


def test_the_error_of_the_gain_is_the_spread_of_repeated_experiments(toy):
    found = [
        measure(check_predictions(toy(2_500, seed + 100)), ["pfn"], PhysicsSettings(replicas=50), progress=False)["pfn"]
        for seed in range(40)
    ]
    for quantity in ("resolution", "resolution_gain", "flavour_gain"):
        entries = [one[quantity]["0-2.5"]["30-inf"] for one in found]
        spread = np.std([entry["value"] for entry in entries], ddof=1)
        # The spread of 40 experiments is known to 11 %; the flavour gain's bootstrap adds noise to noise.
        assert np.mean([entry["error"] for entry in entries]) == pytest.approx(spread, rel=0.4), quantity


def test_pairing_makes_the_error_of_the_gain_small(metrics):
    """Model and baseline share their noise: the gain's error is far below what independent errors would give."""
    eta, pt = "0-2.5", "30-inf"
    model, base = (metrics[name]["resolution"][eta][pt] for name in ("pfn", "baseline"))
    unpaired = np.hypot(model["error"], base["error"]) / base["value"]
    assert metrics["pfn"]["resolution_gain"][eta][pt]["error"] < 0.7 * unpaired


def test_the_order_of_the_jets_does_not_matter(predictions):
    settings = PhysicsSettings(replicas=5)
    jets = predictions.iloc[:4_000]
    shuffled = jets.sample(frac=1, random_state=1).reset_index(drop=True)
    first, second = (measure(table, ["pfn"], settings, progress=False) for table in (jets, shuffled))
    for eta, bins in first["pfn"]["resolution_gain"].items():
        for pt, entry in bins.items():
            assert entry == second["pfn"]["resolution_gain"][eta][pt]


def test_a_bin_with_too_few_jets_has_no_value_but_says_how_many(predictions):
    low = predictions[predictions["genJetPt"] < 200].reset_index(drop=True)
    found = measure(low, ["pfn"], PhysicsSettings(replicas=3), progress=False)["pfn"]["resolution_gain"]["0-2.5"]
    assert found["1000-inf"] == {"value": None, "error": None, "jets": 0}
    inside = rows_in(low, PT_BINS[1], ETA_BINS[2])
    assert found["30-100"]["jets"] == len(inside)
    assert found["30-100"]["value"] is not None


def test_files_are_read_as_they_were_written(predictions_files, predictions):
    first = load_predictions(predictions_files[0])
    assert model_names(first) == ["pfn", "particlenet"]
    assert first["pfn_pt"].to_numpy() == pytest.approx(predictions["pfn_pt"].iloc[:9_000].to_numpy())
    assert set(first["flavour"]) <= {0, 1, 2, 3, 4, 5, 21}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table.drop(columns="rhoAll"), "branch rhoAll is missing"),
        (lambda table: table.assign(genJetPt=-1.0), "no jet has a generator jet"),
    ],
)
def test_unusable_tables_are_refused_by_name(toy, spoil, message):
    with pytest.raises(InputError, match=message):
        check_predictions(spoil(toy(50)), "bad.root")


def test_a_model_that_is_not_there_or_not_finite_is_refused(predictions):
    with pytest.raises(InputError, match="no correction 'gnn'"):
        measure(predictions, ["gnn"], PhysicsSettings(replicas=2), progress=False)
    broken = predictions.assign(pfn_sigma=np.nan)
    with pytest.raises(InputError, match="pfn_sigma is not a positive number for 20000 of 20000"):
        measure(broken, ["pfn"], PhysicsSettings(replicas=2), progress=False)


def test_a_correction_without_a_resolution_has_no_pull(predictions):
    without = predictions.drop(columns="pfn_sigma")
    found = measure(without, ["pfn"], PhysicsSettings(replicas=2), progress=False)["pfn"]
    assert "pull_width" not in found
    assert found["resolution_gain"]["0-2.5"]["30-inf"]["value"] is not None


@pytest.mark.parametrize("content", [b"", b"not a ROOT file at all, but long enough to have a header" * 10])
def test_a_file_that_is_not_root_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "bad.root"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_predictions(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)

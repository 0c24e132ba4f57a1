"""The spread of training seeds: combined by hand, and refused where there is nothing to combine."""

import numpy as np
import pytest

from jetcorr_utils.config import PhysicsSettings
from jetcorr_utils.errors import InputError
from jetcorr_utils.physics import measure, results_table
from jetcorr_utils.physics.seeds import with_seed_spread


@pytest.fixture(scope="module")
def metrics(predictions):
    return measure(predictions, ["pfn", "particlenet"], PhysicsSettings(replicas=10), progress=False)


def test_mean_and_both_errors(metrics):
    found = with_seed_spread(metrics, {"network": ["pfn", "particlenet"]})
    assert set(found) == {"baseline", "network"}
    one, other, both = (
        source[name]["resolution_gain"]["0-1.3"]["30-100"]
        for source, name in ((metrics, "pfn"), (metrics, "particlenet"), (found, "network"))
    )
    assert both["value"] == pytest.approx((one["value"] + other["value"]) / 2)
    assert both["seed_spread"] == pytest.approx(abs(one["value"] - other["value"]) / np.sqrt(2))
    assert both["error"] == pytest.approx(np.hypot((one["error"] + other["error"]) / 2, both["seed_spread"]))
    assert both["jets"] == one["jets"]
    assert found["network"]["mae"] == pytest.approx((metrics["pfn"]["mae"] + metrics["particlenet"]["mae"]) / 2)
    assert found["network"]["jets"] == metrics["pfn"]["jets"]
    assert len(results_table(found)) == 30


def test_a_bin_without_a_value_stays_without(predictions):
    low = predictions[predictions["genJetPt"] < 200].reset_index(drop=True)
    few = measure(low, ["pfn", "particlenet"], PhysicsSettings(replicas=3), progress=False)
    found = with_seed_spread(few, {"network": ["pfn", "particlenet"]})
    assert found["network"]["resolution_gain"]["0-2.5"]["1000-inf"] == {"value": None, "error": None, "jets": 0}


@pytest.mark.parametrize(
    ("models", "message"), [(["pfn"], "two trainings"), (["pfn", "pfn_seed2"], "no model 'pfn_seed2'")]
)
def test_what_cannot_be_combined_is_said(metrics, models, message):
    with pytest.raises(InputError, match=message):
        with_seed_spread(metrics, {"pfn": models})

"""What precision costs: changes are paired, so that they are measured far better than the numbers themselves."""

from __future__ import annotations

import numpy as np
import pytest

from jetcorr_utils.config import PhysicsSettings
from jetcorr_utils.physics import plot_precision_cost, precision_cost


def _jets(count=4000):
    rng = np.random.default_rng(1)
    gen = rng.uniform(40, 500, count)
    response = 1 + 0.1 * rng.standard_normal(count)
    table = dict.fromkeys(
        ("run", "lumi", "jetPtOrder", "jetEta", "genJetEta", "partonFlav", "rhoAll"), np.zeros(count)
    ) | {
        "event": np.arange(count), "jetPt": gen * response, "jetRawPt": gen * response, "genJetPt": gen,
        "hadronFlav": np.full(count, 5),
    }  # fmt: skip
    return table, -0.5 * np.log(response), rng


def test_changes_are_measured_jet_by_jet():
    table, log_factor, rng = _jets()
    sigma = np.full(len(log_factor), 0.1)
    noisy = log_factor + 0.05 * rng.standard_normal(len(log_factor))
    variants = {"float32": (log_factor, sigma), "shifted": (log_factor + 1e-3, sigma), "noisy": (noisy, sigma)}
    cost = precision_cost(table, variants, PhysicsSettings(replicas=50)).set_index("variant")
    changes = cost.filter(regex="_change")
    assert (changes.loc["float32"] == 0).all()
    assert cost.loc["shifted", "closure_change"] == pytest.approx(1e-3, rel=0.01)
    assert cost.loc["shifted", "closure_change_error"] < 1e-5
    # A factor for all jets changes no relative width
    assert cost.loc["shifted", "resolution_gain_change"] == pytest.approx(0, abs=1e-9)
    assert cost.loc["noisy", "resolution_gain_change"] < -5 * cost.loc["noisy", "resolution_gain_change_error"] < 0
    assert cost.loc["noisy", "mae_change"] > 0
    figure = plot_precision_cost({"pfn": cost.reset_index()})
    assert [ax.get_ylabel().split(" [")[0] for ax in figure.axes] == [
        "Change of resolution gain", "Change of closure", "Change of the MAE",
    ]  # fmt: skip

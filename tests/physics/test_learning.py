"""Figures of a training, for many jets and for few."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from jetcorr_utils.config import PfnSettings, TrainingSettings
from jetcorr_utils.models import build_model
from jetcorr_utils.models.inputs import sample_rows
from jetcorr_utils.physics import (
    compare_parts,
    overfitting,
    plot_history,
    plot_learning_rate,
    plot_overfitting,
    plot_prediction,
)
from tests.clouds import random_clouds


@pytest.mark.parametrize("jets", [1, 3, 2000])
def test_predictions_are_drawn_for_many_and_for_few_jets(jets):
    generator = np.random.default_rng(1)
    target = generator.normal(0, 0.1, jets)
    figure = plot_prediction(target, target / 2, "PFN")
    (image,) = (mesh for mesh in figure.axes[0].collections if mesh.get_array() is not None)
    assert image.norm.vmin == 1
    assert image.norm.vmax >= 2
    figure.canvas.draw()


def test_the_median_prediction_follows_the_truth():
    target = np.random.default_rng(1).normal(0, 0.1, 5000)
    figure = plot_prediction(target, target / 2)
    (points,) = (shown for shown in figure.axes[0].containers if shown.get_label() == "Median prediction")
    x, y = (np.asarray(values, dtype=float) for values in points.lines[0].get_data())
    assert len(x) > 5
    np.testing.assert_allclose(y, x / 2, atol=0.01)


def jets(number, error, seed):
    """Gen pt, truth and a prediction that is off by `error` times a normal number."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(0, 0.1, number)
    return generator.uniform(30, 1000, number), truth, truth + error * generator.normal(size=number)


def test_a_network_that_learned_by_heart_has_a_significant_gap():
    fair = overfitting(jets(5000, 0.05, 1), jets(2000, 0.05, 2))
    assert abs(fair["significance"]) < 3
    heart = overfitting(jets(5000, 0.05, 1), jets(2000, 0.07, 2))
    assert heart["significance"] > 10
    assert heart["gap"] == pytest.approx(heart["validation"] - heart["training"])
    assert heart["training"] == pytest.approx(0.05 * np.sqrt(2 / np.pi), rel=0.05)
    assert heart["error"] == pytest.approx(0.603 * np.hypot(0.05 / np.sqrt(5000), 0.07 / np.sqrt(2000)), rel=0.1)


def test_the_gap_is_drawn_where_it_is():
    pt, truth, prediction = jets(4000, 0.05, 2)
    worse = np.where(pt > 500, 2, 1) * (prediction - truth)
    figure = plot_overfitting(jets(4000, 0.05, 1), (pt, truth, truth + worse))
    (points,) = figure.axes[1].containers
    x, ratio = (np.asarray(values, float) for values in points.lines[0].get_data())
    np.testing.assert_allclose(ratio[x < 400], 1, atol=0.2)
    np.testing.assert_allclose(ratio[x > 600], 2, atol=0.4)


@pytest.mark.parametrize("most", [None, 15])
def test_seen_are_the_jets_that_the_network_was_trained_on(most):
    clouds = random_clouds(60)
    clouds.part[:20] = 1
    training = TrainingSettings(max_jets=most, seed=3)
    model = build_model(PfnSettings(architecture="pfn", conv_dim=8, fc_dim=8, training=training)).eval()
    (_, seen, _), (_, unseen, _) = compare_parts(model, clouds)
    known = clouds.target[20:] if most is None else clouds.target[20:][sample_rows(40, most, 3)]
    np.testing.assert_array_equal(seen, known)
    np.testing.assert_array_equal(unseen, clouds.target[:20])


def test_the_best_epoch_is_that_of_the_checkpoint():
    history = pd.DataFrame({"epoch": [1, 2, 3], "train_mae": 0.1, "validation_mae": [0.12, 0.10, 0.11],
                            "validation_loss": [0.3, 0.2, 0.1], "learning_rate": 1e-3})  # fmt: skip
    (star,) = (line for line in plot_history(history, 0.2).axes[0].lines if line.get_label() == "Best epoch")
    assert list(star.get_xdata()) == [3]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_gap_of_few_jets_is_drawn(number):
    plot_overfitting(jets(number, 0.05, 1), jets(number, 0.05, 2)).canvas.draw()


def test_the_finders_rates_are_marked():
    rates = np.geomspace(1e-5, 1, 20)
    curve = pd.DataFrame({"learning_rate": rates, "loss": 1 - 0.1 * np.sin(3 * rates), "smooth": 1 - 0.1 * rates})
    ax = plot_learning_rate(curve, 1e-3, 2e-3, "PFN").axes[0]
    marked = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() in ("--", ":")]
    assert marked == [1e-3, 2e-3]

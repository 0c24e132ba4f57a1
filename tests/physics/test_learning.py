"""Figures of a training, for many jets and for few."""

from __future__ import annotations

import numpy as np
import pytest

from jetcorr_utils.physics import plot_prediction


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

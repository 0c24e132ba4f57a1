"""Prior dependence: the weights give the spectrum that is asked for, and the known shift is found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils import physics
from jetcorr_utils.config import PhysicsSettings
from jetcorr_utils.physics.predictions import check_predictions
from jetcorr_utils.physics.prior import prior_profile, spectrum_weights, weighted_median


@pytest.mark.parametrize("power", [1.0, 3.0, 5.0])
def test_weights_give_the_power_law(power):
    rng = np.random.default_rng(1)
    gen_pt = np.concatenate([30 * 50 ** rng.random(200_000), rng.uniform(30, 1500, 200_000)])
    weights = spectrum_weights(gen_pt, power, full=30)
    assert weights.mean() == pytest.approx(1)
    edges = np.geomspace(35, 1200, 8)
    found = np.histogram(gen_pt, edges, weights=weights)[0]
    log, power_law = np.diff(np.log(edges)), -np.diff(edges ** (1 - power))
    expected = log if power == 1 else power_law
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), rtol=0.03)


def test_jets_that_the_selection_has_taken_are_not_put_back():
    """A spectrum flat in log(pt) of which half the jets below 50 GeV are gone: the other half keeps its weight."""
    rng = np.random.default_rng(1)
    gen_pt = 20 * 50 ** rng.random(400_000)
    kept = gen_pt[(gen_pt > 50) | (rng.random(400_000) < 0.5)]
    weights = spectrum_weights(kept, 3.0)
    edges = np.array([20, 30, 45, 55, 80, 200.0])
    found = np.histogram(kept, edges, weights=weights)[0] / -np.diff(edges**-2.0)
    assert found[[0, 1]] / found[4] == pytest.approx(0.5, rel=0.05)
    assert found[3] / found[4] == pytest.approx(1, rel=0.05)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.integers(0, 100))
def test_the_weighted_median_halves_the_weight_to_one_jet(values, seed):
    weights = np.random.default_rng(seed).uniform(0.1, 2, len(values))
    median = weighted_median(values, weights)
    below = weights[np.array(values) < median].sum()
    above = weights[np.array(values) > median].sum()
    assert max(below, above) <= weights.sum() / 2 + weights.max()
    assert min(values) <= median <= max(values)


def test_equal_weights_give_the_median():
    values = np.random.default_rng(2).normal(size=1001)
    assert weighted_median(values, np.full(1001, 0.3)) == pytest.approx(np.median(values))


def test_the_known_shift_of_a_falling_spectrum_is_found(toy):
    """For response exp(s z) and dN/dpt as pt^-a, gen pt at a given pt is log-normal around exp(-(a-1) s²) of it."""
    table = check_predictions(toy(60_000, 4, sigma=0.1, gain=0.0, flavour_shift=0))
    found = prior_profile(table, "pfn", (None, 5.0), PhysicsSettings(replicas=20), min_jets=200)
    middle = found[(found["low"] > 60) & (found["high"] < 700)]
    flat, falling = middle[middle["power"].isna()], middle[middle["power"] == 5]
    assert len(flat) > 4
    assert len(falling) > 4
    assert (np.abs(flat["median"] - 1) < 4 * flat["median_error"]).all()
    assert (np.abs(falling["median"] - np.exp(4 * 0.1**2)) < 4 * falling["median_error"] + 0.002).all()


def test_the_figure_survives_few_jets(predictions):
    settings = PhysicsSettings(replicas=3)
    for jets in (20, 4_000):
        figure = physics.plot_prior_dependence(predictions.iloc[:jets], ["standard", "pfn"], settings=settings)
        assert len(figure.axes) == 2

"""The bootstrap: exact quantiles, Poisson weights that depend on the event alone, errors of the right size."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jetcorr_utils.bootstrap import Bootstrap, estimate, event_keys, poisson_weights, weighted_quantiles


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_weighted_quantiles_are_those_of_the_repeated_values(seed, size, probabilities):
    rng = np.random.default_rng(seed)
    values, weights = rng.normal(size=size).round(1), rng.poisson(1, (3, size)).astype(np.uint8)
    probabilities = sorted(probabilities)
    found = weighted_quantiles(values, weights, probabilities)
    for row, weight in zip(found, weights, strict=True):
        if weight.sum() == 0:
            assert np.isnan(row).all()
        else:
            np.testing.assert_allclose(row, np.quantile(np.repeat(values, weight), probabilities), atol=1e-12)


def test_quantiles_of_no_values_are_not_a_number():
    assert np.isnan(weighted_quantiles([], np.ones((2, 5), np.uint8), (0.5,), np.array([], np.int64))).all()


def test_rows_pick_the_weights_of_a_subset():
    rng = np.random.default_rng(0)
    values, weights, rows = rng.normal(size=100), rng.poisson(1, (4, 100)).astype(np.uint8), np.arange(3, 90, 4)
    subset = weighted_quantiles(values[rows], weights, (0.25, 0.75), rows)
    np.testing.assert_array_equal(subset, weighted_quantiles(values[rows], weights[:, rows], (0.25, 0.75)))


def test_weights_are_poisson_distributed_and_independent():
    weights = poisson_weights(event_keys(np.ones(40_000), np.ones(40_000), np.arange(40_000)), 25)
    counts = np.bincount(weights.ravel(), minlength=8)[:8]
    expected = stats.poisson.pmf(np.arange(8), 1) * weights.size
    assert ((counts - expected) ** 2 / expected)[expected > 20].sum() < 30  # chi-squared, 6 degrees of freedom
    correlation = np.corrcoef(weights) - np.eye(25)
    assert np.abs(correlation).max() < 5 / np.sqrt(40_000)


def test_weights_follow_the_event_whatever_its_place():
    run, lumi, event = np.array([1, 1, 2]), np.array([5, 5, 5]), np.array([7, 2**40, 7], np.uint64)
    weights = poisson_weights(event_keys(run, lumi, event), 50, seed=3)
    again = poisson_weights(event_keys(run[::-1], lumi[::-1], event[::-1]), 50, seed=3)
    np.testing.assert_array_equal(weights, again[:, ::-1])
    assert (weights[:, 0] != weights[:, 2]).any(), "another run is another event"
    assert (weights != poisson_weights(event_keys(run, lumi, event), 50, seed=4)).any()


def test_the_error_of_a_median_is_the_known_one():
    """For n normal numbers the median's standard deviation is sqrt(pi / 2n)."""
    size = 20_000
    table = pd.DataFrame({"run": 1, "lumi": 1, "event": np.arange(size)})
    values = np.random.default_rng(5).normal(size=size)
    bootstrap = Bootstrap(table, replicas=400)
    measured = estimate(bootstrap.median(values, np.arange(size)), size)
    assert measured["error"] == pytest.approx(np.sqrt(np.pi / 2 / size), rel=0.15)
    assert measured["value"] == np.median(values)
    mean = estimate(bootstrap.mean(values, np.arange(size)), size)
    assert mean["error"] == pytest.approx(1 / np.sqrt(size), rel=0.15)


def test_jets_of_one_event_are_drawn_together():
    """Twice the same jets carry no more information: the error must not shrink."""
    events = np.arange(5_000)
    once = pd.DataFrame({"run": 1, "lumi": 1, "event": events})
    twice = pd.concat([once, once], ignore_index=True)
    values = np.random.default_rng(6).normal(size=5_000)
    errors = [
        estimate(Bootstrap(table, 100).mean(np.tile(values, copies), np.arange(len(table))), 1)["error"]
        for copies, table in ((1, once), (2, twice))
    ]
    assert errors[1] == pytest.approx(errors[0], rel=1e-4)


def test_one_replica_gives_no_error():
    assert estimate(np.array([1.0, 1.1]), 3) == {"value": 1.0, "error": None, "jets": 3}


def test_the_effective_sigma_of_normal_numbers_is_theirs_and_ignores_tails():
    size = 40_000
    rng = np.random.default_rng(8)
    table = pd.DataFrame({"run": 1, "lumi": 1, "event": np.arange(size)})
    bootstrap, rows = Bootstrap(table, replicas=50), np.arange(size)
    values = rng.normal(2, 0.3, size)
    measured = estimate(bootstrap.effective_sigma(values, rows), size)
    assert measured["value"] == pytest.approx(0.3, abs=4 * measured["error"])
    assert measured["error"] < 0.01
    values[:200] += 50
    assert estimate(bootstrap.effective_sigma(values, rows), size)["value"] == pytest.approx(0.3, abs=0.01)


def test_the_shortest_interval_is_the_shortest_of_all():
    rng = np.random.default_rng(9)
    values = rng.exponential(size=50)
    found = Bootstrap(pd.DataFrame({"run": 1, "lumi": 1, "event": np.arange(50)}), 2).effective_sigma(
        values, np.arange(50)
    )[0]
    ordered, needed = np.sort(values), int(np.ceil(0.6827 * 50))
    lengths = [ordered[first + needed - 1] - ordered[first] for first in range(50 - needed + 1)]
    assert found == pytest.approx(min(lengths) / 2)

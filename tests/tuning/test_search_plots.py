"""The figures of a search, and the tables behind them, on a search whose outcome is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from jetcorr_utils.config import PfnSettings, Space
from jetcorr_utils.metrics import trial_metrics
from jetcorr_utils.tuning import SearchResult, pareto_front, search_plots

SPACE = TypeAdapter(dict[str, Space]).validate_python(
    {
        "conv_dim": {"choices": [50, 100, 200]},
        "dropout": {"min": 0.0, "max": 0.2},
        "training.learning_rate": {"min": 1e-4, "max": 1e-2, "log": True},
        "training.optimizer": {"choices": ["adam", "ranger"]},
    }
)


@pytest.fixture
def result(tmp_path) -> SearchResult:
    """Forty trials whose error is that of the learning rate's distance from 1e-3 alone; some did not end well."""
    rng = np.random.default_rng(1)
    n = 40
    rate = np.exp(rng.uniform(np.log(1e-4), np.log(1e-2), n))
    trials = pd.DataFrame(
        {
            "state": ["complete"] * (n - 6) + ["pruned"] * 2 + ["constant"] * 2 + ["failed"] * 2,
            "conv_dim": rng.choice([50, 100, 200], n),
            "dropout": rng.uniform(0, 0.2, n),
            "training.learning_rate": rate,
            "training.optimizer": rng.choice(["adam", "ranger"], n),
            **{metric: rng.uniform(1, 2, n) for metric in trial_metrics()},
            "folder": [f"{number:03d}" for number in range(n)],
            "error": [None] * (n - 2) + ["TrainingError: the loss is nan"] * 2,
        },
        index=pd.RangeIndex(n, name="number"),
    )
    trials["constant_mae"] = 0.09
    trials["mae"] = 0.08 + 0.004 * np.abs(np.log(rate / 1e-2))
    trials.loc[trials["state"] == "constant", "mae"] = 0.12
    trials.loc[trials["state"] == "failed", "mae"] = np.nan
    histories = pd.DataFrame(
        [
            {"trial": number, "epoch": epoch, "validation_mae": row["mae"] + 0.01 / epoch}
            for number, row in trials.iterrows()
            for epoch in range(1, 5)
            if np.isfinite(row["mae"])
        ]
    )
    return SearchResult(tmp_path, PfnSettings(architecture="pfn"), SPACE, trials, histories)


@pytest.mark.parametrize("speeds", [(23505, 23985), (3500, 89000), (8000, 25000), (9e4, 1.1e5), (97000, 2.2e5),
                                    (4e5, 9e5), (100, 90000), (30, 3e6), (5e5, 5e5)])  # fmt: skip
def test_numbers_at_the_axis_of_speed_do_not_touch(result, speeds):
    result.trials["jets_per_s"] = np.geomspace(*speeds, len(result.trials))
    figure = search_plots.plot_pareto(result)
    figure.draw_without_rendering()
    ax = figure.axes[0]
    labels = [tick.label1 for tick in ax.xaxis.get_major_ticks() if tick.label1.get_visible()]
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    boxes = sorted((box.x0, box.x1) for box in boxes if ax.bbox.x0 <= (box.x0 + box.x1) / 2 <= ax.bbox.x1)
    assert len(boxes) >= 2
    height = labels[0].get_window_extent().height
    assert all(right - left > height / 2 for (_, left), (right, _) in pairwise(boxes))


def test_correlations_take_the_logarithm_of_what_is_sampled_so(result):
    table = result.correlations()
    assert list(table.index) == ["conv_dim", "dropout", "training.learning_rate"]  # words have no correlation
    assert table.loc["training.learning_rate"].to_numpy() == pytest.approx([-1, -1, -1])
    assert (table.drop("training.learning_rate").abs() < 0.5).all(axis=None)


def test_the_parameter_that_decides_is_the_most_important(result):
    shares = result.importance()
    assert shares.index[0] == "training.learning_rate"
    assert shares.sum() == pytest.approx(1)
    assert shares.iloc[0] > 0.5


def test_importance_leaves_out_settings_outside_the_space(result):
    result.trials.loc[0, "conv_dim"] = 64
    assert set(result.importance().index) == set(SPACE)


def test_importance_of_too_few_trials_is_empty(result):
    few = SearchResult(result.folder, result.settings, SPACE, result.trials[:3], result.histories)
    assert few.importance().empty
    assert search_plots.plot_importance(few).axes[0].texts[0].get_text() == "Too few complete trials"


def test_nothing_beats_a_trial_of_the_pareto_front(result):
    metrics = ("mae", "resolution_gain", "jets_per_s")
    table = result.complete
    front = result.pareto(metrics)
    assert result.best in front.index
    for number, row in table.iterrows():
        others = table.drop(number)
        beaten = (
            (others["mae"] <= row["mae"])
            & (others["resolution_gain"] >= row["resolution_gain"])
            & (others["jets_per_s"] >= row["jets_per_s"])
        ).any()
        assert (number in front.index) == (not beaten)


def test_equal_trials_are_all_on_the_front():
    table = pd.DataFrame({"mae": [0.1, 0.1, 0.2], "jets_per_s": [5.0, 5.0, 5.0]})
    assert pareto_front(table, ("mae", "jets_per_s")).tolist() == [True, True, False]


@pytest.mark.parametrize("name", [name for name in search_plots.__all__ if name != "plot_comparison"])
def test_each_figure_has_labels_and_is_drawn(result, name, tmp_path):
    figure = getattr(search_plots, name)(result)
    figure.savefig(tmp_path / "figure.png")
    texts = [text for ax in figure.axes for text in (ax.get_xlabel(), ax.get_ylabel(), ax.get_title())]
    assert any(texts)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_the_history_falls_to_the_best(result):
    axes = search_plots.plot_history(result).axes[0]
    best = next(line for line in axes.lines if line.get_label() == "Best so far")
    steps = np.asarray(best.get_ydata())
    assert (np.diff(steps) <= 0).all()
    assert steps[-1] == result.trials["mae"][result.best]


def test_the_box_plots_count_the_trials(result):
    axes = search_plots.plot_optimizers(result).axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert sum(int(label.split()[1]) for label in labels) == 34
    assert sum(int(label.split()[3]) for label in labels) == 38  # those that failed have no error

"""Repeated searches: the same compute for each method, and a best error that only falls."""

from __future__ import annotations

import pandas as pd
import pytest

from jetcorr_utils.tuning.comparison import METHODS, compare_searches
from jetcorr_utils.tuning.search_plots import plot_comparison


@pytest.mark.slow
def test_each_method_spends_the_same_compute(study, clouds, tmp_path):
    short = study.model_copy(update={"tuning": study.tuning.model_copy(update={"trials": 3, "max_jets": 200})})
    table = compare_searches(short, *clouds, tmp_path, seeds=[1, 2], progress=False)
    budget = 3 * study.tuning.epochs
    assert {tuple(key) for key in table[["method", "seed"]].to_numpy()} == {(m, s) for m in METHODS for s in (1, 2)}
    for (method, _), course in table.groupby(["method", "seed"]):
        assert course["epochs"].is_monotonic_increasing
        assert course["epochs"].iloc[-1] == budget if method == "random" else course["epochs"].iloc[-1] <= budget
        assert (course["best"].dropna().diff().dropna() <= 0).all()
        assert 0 not in set(course["number"])  # the study's own settings are in no course
    again = compare_searches(short, *clouds, tmp_path, seeds=[1, 2], progress=False)
    pd.testing.assert_frame_equal(again, table)
    labels = plot_comparison(table).axes[0].get_legend_handles_labels()[1]
    assert labels == [f"{method[0].upper()}{method[1:]}, 2 searches" for method in METHODS]

"""The table of metrics: what may be added to it, and that no name in it means anything elsewhere."""

from __future__ import annotations

import ast

import numpy as np
import pytest

from jetcorr_utils.bootstrap import Bootstrap
from jetcorr_utils.config import project_root
from jetcorr_utils.errors import InputError
from jetcorr_utils.metrics import METRICS, Jets, Metric, add_metric, gains_in, shown_metrics, trial_metrics


def median(jets: Jets) -> np.ndarray:
    return jets.median


def test_a_metric_of_ones_own_is_noted_of_trials_and_shown(tables):
    add_metric(Metric("median", "median", "zero", function=median))
    assert trial_metrics()[-1] == "median"
    assert shown_metrics()[-1].name == "median"
    response = np.array([0.9, 1.0, 1.2])
    jets = Jets(Bootstrap.of_data(3), response, np.arange(3), None)
    assert METRICS["median"].measure(jets).tolist() == [1.0]


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Metric("mae", "again", "less", function=median), "metric 'mae': there is one of this name already"),
        (Metric("new", "new", "less"), "metric 'new': has no function"),
    ],
)
def test_a_metric_that_cannot_be_one_is_refused(tables, metric, message):
    with pytest.raises(InputError, match=message):
        add_metric(metric)


def test_flavours_with_too_few_jets_give_no_number():
    jets = Jets(Bootstrap.of_data(3), np.array([0.9, 1.0, 1.2]), np.arange(3), None)
    unknown = {name for name, metric in METRICS.items() if metric.function and metric.measure(jets) is None}
    assert unknown == {"flavour_spread", "flavour_gain", "flavour_range", "flavour_reach"}


def test_the_models_of_metrics_json_are_told_by_their_gains():
    assert gains_in({"mae": 0.1, "flavour_gain": {}})
    assert not gains_in({"mae": 0.1, "closure": {}})
    assert not gains_in("flavour_gain")


def test_no_code_asks_for_the_name_of_a_metric():
    package, found = project_root() / "jetcorr_utils", []
    for path in package.rglob("*.py"):
        if path == package / "metrics.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Compare(left=left, comparators=[*others]):
                    parts = [left, *others]
                case ast.Call(func=ast.Attribute(attr="startswith" | "endswith" | "removesuffix"), args=[*parts]):
                    pass
                case _:
                    continue
            names = [part.value for part in parts if isinstance(part, ast.Constant) and part.value in METRICS]
            found += [f"{path.relative_to(package)}:{node.lineno}: {name}" for name in names]
    assert not found

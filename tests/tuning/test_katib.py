"""Trial objects of a finished Katib experiment, made with the typed models of its API, read as a search."""

from __future__ import annotations

import json

import numpy as np
import pytest
from kubeflow_katib_api import models

from jetcorr_utils.config import load_study
from jetcorr_utils.errors import InputError
from jetcorr_utils.tuning import import_experiment, load_search, search_plots
from jetcorr_utils.tuning.katib_trial import run_cluster_trial

GOOD = {"mae": "0.080", "resolution_gain": "0.05", "flavour_spread": "0.02", "closure": "-0.001",
        "jets_per_s": "9000", "parameters": "12000", "seconds": "30"}  # fmt: skip


def trial(number: int, condition: str | None, metrics: dict[str, str] | None = None, **parameters) -> dict:
    """A Trial as the API gives it; the later its number, the earlier it ended."""
    values = {"conv_layers": "2", "conv_dim": "16", "training.learning_rate": "0.001"} | parameters
    conditions = [("Created", "True"), ("Running", "False" if condition else "True")]
    conditions += [(condition, "True")] if condition else []
    status = models.V1beta1TrialStatus(
        conditions=[
            models.V1beta1TrialCondition(type=kind, status=status, reason="", message=f"trial {kind.lower()}")
            for kind, status in conditions
        ],
        observation=models.V1beta1Observation(
            metrics=[models.V1beta1Metric(name=n, latest=v, max=v, min=v) for n, v in (metrics or {}).items()]
        ),
    )
    spec = models.V1beta1TrialSpec(
        parameter_assignments=[models.V1beta1ParameterAssignment(name=n, value=v) for n, v in values.items()]
    )
    made = {"apiVersion": "kubeflow.org/v1beta1", "kind": "Trial", "metadata": {"name": f"jetcorr-{number}"}}
    made |= {"spec": spec.to_dict(), "status": status.to_dict()}
    if condition:
        made["status"]["completionTime"] = f"2026-01-01T00:00:{59 - number:02d}Z"
    return made


TRIALS = [
    trial(0, "Succeeded", GOOD),
    trial(1, "Succeeded", GOOD | {"mae": "0.075"}, conv_dim="32"),
    trial(2, "EarlyStopped", {"mae": "0.085"}),
    trial(3, "Failed"),
    trial(4, "MetricsUnavailable", {"mae": "unavailable"}),
    trial(5, "Succeeded", {"mae": "0.1", "seconds": "3"}),  # stopped, because it was no better than a constant
    trial(6, None, {"mae": "0.2"}),
]


@pytest.fixture
def study():
    return load_study("smoke")


def test_a_finished_experiment_is_a_search(study, tmp_path):
    result = import_experiment(TRIALS, study, tmp_path)
    trials = result.trials.set_index("folder")
    assert dict(trials["state"]) == {
        "jetcorr-5": "constant", "jetcorr-4": "failed", "jetcorr-3": "failed", "jetcorr-2": "pruned",
        "jetcorr-1": "complete", "jetcorr-0": "complete",
    }  # fmt: skip
    assert list(trials.index) == [f"jetcorr-{n}" for n in (5, 4, 3, 2, 1, 0)]  # as they ended; number 6 still runs
    assert trials["error"]["jetcorr-3"] == "Failed: trial failed"
    assert np.isnan(trials["mae"]["jetcorr-4"])
    assert result.trials["folder"][result.best] == "jetcorr-1"
    assert result.best_values == {"conv_layers": 2, "conv_dim": 32, "training.learning_rate": 1e-3}
    assert result.best_settings.conv_dim == 32
    assert load_search(tmp_path).trials.equals(result.trials)


def test_what_kubectl_writes_is_read(study, tmp_path):
    path = tmp_path / "trials.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": TRIALS}))
    assert len(import_experiment(path, study, tmp_path / "search").trials) == 6


def test_a_trial_with_its_own_record_keeps_it(study, tmp_path):
    first = import_experiment(TRIALS[:2], study, tmp_path)
    changed = [trial(0, "Succeeded", GOOD | {"mae": "0.5"}), *TRIALS[1:3]]
    again = import_experiment(changed, study, tmp_path)
    assert len(again.trials) == 3
    assert again.best_values == first.best_values
    assert 0.5 not in set(again.trials["mae"])


@pytest.mark.parametrize("name", [name for name in search_plots.__all__ if name != "plot_comparison"])
def test_each_figure_is_drawn_without_learning_curves_and_constant(study, tmp_path, name):
    result = import_experiment(TRIALS, study, tmp_path)
    getattr(search_plots, name)(result).canvas.draw()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"trials\.json: not JSON"),
        ('{"items": [{"kind": "Pod"}]}', r"trials\.json: not a list of Katib trials"),
        (json.dumps([TRIALS[6]]), r"trials\.json: none of the trials has ended"),
        (json.dumps([{"kind": "Trial"}]), r"trials\.json: a trial is not as Katib writes it: KeyError: 'metadata'"),
        (
            json.dumps([TRIALS[0] | {"status": None}]),
            r"trials\.json: a trial is not as Katib writes it: AttributeError",
        ),
        (json.dumps([TRIALS[0] | {"spec": {}}]), r"trials\.json: a trial is not as Katib writes it: KeyError"),
        (json.dumps([trial(0, "Succeeded", GOOD, conv_dim="17")]), r"jetcorr-0: trial parameter conv_dim = '17'"),
    ],
)
def test_what_is_no_finished_experiment_is_refused(study, tmp_path, content, message):
    (tmp_path / "trials.json").write_text(content)
    with pytest.raises(InputError, match=message):
        import_experiment(tmp_path / "trials.json", study, tmp_path / "search")
    with pytest.raises(InputError, match=r"there is no such file"):
        import_experiment(tmp_path / "other.json", study, tmp_path / "search")
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize("name", ["../../../x", "/tmp/x", "a/b", "..", ".", "", "a\n", "A", "-a", "a" * 254, 3, None])
def test_a_name_that_could_be_a_path_is_refused_and_nothing_is_written(study, tmp_path, name):
    folder, named = tmp_path / "a" / "b" / "c", TRIALS[1] | {"metadata": {"name": name}}
    with pytest.raises(InputError, match=r"trial .*: is no name: small letters"):
        import_experiment([TRIALS[0], named], study, folder)
    with pytest.raises(InputError, match=r"trial .*: is no name: small letters"):
        run_cluster_trial(study, {}, None, None, folder, name, tmp_path / "metrics.log")
    assert not list(tmp_path.iterdir())

"""A trial of a Katib experiment: run literally as its template spells it, and read back as Katib's collector does."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.errors import InputError
from jetcorr_utils.kubeflow.manifests import Cluster
from jetcorr_utils.kubeflow.manifests.experiment import METRICS_FILE, experiment
from jetcorr_utils.tuning import load_search, plots
from jetcorr_utils.tuning.cluster import REPORTED, parse_values, read_metrics
from jetcorr_utils.tuning.space import draw
from jetcorr_utils.tuning.trial import trial_settings


def test_the_collectors_pattern_reads_what_was_written_last(tmp_path):
    path = tmp_path / "metrics.log"
    path.write_text(
        "2026-01-02T03:04:05Z mae=0.09\n2026-01-02T03:05:05Z mae=8.7e-02\n2026-01-02T03:05:05Z closure=-1.5e-3\n"
        "2026-01-02T03:05:05Z seconds=\n"
    )
    assert read_metrics(path) == {"mae": 0.087, "closure": -0.0015}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_dim": None}, r"trial parameter 'conv_dim': the search space of the study has conv_layers, conv_dim"),
        ({"k": "4"}, r"trial parameter 'k': the search space"),
        ({"conv_dim": "17"}, r"trial parameter conv_dim = '17': the choices are 16, 32"),
        ({"conv_layers": "1.5"}, r"trial parameter conv_layers = '1.5': a whole number is needed"),
        ({"conv_layers": "9"}, r"trial parameter conv_layers = '9': a number from 1 to 2 is needed"),
        ({"training.learning_rate": "fast"}, r"trial parameter training.learning_rate = 'fast': a number from"),
    ],
)
def test_a_command_line_that_is_not_of_the_space_is_refused(change, message):
    texts = {"conv_layers": "1", "conv_dim": "32", "training.learning_rate": "1e-3"} | change
    texts = {name: value for name, value in texts.items() if value is not None}
    with pytest.raises(InputError, match=message):
        parse_values(texts, load_study("smoke").tuning.space)


def test_katibs_numbers_are_read_as_those_of_the_space():
    space = load_study("smoke").tuning.space
    values = parse_values({"conv_layers": "2.0", "conv_dim": "16", "training.learning_rate": "0.001"}, space)
    assert values == {"conv_layers": 2, "conv_dim": 16, "training.learning_rate": 1e-3}
    assert isinstance(values["conv_layers"], int)


def test_a_short_trial_warms_up_in_proportion():
    study = load_study("quick", {"tuning.epochs": 4, "models.pfn.training": {"epochs": 16, "warmup": 2.0}})
    short = trial_settings(study.models["pfn"], {"conv_dim": 50}, study.tuning)
    assert (short.training.epochs, short.training.warmup, short.conv_dim) == (4, 0.5, 50)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, list[Path]]:
    """A finished experiment of three trials, each started by its template's command with the placeholders filled in."""
    study, place = load_study("smoke"), tmp_path_factory.mktemp("katib")
    template = experiment(study, Cluster(mount=str(place)))["spec"]["trialTemplate"]
    references = {parameter["name"]: parameter["reference"] for parameter in template["trialParameters"]}
    metrics = []
    for number in range(3):
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(number)).ask()
        values = {name: str(value) for name, value in draw(trial, study.tuning.space).items()}
        values["${trialSpec.Name}"] = f"jetcorr-smoke-{number}"
        line = " ".join(template["trialSpec"]["spec"]["trainer"]["command"])
        for name, reference in references.items():
            line = line.replace("${trialParameters." + name + "}", values[reference])
        assert "${" not in line
        metrics.append(place / f"metrics-{number}.log")
        line = line.replace(METRICS_FILE, shlex.quote(str(metrics[-1])))
        shell = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(place), "OMP_NUM_THREADS": "1"}
        subprocess.run(["sh", "-c", line], check=True, cwd=project_root(), env=shell, capture_output=True)
    return place / "results" / "smoke" / "katib", metrics


@pytest.mark.slow
def test_each_trial_reports_all_metrics_to_katib(finished):
    folder, files = finished
    result = load_search(folder)
    assert len(result.trials) == 3
    for number, path in enumerate(files):
        row = result.trials[result.trials["folder"] == f"jetcorr-smoke-{number}"].iloc[0]
        reported = read_metrics(path)
        assert set(reported) == set(REPORTED)
        assert reported == pytest.approx({name: row[name] for name in REPORTED}, rel=1e-6)


@pytest.mark.slow
def test_a_finished_experiment_is_read_as_a_local_search(finished):
    result = load_search(finished[0])
    assert result.best_values == {name: result.trials[name][result.best] for name in result.space}
    assert np.isfinite(result.histories["validation_mae"]).all()
    assert plots.plot_parallel_coordinates(result).axes
    assert plots.plot_pareto(result).axes


@pytest.mark.slow
def test_a_trial_that_fails_is_exit_code_1_for_katib(tmp_path):
    script = Path(shutil.which("jetcorr", path=str(Path(sys.executable).parent)))
    command = [
        script, "trial", "--study", "smoke", "--out", tmp_path, "--name", "bad", "--metrics", tmp_path / "metrics.log",
        "-p", "data.directory", tmp_path / "data", "-p", "models.pfn.training.weight_decay", "1e38",
        "--set", "conv_layers", "1", "--set", "conv_dim", "16", "--set", "training.learning_rate", "0.005",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=project_root())
    assert done.returncode == 1
    assert (
        done.stderr.strip().splitlines()[-1].startswith("jetcorr: trial bad failed: TrainingError: the loss of a batch")
    )

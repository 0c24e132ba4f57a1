"""A trial of a Katib experiment: its command line, its metrics, its failure.

Whole experiments, run as their template spells it, are in tests/kubeflow/test_backend.py.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.errors import InputError
from jetcorr_utils.tuning.katib_trial import parse_values
from jetcorr_utils.tuning.trial import trial_settings
from tests.kubeflow.operators import read_metrics


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


@pytest.mark.slow
def test_a_trial_that_fails_is_exit_code_1_for_katib(tmp_path):
    script = Path(shutil.which("jetcorr", path=str(Path(sys.executable).parent)))
    command = [
        script, "trial", "--study", "smoke", "--out", tmp_path, "--name", "bad", "--metrics", tmp_path / "metrics.log",
        "-p", "data.directory", tmp_path / "data", "-p", "models.pfn.training.weight_decay", "1e30",
        "--set", "conv_layers", "1", "--set", "conv_dim", "16", "--set", "training.learning_rate", "0.005",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=project_root())
    assert done.returncode == 1
    assert (
        done.stderr.strip().splitlines()[-1].startswith("jetcorr: trial bad failed: TrainingError: the loss of a batch")
    )

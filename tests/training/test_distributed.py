"""Two processes with half of each batch train like one with the whole batch: torchrun, gloo, both networks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from jetcorr_utils.training import load_model, train
from tests.clouds import random_clouds
from tests.training.test_training import VALIDATION, settings

ARCHITECTURES = ("pfn", "particlenet")
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from jetcorr_utils.training import process_group
from tests.training.test_distributed import train_all
with process_group():
    train_all(Path(sys.argv[2]))
"""


def train_all(folder: Path) -> dict[str, pd.DataFrame]:
    """Train both networks on data whose last batch has an odd number of jets."""
    torch.set_num_threads(1)
    data = random_clouds(423, seed=1)
    histories = {}
    for name in ARCHITECTURES:
        shard = {"pfn": 100}.get(name)  # the other in full random order
        options = settings(name, flavour_balance=0.3, shard_jets=shard)
        options = options.model_copy(update={"dropout": 0.0})  # its masks differ by process
        result = train(options, data, VALIDATION, folder / name, progress=False)
        histories[name] = result.history.drop(columns="seconds")
    return histories


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_processes_train_like_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = str(Path(__file__).parents[2])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*launch, str(script), root, str(tmp_path / "two")]
    for _ in range(2):  # a job whose pods are started again after its end only says how it went
        with subprocess.Popen(command, env=environment, start_new_session=True) as processes:
            try:
                assert processes.wait(timeout=240) == 0
            finally:
                with contextlib.suppress(ProcessLookupError):  # torchrun's workers too, whatever happened to it
                    os.killpg(processes.pid, signal.SIGKILL)
    for name, expected in train_all(tmp_path / "one").items():
        found = pd.read_csv(tmp_path / "two" / name / "history.csv").drop(columns="seconds")
        np.testing.assert_allclose(found, expected, rtol=2e-4, err_msg=name)
        weights = [load_model(tmp_path / n / name).state_dict() for n in ("one", "two")]
        for key, value in weights[0].items():
            torch.testing.assert_close(weights[1][key], value, rtol=5e-3, atol=5e-4, msg=lambda m: f"{key}: {m}")  # noqa: B023

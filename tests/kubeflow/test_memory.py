"""A trial in a pod maps its jets: what it holds in memory does not grow with their number."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.data import load_clouds

TRIAL = """
import json, re, sys, threading, time
from dataclasses import replace
from pathlib import Path

from jetcorr_utils.config import load_study
from jetcorr_utils.data import load_clouds
from jetcorr_utils.tuning.katib_trial import run_cluster_trial

volume, rows, peak, ended = Path(sys.argv[1]), int(sys.argv[2]), 0, threading.Event()

def watch():
    # Memory of its own: mapped pages are the file's, and the kernel takes them back when it needs them
    global peak
    while not ended.wait(0.02):
        peak = max(peak, int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))

study = load_study("smoke", json.loads(sys.argv[3]))
import numpy as np
part = load_clouds(study.data, study.models["pfn"].features, progress=False).split("validation")
column = lambda name: np.load(volume / f"{name}.npy", mmap_mode="r")[:]
whole = replace(part, **{name: column(name) for name in ("particles", "ptr", "jets", "target", "part")},
                table={name: column(name) for name in part.table}, place=None)
training = whole.slice(0, rows)
threading.Thread(target=watch, daemon=True).start()
values = {"conv_layers": 1, "conv_dim": 16, "training.learning_rate": 1e-3}
record = run_cluster_trial(study, values, training, part, volume / str(rows), "trial", volume / f"{rows}.log")
ended.set()
print(json.dumps({"peak_mb": peak / 1024, "state": record.state, "jets": len(training)}))
"""


def repeat_jets(dataset, times: int, folder) -> None:
    """Files of a data set's columns, each repeated, as a cache has them."""
    for name in ("particles", "jets", "target", "part"):
        column = np.asarray(getattr(dataset, name))
        out = np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", column.dtype, (times * len(column), *column.shape[1:])
        )
        for one in range(times):
            out[one * len(column) : (one + 1) * len(column)] = column
    for name, column in dataset.table.items():
        np.save(folder / f"{name}.npy", np.tile(np.asarray(column), times))
    counts = np.tile(np.diff(dataset.ptr), times)
    np.save(folder / "ptr.npy", np.concatenate([[0], np.cumsum(counts)]))


@pytest.mark.slow
def test_a_trials_memory_does_not_grow_with_the_number_of_jets(tmp_path, sample, record_property):
    few, many = 25_000, 125_000  # more than the sample that the constants of the inputs are taken from
    settings = {
        "data.files": str(sample), "data.directory": str(tmp_path / "data"), "tuning.epochs": 1,
        "tuning.max_jets": "null", "models.pfn.fc_dim": 16,
    }  # fmt: skip
    study = load_study("smoke", settings)
    jets = load_clouds(study.data, study.models["pfn"].features, progress=False).split("train")
    repeat_jets(jets, many // len(jets) + 1, tmp_path)
    peaks = {}
    for rows in (few, many):
        command = [sys.executable, "-c", TRIAL, str(tmp_path), str(rows), json.dumps(settings)]
        done = subprocess.run(command, cwd=project_root(), check=True, capture_output=True, text=True)
        told = json.loads(done.stdout.splitlines()[-1])
        assert (told["jets"], told["state"]) == (rows, "complete")
        peaks[rows] = told["peak_mb"]
        record_property(f"peak memory of a trial with {rows} jets, MB", round(peaks[rows]))
    assert peaks[many] < 1.1 * peaks[few]

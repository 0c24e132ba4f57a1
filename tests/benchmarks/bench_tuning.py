"""A search by two processes against the same search by one: wall time of `search`, from the call to its result.

The search is that of study `quick` on its jets. Each runs in a process of its own that has imported the package and
opened the data, as a notebook has; starting the other worker counts. Once each, since it takes minutes; of more rounds
the best counts. The trials of both must be the same, bit for bit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.data import load_clouds
from jetcorr_utils.tuning.trial import read_trial
from tests.benchmarks.turns import compared, multiplicity, rates

ROUNDS = int(os.environ.get("JETCORR_BENCH_ROUNDS", 1))

# Time counts from the call; numba's kernels are loaded in it, as they are in the first call of a notebook.
_CHILD = """
import json, sys, time
from jetcorr_utils.config import load_study
from jetcorr_utils.data import load_clouds
from jetcorr_utils.tuning import search
if __name__ == "__main__":
    study = load_study("quick")
    clouds = load_clouds(study.data, study.models[study.tuning.model].features, progress=False)
    parts = clouds.split("train"), clouds.split("validation")
    start = time.perf_counter()
    search(study, *parts, sys.argv[1], workers=int(sys.argv[2]), progress=False)
    print(json.dumps(time.perf_counter() - start))
"""


def benchmarks() -> Iterator[dict[str, Any]]:
    """The line of bench.jsonl that concerns the search."""
    study = load_study("quick")
    # simulates the jets where they are not there yet
    clouds = load_clouds(study.data, study.models[study.tuning.model].features)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    trials: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "child.py"
        script.write_text(_CHILD)
        for round_ in range(ROUNDS):
            for workers, of_rounds in seconds.items():
                folder = Path(place) / f"{round_}-{workers}"
                of_rounds.append(_seconds(script, folder, workers))
                found = _results(folder)
                if found != (trials := trials or found):
                    raise RuntimeError(f"{workers} workers gave other trials: {found} instead of {trials}")
    one, two = (rates(len(trials), values) for values in seconds.values())
    figures = compared(two, one, best=True)
    yield {
        "name": "tune/workers", **figures, "unit": "trials/s", "peer_is": "one worker", "threads": 2,
        **multiplicity(clouds),
    }  # fmt: skip


def _seconds(script: Path, folder: Path, workers: int) -> float:
    command = [sys.executable, str(script), str(folder), str(workers)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=project_root())
    return json.loads(result.stdout)


def _results(folder: Path) -> dict[str, Any]:
    """What the trials gave, but for what the clock decides."""
    records = {path.parent.name: asdict(read_trial(path.parent)) for path in sorted(folder.glob("*/trial.json"))}
    for record in records.values():
        for name in ("seconds", "jets_per_s", "train_jets_per_s"):
            record["metrics"].pop(name, None)
    return records

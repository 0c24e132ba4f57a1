"""The speed-up of training by torchrun: two processes with one thread each against one process with one thread.

Both see the same batches, the two halves of each batch in the one case. Rates are those of the epochs after the first,
of the clock on the wall; the sides take turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jetcorr_utils.data import CloudDataset
from jetcorr_utils.training import process_group, train
from tests.benchmarks.bench_models import SETTINGS
from tests.benchmarks.turns import compared, multiplicity
from tests.clouds import random_clouds

ROUNDS, EPOCHS, BATCH = 3, 3, 500
JETS = {"particlenet": 4 * BATCH, "pfn": 40 * BATCH}


def benchmarks() -> Iterator[dict[str, Any]]:
    """The lines of bench.jsonl that concern several processes."""
    for name in JETS:
        one: list[float] = []
        two: list[float] = []
        for _ in range(ROUNDS):
            one.append(_rate(name, 1))
            two.append(_rate(name, 2))
        yield {
            "name": "train/torchrun" + ("" if name == "particlenet" else f"/{name}"), **compared(two, one),
            "unit": "jets/s", "threads": 2, **multiplicity(_clouds(name)[0]),
            "peer_is": f"one process, one thread; ours: torchrun --nproc-per-node 2, one thread each; batch {BATCH}",
        }  # fmt: skip


def _rate(name: str, processes: int) -> float:
    """Jets a second of all processes together."""
    with tempfile.TemporaryDirectory() as folder:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [*launch, "-m", "tests.benchmarks.bench_distributed", name, folder]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        return json.loads((Path(folder) / "rate.json").read_text())


def _clouds(name: str) -> list[CloudDataset]:
    """Jets to train on, and a few to validate."""
    rng = np.random.default_rng(1)
    return [random_clouds(rng.gamma(4, 45 / 4, size).astype(int).clip(1, 200)) for size in (JETS[name], 100)]


def main(name: str, folder: str) -> None:
    """What each process does."""
    torch.set_num_threads(1)
    clouds, few = _clouds(name)
    training = SETTINGS[name].training.model_copy(update={"epochs": EPOCHS, "batch_size": BATCH})
    settings = SETTINGS[name].model_copy(update={"training": training})
    with process_group():
        history = train(settings, clouds, few, Path(folder), progress=False).history
        (Path(folder) / "rate.json").write_text(json.dumps(len(clouds) / history["seconds"][1:].median()))


if __name__ == "__main__":
    main(*sys.argv[1:])

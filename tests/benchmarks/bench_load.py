"""Reading: ROOT files → clouds → batches, against what decompression and copying alone take, and the memory it needs.

Prints one JSON object a line; run by ``make bench``, or as ``python -m tests.benchmarks load``. The files hold copies
of the committed sample, compressed with ZLIB as ROOT does by default, and with ZSTD as the simulation does. Times are
CPU times of one process, the sides take turns, and the best of the rounds counts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from jetcorr_utils.config import DataSettings, project_root
from jetcorr_utils.data import CloudDataset, load_clouds
from jetcorr_utils.data.batches import BatchLoader
from jetcorr_utils.data.features import JET_COLUMNS, PARTICLE_COLUMNS, POINT_COLUMNS, TABLE_COLUMNS
from jetcorr_utils.data.jetntuple import TREE

ROUNDS = 5
COPIES = 10
BATCH = 500
COMPRESSIONS = {"load/first_epoch": uproot.ZLIB(1), "load/first_epoch_zstd": uproot.ZSTD(7)}
BRANCHES = tuple(
    dict.fromkeys((*JET_COLUMNS, *TABLE_COLUMNS, "jetPhi", "nPF", *POINT_COLUMNS, *PARTICLE_COLUMNS["open"]))
)


def benchmarks() -> Iterator[dict[str, Any]]:
    """The lines of bench.jsonl that concern reading."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, compression in COMPRESSIONS.items():
            file = _write(folder / "jets.root", 1, compression)
            yield _first_epoch(name, file, folder)
        yield _later_epochs(load_clouds(_settings([file], folder), progress=False))
        files = [_write(folder / f"jets_{run}.root", run, COMPRESSIONS["load/first_epoch"]) for run in range(1, 5)]
        yield _memory(files, folder)


def _write(path: Path, run: int, compression: uproot.compression.Compression) -> Path:
    """Copies of the sample under other run numbers."""
    with uproot.open(project_root() / "data" / "sample" / "jets.root") as source:
        columns = source[TREE].arrays(how=dict)
    columns = {name: values for name, values in columns.items() if name not in ("nPF", "nGenJetPF")}
    types = {name: ak.type(values).content for name, values in columns.items()}
    with uproot.recreate(path, compression=compression) as target:
        tree = target.mktree(TREE, types, counter_name=lambda name: "nGenJetPF" if name.startswith("gen") else "nPF")
        for copy in range(COPIES):
            tree.extend(columns | {"run": np.full(len(columns["run"]), COPIES * run + copy, dtype=np.int32)})
    return path


def _settings(files: list[Path], folder: Path) -> DataSettings:
    return DataSettings(files=[str(file) for file in files], directory=str(folder / "data"))


def _decompress(file: Path) -> int:
    """Read and decompress the baskets of the branches, and interpret nothing; returns the number of jets."""
    with uproot.open(file) as opened:
        tree = opened[TREE]
        for name in BRANCHES:
            for basket in range(tree[name].num_baskets):
                tree[name].basket(basket)
        return tree.num_entries


def _first_epoch(name: str, file: Path, folder: Path) -> dict[str, Any]:
    def ours() -> None:
        shutil.rmtree(folder / "data", ignore_errors=True)
        _epoch(load_clouds(_settings([file], folder), progress=False))

    what = "uproot decompressing the same branches alone (a limit); ours: checks, selection, cache and first epoch too"
    return _compare(name, _decompress(file), ours, lambda: _decompress(file), what)


def _epoch(data: CloudDataset, epoch: int = 0) -> None:
    loader = BatchLoader(data, BATCH, shuffle=True)
    loader.set_epoch(epoch)
    for _ in loader:
        pass


def _later_epochs(data: CloudDataset) -> dict[str, Any]:
    what = f"one copy of the particles in memory (a limit); ours: shuffled batches of {BATCH} from the mapped cache"
    return _compare("load/later_epochs", len(data), lambda: _epoch(data, 1), lambda: np.array(data.particles), what)


def _compare(name: str, jets: int, ours: Callable[[], object], peer: Callable[[], object], what: str) -> dict[str, Any]:
    """Jets per second of CPU time of both sides, in turns."""
    best = [np.inf, np.inf]
    for _ in range(ROUNDS):
        for side, function in enumerate((ours, peer)):
            start = time.process_time()
            function()
            best[side] = min(best[side], time.process_time() - start)
    rates = [jets / seconds for seconds in best]
    return {
        "name": name, "ours": round(rates[0]), "peer": round(rates[1]), "ratio": round(rates[0] / rates[1], 3),
        "unit": "jets/s", "peer_is": what, "n": ROUNDS,
    }  # fmt: skip


_CHILD = """
import json, sys, threading, time
from pathlib import Path
from tests.benchmarks.bench_load import _epoch, _settings, load_clouds
peak, done = 0, False
def watch():
    global peak
    while not done:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = max(peak, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
folder, *files = map(Path, sys.argv[1:])
_epoch(load_clouds(_settings(files, folder), progress=False))
done = True
thread.join()
print(json.dumps(peak))
"""


def _memory(files: list[Path], folder: Path) -> dict[str, Any]:
    """Peak memory of a process of its own, without the pages of mapped files, which the system takes back freely."""

    def peak(used: list[Path], name: str) -> float:
        command = [sys.executable, "-c", _CHILD, str(folder / name), *map(str, used)]
        result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=project_root(), env=os.environ)
        return json.loads(result.stdout) / 1024

    four, one = peak(files, "four"), peak(files[:1], "one")
    return {
        "name": "memory/4x", "ours": round(four, 1), "peer": round(one, 1), "ratio": round(four / one, 3), "unit": "MB",
        "peer_is": "the same process at a quarter of the data", "n": 1,
    }  # fmt: skip


def main() -> None:
    """Print the results."""
    for line in benchmarks():
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

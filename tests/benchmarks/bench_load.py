"""Reading: ROOT files → clouds → batches, against decompression alone and weaver-core's loader; and its memory.

Prints one JSON object a line; run by ``make bench``, or as ``python -m tests.benchmarks load``. The files hold copies
of the committed sample, compressed with ZLIB as ROOT does by default, and with ZSTD as the simulation does. Each figure
is the median of the rounds, in CPU time.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch
import uproot

from jetcorr_utils.config import DataSettings, project_root
from jetcorr_utils.data import CloudDataset, load_clouds
from jetcorr_utils.data.batches import BatchLoader
from jetcorr_utils.data.features import TABLE_COLUMNS
from jetcorr_utils.jets.columns import TREE, counter_name, jet_columns, particle_columns
from jetcorr_utils.models.allocator import keep_memory
from jetcorr_utils.models.inputs import CloudInputs
from tests.benchmarks.turns import compared, in_turns, multiplicity, rates
from tests.benchmarks.weaver_loader import read_epoch, write_config
from tests.cold import epoch_on_small_memory, repeated

SAMPLE = project_root() / "data" / "sample" / "jets.root"
ROUNDS = 5
ROUNDS_OF_WEAVER = 3
FETCH_STEPS = {"": 1, "/default": 0.01}
"""Weaver's fastest setting, and its default, which reads the file a hundred times."""
COPIES, COPIES_FOR_MEMORY, COPIES_OF_CACHE = 20, 10, 20
BATCH = 500
COMPRESSIONS = {"": uproot.ZLIB(1), "_zstd": uproot.ZSTD(7)}
BRANCHES = tuple(dict.fromkeys((*jet_columns("open"), *TABLE_COLUMNS, "nPF", *particle_columns("open"))))


def benchmarks() -> Iterator[dict[str, Any]]:
    """The lines of bench.jsonl that concern reading."""
    keep_memory()
    with tempfile.TemporaryDirectory() as place:
        size = multiplicity(_fresh([SAMPLE], Path(place)))  # all files hold copies of it
        yield from (line | size for line in _lines(Path(place)))


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    for suffix, compression in COMPRESSIONS.items():
        file = _write(folder / "jets.root", 1, compression, COPIES)
        yield _first_epoch(f"load/first_epoch{suffix}", file, folder)
        steps = FETCH_STEPS if suffix == "" else {"": 1}
        yield from _against_weaver(f"load/first_epoch_weaver{suffix}", file, folder, steps)
    yield _later_epochs(data := _fresh([file], folder))
    yield _cold(data, folder)
    runs = range(1, 5)
    files = [_write(folder / f"{run}.root", run, COMPRESSIONS[""], COPIES_FOR_MEMORY) for run in runs]
    yield _memory(files, folder)


def _write(path: Path, run: int, compression: uproot.compression.Compression, copies: int) -> Path:
    """Copies of the sample under other run numbers."""
    with uproot.open(SAMPLE) as source:
        columns = source[TREE].arrays(how=dict)
    columns = {name: values for name, values in columns.items() if name not in ("nPF", "nGenJetPF", "nSV")}
    types = {name: ak.type(values).content for name, values in columns.items()}
    with uproot.recreate(path, compression=compression) as target:
        tree = target.mktree(TREE, types, counter_name=counter_name)
        for copy in range(copies):
            tree.extend(columns | {"run": np.full(len(columns["run"]), copies * run + copy, dtype=np.int32)})
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


def _fresh(files: list[Path], folder: Path) -> CloudDataset:
    """The clouds of the files, from a cache that is built now."""
    return load_clouds(_settings(files, folder), progress=False)


def _forget(folder: Path) -> None:
    shutil.rmtree(folder / "data", ignore_errors=True)


def _first_epoch(name: str, file: Path, folder: Path) -> dict[str, Any]:
    what = "uproot decompressing the same branches alone (a limit); ours: checks, selection, cache and first epoch too"
    ours, peer = lambda: _epoch(_fresh([file], folder)), lambda: _decompress(file)
    return _compare(name, _decompress(file), ours, peer, what, lambda: _forget(folder))


def _against_weaver(name: str, file: Path, folder: Path, steps: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Both sides up to the inputs of a network; the cuts of both leave the same jets."""
    inputs = CloudInputs("open")
    inputs.fit(data := _fresh([file], folder))
    config = write_config(folder / "weaver.yaml", inputs)
    jets = read_epoch(file, config, BATCH, 1)
    if jets != len(data):
        raise RuntimeError(f"weaver reads {jets} jets, jetcorr {len(data)}")
    for suffix, step in steps.items():
        what = f"weaver-core's SimpleIterDataset with the same features, batches of {BATCH}, fetch_step {step}"
        ours = lambda: _epoch(_fresh([file], folder), inputs=inputs)  # noqa: E731
        peer = functools.partial(read_epoch, file, config, BATCH, step)
        yield _compare(name + suffix, jets, ours, peer, what, lambda: _forget(folder), ROUNDS_OF_WEAVER)


@torch.no_grad()
def _epoch(data: CloudDataset, epoch: int = 0, inputs: CloudInputs | None = None) -> None:
    """All batches of an epoch, up to the features of a network if `inputs` are given."""
    loader = BatchLoader(data, BATCH, shuffle=True)
    loader.set_epoch(epoch)
    for batch in loader:
        if inputs is not None:
            inputs(batch.particles, batch.jets, batch.ptr.diff())


def _later_epochs(data: CloudDataset) -> dict[str, Any]:
    what = f"one copy of the particles in memory (a limit); ours: shuffled batches of {BATCH} from the mapped cache"
    return _compare("load/later_epochs", len(data), lambda: _epoch(data, 1), lambda: np.array(data.particles), what)


def _cold(data: CloudDataset, folder: Path) -> dict[str, Any]:
    """Bytes read from the disk, where the memory holds a quarter of the cache."""
    whole = repeated(data, COPIES_OF_CACHE, folder / "cold")
    size = whole.particles.nbytes

    def read(shard: int | None, most: int | None) -> float:
        fresh = CloudDataset.open(folder / "cold", whole.features, whole.key)  # not told yet how it will be read
        return epoch_on_small_memory(BatchLoader(fresh, BATCH, shuffle=True, shard_jets=shard), size // 4, most)

    ours, peer = read(len(whole) // 16, None), read(None, size // 200)
    return {
        "name": "load/cold_shards", **compared([ours], [peer]),
        "unit": "bytes read from the disk for each byte of particles that is used",
        "peer_is": "the same cache in fully random order, of which the first 200th is read; the memory holds a quarter",
    }  # fmt: skip


def _compare(
    name: str,
    jets: int,
    ours: Callable[[], object],
    peer: Callable[[], object],
    what: str,
    before: Callable[[], object] = lambda: None,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    seconds = in_turns({"ours": ours, "peer": peer}, rounds, before=before)
    figures = compared(*(rates(jets, values) for values in seconds.values()))
    return {"name": name, **figures, "unit": "jets/s of CPU time", "peer_is": what}


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
        "name": "memory/4x", **compared([four], [one]), "unit": "MB",
        "peer_is": "the same process at a quarter of the data",
    }  # fmt: skip

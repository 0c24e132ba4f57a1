"""Throughput of the exported models against weaver-core's, and of the server against ONNX Runtime in this process.

Prints one JSON object a line; run by ``make bench``, or as ``python -m tests.benchmarks.bench_serving``. Both have the
published hyperparameters, the same jets, one thread, and the same ONNX Runtime; the peer's input is padded to 100
particles, as it was published. The sides take turns, and the best of the rounds counts, so that other work on the
machine touches both alike.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from jetcorr_utils.config import ParticleNetSettings, PfnSettings
from jetcorr_utils.data.dataset import CloudDataset
from jetcorr_utils.export import OnnxPredictor, add_model, export_model
from jetcorr_utils.export.padding import INPUT_NAMES, pad
from jetcorr_utils.models import build_model
from jetcorr_utils.serving import TritonPredictor, TritonServer, server_available
from tests.benchmarks.weaver_peer import PeerParticleNet, PeerPfn
from tests.networks import some_clouds

ROUNDS = 5
BATCH = 1024
PEER_WIDTH = 100
MEAN_MULTIPLICITY = 45.0
SETTINGS = {
    "pfn": PfnSettings(architecture="pfn", conv_layers=5, conv_dim=50, fc_layers=3, fc_dim=400),
    "particlenet": ParticleNetSettings(
        architecture="particlenet", blocks=3, k=16, conv_layers=3, conv_dim=50, fc_layers=3, fc_dim=200
    ),
}
PEERS = {"pfn": PeerPfn, "particlenet": PeerParticleNet}
JETS = {"pfn": 8 * BATCH, "particlenet": 2 * BATCH}


def benchmarks() -> Iterator[dict[str, Any]]:
    """The lines of bench.jsonl that concern serving."""
    with tempfile.TemporaryDirectory() as folder:
        for name in SETTINGS:
            clouds = some_clouds(JETS[name], 1, mean=MEAN_MULTIPLICITY)
            path = _export_ours(name, clouds, Path(folder))
            yield _against_weaver(name, path, clouds, Path(folder))
            if server_available() is None:
                yield _against_in_process(name, path, clouds, Path(folder))


def _export_ours(name: str, clouds: CloudDataset, folder: Path) -> Path:
    torch.manual_seed(1)
    model = build_model(SETTINGS[name])
    model.fit_constants(clouds)
    return export_model(model.eval(), folder / f"{name}.onnx", metadata={"name": name})


def _export_peer(name: str, folder: Path) -> Path:
    torch.manual_seed(1)
    model = PEERS[name](SETTINGS[name], 5, 10).eval()
    example = (*(torch.rand(4, PEER_WIDTH, columns) for columns in (2, 5, 1)), torch.rand(4, 10))
    batch = torch.export.Dim("batch", min=1)
    path = folder / f"{name}_peer.onnx"
    torch.onnx.export(
        model, example, path, dynamo=True, external_data=False, input_names=list(INPUT_NAMES), verbose=False,
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}, {0: batch}),
    )  # fmt: skip
    return path


def _against_weaver(name: str, path: Path, clouds: CloudDataset, folder: Path) -> dict[str, Any]:
    ours = OnnxPredictor(path, threads=1)
    session = _session(_export_peer(name, folder))
    cut = np.minimum(np.diff(clouds.ptr), PEER_WIDTH)
    padded = [_cut(pad(clouds, rows), PEER_WIDTH) for rows in np.array_split(np.arange(len(cut)), len(cut) // BATCH)]
    used = {value.name for value in session.get_inputs()}

    def peer() -> None:
        for inputs in padded:
            session.run(None, {key: value for key, value in inputs.items() if key in used})

    return _compare(
        f"onnx/{name}", len(clouds), lambda: ours.predict(clouds, batch_size=BATCH), peer,
        f"weaver-core's {name} padded to {PEER_WIDTH}, torch.onnx.export, same ONNX Runtime, one thread, batch {BATCH}",
        time.process_time,
    )  # fmt: skip


def _cut(inputs: dict[str, np.ndarray], width: int) -> dict[str, np.ndarray]:
    """Padded or cut to so many particles."""
    cut = {}
    for key, array in inputs.items():
        if array.ndim == 3:
            array = np.pad(array[:, :width], ((0, 0), (0, max(0, width - array.shape[1])), (0, 0)))
        cut[key] = np.ascontiguousarray(array)
    return cut


def _against_in_process(name: str, path: Path, clouds: CloudDataset, folder: Path) -> dict[str, Any]:
    add_model(folder / name, name, path, version=1)
    cores = len(os.sched_getaffinity(0))
    with (
        TritonServer(folder / name) as server,
        TritonPredictor(server.http_url, name) as remote,
        OnnxPredictor(path) as local,
    ):
        return _compare(
            f"triton/{name}", len(clouds), lambda: remote.predict(clouds, batch_size=256),
            lambda: local.predict(clouds, batch_size=256),
            f"ONNX Runtime in this process on {cores} cores (a limit); ours: Triton over HTTP, requests of 256 jets",
        )  # fmt: skip


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _compare(
    name: str,
    jets: int,
    ours: Callable[[], object],
    peer: Callable[[], object],
    peer_is: str,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Jets/s of both sides, in turns; CPU time as the clock leaves out other work on the machine."""
    best = [np.inf, np.inf]
    for function in (ours, peer):
        function()
    for _ in range(ROUNDS):
        for side, function in enumerate((ours, peer)):
            start = clock()
            function()
            best[side] = min(best[side], clock() - start)
    rates = [jets / seconds for seconds in best]
    return {
        "name": name, "ours": round(rates[0], 1), "peer": round(rates[1], 1), "ratio": round(rates[0] / rates[1], 3),
        "unit": "jets/s", "peer_is": peer_is, "n": ROUNDS,
    }  # fmt: skip


def main() -> None:
    """Print the results."""
    for line in benchmarks():
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

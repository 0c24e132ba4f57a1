"""Throughput of the exported models against the ONNX exported from weaver-core's, in the same ONNX Runtime.

Both have the published hyperparameters and the same jets, and run on all cores: a batch of 1024 jets on each, one
thread a batch. Both find their input ready in memory: the peer's padded to 100 particles as it was published (longer
jets are cut), ours as our client pads it; ``ratio_same_input`` has our model on the peer's tensors. The best of the
rounds counts.

``operators`` says where the time of each side goes, in shares, from ONNX Runtime's profile of one run. ``products`` are
the jets a second that the matrix products of our PFN alone would allow: the rest is features, gathering and summing.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from jetcorr_utils.config import load_study
from jetcorr_utils.data.clouds import load_clouds
from jetcorr_utils.data.dataset import CloudDataset
from jetcorr_utils.export import export_model
from jetcorr_utils.export.graphs import PaddedPfn
from jetcorr_utils.inference.padding import INPUT_NAMES, batches_by_multiplicity, pad
from jetcorr_utils.models import CloudNetwork, build_model
from tests.benchmarks.bench_models import SETTINGS
from tests.benchmarks.turns import compared, in_turns, multiplicity
from tests.benchmarks.turns import rates as jets_per_s
from tests.benchmarks.weaver_peer import PeerParticleNet, PeerPfn
from tests.networks import some_clouds

ROUNDS = 5
BATCH = 1024
BATCHES = 4
"""For each core: batches of few and of many particles take different times, and the cores must be done together."""
PEER_WIDTH = 100
PEERS = {"pfn": PeerPfn, "particlenet": PeerParticleNet}
CORES = len(os.sched_getaffinity(0))

Tensors = dict[str, np.ndarray]


def benchmarks() -> Iterator[dict[str, Any]]:
    """The lines of bench.jsonl that concern the exported models."""
    # Padding loses the more the fewer particles there are: clouds as full as those of the published inputs, too
    jets = BATCHES * CORES * BATCH
    samples = {"": study_jets(jets), "/45_particles": some_clouds(jets, 1, mean=45.0)}
    with tempfile.TemporaryDirectory() as folder:
        for suffix, clouds in samples.items():
            for name in SETTINGS:
                model, path = export_published(name, clouds, Path(folder))
                yield {"name": f"onnx/{name}{suffix}", **_against_weaver(name, model, path, clouds, Path(folder))}


def study_jets(count: int) -> CloudDataset:
    """So many jets, drawn from those of the study `smoke`."""
    clouds = load_clouds(load_study("smoke").data, progress=False)
    return clouds.select(np.sort(np.random.default_rng(1).integers(0, len(clouds), count)))


def export_published(name: str, clouds: CloudDataset, folder: Path) -> tuple[CloudNetwork, Path]:
    """An untrained network with the published hyperparameters, and its ONNX file."""
    torch.manual_seed(1)
    model = build_model(SETTINGS[name]).eval()
    model.fit_constants(clouds)
    return model, export_model(model, folder / f"{name}.onnx", metadata={"name": name})


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


def _against_weaver(name: str, model: CloudNetwork, path: Path, clouds: CloudDataset, folder: Path) -> dict[str, Any]:
    peer = _export_peer(name, folder)
    tight = [pad(clouds, rows) for rows in batches_by_multiplicity(clouds.ptr, BATCH)][::-1]  # the longest first
    padded = [_cut(pad(clouds, rows)) for rows in np.array_split(np.arange(len(clouds)), BATCHES * CORES)]
    sides = {"ours": (path, tight), "same_input": (path, padded), "peer": (peer, padded)}
    if name == "pfn":
        products, batches = _products_alone(model, clouds, folder)
        sides["products"] = (products, batches)
    rates = _rates(sides, len(clouds))
    figures = {
        **compared(rates["ours"], rates["peer"], best=True), "unit": "jets/s",
        "peer_is": f"weaver-core's {name} padded to {PEER_WIDTH}, torch.onnx.export, same ONNX Runtime, batch {BATCH}",
        "threads": CORES,
        "ratio_same_input": round(max(rates["same_input"]) / max(rates["peer"]), 2),
        **multiplicity(clouds),
        "operators": {"ours": _operators(path, tight[len(tight) // 2]), "peer": _operators(peer, padded[-1])},
    }  # fmt: skip
    return figures | ({"products": round(max(rates["products"]))} if "products" in rates else {})


def _cut(inputs: Tensors) -> Tensors:
    """Padded or cut to the peer's width."""
    cut = {}
    for key, array in inputs.items():
        if array.ndim == 3:
            array = np.pad(array[:, :PEER_WIDTH], ((0, 0), (0, max(0, PEER_WIDTH - array.shape[1])), (0, 0)))
        cut[key] = np.ascontiguousarray(array)
    return cut


def _products_alone(model: CloudNetwork, clouds: CloudDataset, folder: Path) -> tuple[Path, list[Tensors]]:
    """The PFN's linear layers on features that are there already: chunks of particles, then the head of their jets."""
    layers = PaddedPfn(model).layers

    class Products(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.head = layers, model.head.mlp

        def forward(self, particles: torch.Tensor, jets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            for layer in self.layers:
                particles = layer(particles).relu()
            return particles, self.head(jets)

    chunk, path = PaddedPfn.chunk, folder / "products.onnx"
    jets = max(1, round(chunk / float(np.diff(clouds.ptr).mean())))
    widths = [linear.weight.shape[1] for linear in (layers[0], model.head.mlp.lins[0])]
    example = tuple(torch.rand(rows, width) for rows, width in zip((chunk, jets), widths, strict=True))
    torch.onnx.export(Products().eval(), example, path, dynamo=True, external_data=False, verbose=False)
    names = [value.name for value in _session(path).get_inputs()]
    inputs = dict(zip(names, (array.numpy() for array in example), strict=True))
    return path, [inputs] * round(len(clouds) / jets)


def _rates(sides: dict[str, tuple[Path, Sequence[Tensors]]], jets: int) -> dict[str, list[float]]:
    """Jets a second of each round of each side."""

    def all_batches(session: onnxruntime.InferenceSession, batches: Sequence[Tensors]) -> None:
        list(pool.map(lambda inputs: _run(session, inputs), batches))

    with ThreadPoolExecutor(CORES) as pool:
        steps = {side: functools.partial(all_batches, _session(path), batches)
                 for side, (path, batches) in sides.items()}  # fmt: skip
        seconds = in_turns(steps, ROUNDS, time.perf_counter)
    return {side: jets_per_s(jets, values) for side, values in seconds.items()}


def _operators(path: Path, inputs: Tensors) -> dict[str, float]:
    """Shares of the time by operator, the largest five; what is in a loop counts by itself."""
    with tempfile.TemporaryDirectory() as folder:
        session = _session(path, profile=f"{folder}/profile")
        for _ in range(2):
            _run(session, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    times: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["args"]["op_name"] != "Loop":
            times[event["args"]["op_name"]] += event["dur"]
    return {name: round(spent / times.total(), 3) for name, spent in times.most_common(5)}


def _session(path: Path, profile: str | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, inputs: Tensors) -> None:
    used = {value.name for value in session.get_inputs()}
    session.run(None, {key: value for key, value in inputs.items() if key in used})


def main() -> None:
    """Print the results."""
    for line in benchmarks():
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

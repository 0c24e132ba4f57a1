"""Throughput of the server, asked by our client, against ONNX Runtime in this process, which is the limit.

Prints one JSON object a line; run by ``make bench``, or as ``python -m tests.benchmarks serving``. Both sides have all
cores, the same model with the published hyperparameters, the same jets, and requests of 1024 jets. The best of the
rounds counts. Beside the ratio each line says how the client reaches the server, and where the time of
its requests goes: microseconds a jet, summed over the requests under way at the same time.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jetcorr_utils.data.dataset import CloudDataset
from jetcorr_utils.export import add_model
from jetcorr_utils.inference import OnnxPredictor, TritonPredictor
from jetcorr_utils.inference.predictor import Predictor
from jetcorr_utils.serving import TritonServer, server_available
from jetcorr_utils.serving.inference_cost import breakdown
from tests.benchmarks.bench_models import SETTINGS
from tests.benchmarks.bench_onnx import BATCH, CORES, ROUNDS, export_published
from tests.benchmarks.turns import compared, in_turns, multiplicity, rates
from tests.networks import some_clouds

JETS = {"pfn": 32 * BATCH, "particlenet": 8 * BATCH}
WAYS = {"gRPC, shared memory": ("grpc", "on"), "HTTP, shared memory": ("http", "on"), "HTTP": ("http", "off")}


def benchmarks() -> Iterator[dict[str, Any]]:
    """The lines of bench.jsonl that concern the server."""
    if server_available() is not None:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in SETTINGS:
            clouds = some_clouds(JETS[name], 1, mean=45.0)
            _, path = export_published(name, clouds, Path(folder))
            figures = _against_in_process(name, path, clouds, Path(folder))
            yield {"name": f"triton/{name}", **figures, **multiplicity(clouds)}


def _against_in_process(name: str, path: Path, clouds: CloudDataset, folder: Path) -> dict[str, Any]:
    """The figures of one model: those of the best way to the server, and the breakdown for each way."""
    add_model(folder / name, name, path, version=1)
    with TritonServer(folder / name) as server, OnnxPredictor(path) as local:
        found = {}
        for way, (protocol, memory) in WAYS.items():
            url = server.grpc_url if protocol == "grpc" else server.http_url
            with TritonPredictor(url, name, protocol, shared_memory=memory) as remote:
                turns = _rates({"ours": remote, "peer": local}, clouds)
                parts = breakdown(remote, lambda remote=remote: remote.predict(clouds, batch_size=BATCH))
            found[way] = {"rates": turns, "parts": {part: round(value, 2) for part, value in parts.items()}}
    lines = {way: compared(*figures["rates"], best=True) for way, figures in found.items()}
    way = max(lines, key=lambda way: lines[way]["ratio"])
    return {
        **lines[way], "unit": "jets/s",
        "peer_is": f"ONNX Runtime in this process on {CORES} cores (a limit); ours: Triton by {way}, batch {BATCH}",
        "threads": CORES, "ratios": {way: line["ratio"] for way, line in lines.items()},
        "us_per_jet": {way: figures["parts"] for way, figures in found.items()},
    }  # fmt: skip


def _rates(predictors: Mapping[str, Predictor], clouds: CloudDataset) -> list[list[float]]:
    """Jets/s of each round of each side."""
    steps = {
        side: functools.partial(predictor.predict, clouds, batch_size=BATCH) for side, predictor in predictors.items()
    }
    return [rates(len(clouds), seconds) for seconds in in_turns(steps, ROUNDS, time.perf_counter).values()]

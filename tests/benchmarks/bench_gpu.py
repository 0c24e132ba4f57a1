"""Training and inference on a GPU, beside the figures of the published serving: `python -m tests.benchmarks gpu`.

Writes results/reference/gpu.json with the names of the GPU and of its driver. It runs only when it is named, because
few machines have a GPU.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from jetcorr_utils.config import TrainingSettings, project_root
from jetcorr_utils.data.batches import CloudBatch, gather
from jetcorr_utils.data.dataset import CloudDataset
from jetcorr_utils.files import write_json
from jetcorr_utils.models import build_model
from jetcorr_utils.models.cloud_network import CloudNetwork
from jetcorr_utils.training import train
from tests.benchmarks.bench_models import SETTINGS
from tests.clouds import random_clouds

ROUNDS = 7
TRAINING_BATCHES, INFERENCE_BATCH = (500, 4096), 1024
LOOP_JETS, LOOP_EPOCHS = 200_000, 3
PUBLISHED = {"infer/pfn": 27929, "infer/particlenet": 1805}
"""jets/s of the talk at batch 1024, through Triton on a GPU; it gives none for training."""


def benchmarks() -> Iterator[dict[str, Any]]:
    """One line for each network, kind, batch and precision."""
    if not torch.cuda.is_available():
        sys.exit("gpu: PyTorch finds no CUDA device here, so there is nothing to measure")
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    device = {
        "gpu": torch.cuda.get_device_name(), "driver": driver, "cuda": torch.version.cuda, "torch": torch.__version__,
    }  # fmt: skip
    lines = []
    for line in measure("cuda"):
        lines.append({**line, **device})
        yield lines[-1]
    write_json(project_root() / "results" / "reference" / "gpu.json", lines)


def measure(device: str, rounds: int = ROUNDS, loop_jets: int = LOOP_JETS) -> Iterator[dict[str, Any]]:
    """Jets a second of both networks: of a step alone, in float32 and mixed precision, and of the whole training."""
    clouds = _clouds(max(INFERENCE_BATCH, *TRAINING_BATCHES))
    for name, settings in SETTINGS.items():
        torch.manual_seed(1)
        model = build_model(settings)
        model.fit_constants(clouds)
        model.to(device)
        kinds = [("infer", INFERENCE_BATCH, False), *(("train", size, False) for size in TRAINING_BATCHES)]
        for kind, size, compiled in [*kinds, ("train", TRAINING_BATCHES[0], True)]:
            batch = gather(clouds, np.arange(size)).to(device)
            for precision in ("float32", "bfloat16"):
                seconds = _median_seconds(_step(model, batch, kind, precision, compiled), rounds)
                yield {
                    "name": f"{kind}/{name}", "precision": precision, "jets_per_s": round(size / seconds, 1),
                    "batch": size, "compiled": compiled, "published": PUBLISHED.get(f"{kind}/{name}"), "n": rounds,
                }  # fmt: skip
        yield from _loop(name, device, loop_jets)


def _clouds(jets: int) -> CloudDataset:
    return random_clouds(np.random.default_rng(1).gamma(4, 45 / 4, jets).astype(int).clip(1, 200))


def _step(model: CloudNetwork, batch: CloudBatch, kind: str, precision: str, compiled: bool) -> Callable[[], None]:
    """What is timed: the network's answer, and for a training the gradients and the step as well."""
    network = torch.compile(model, dynamic=True) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train(kind == "train")
    device = batch.particles.device.type

    def step() -> None:
        with (
            torch.set_grad_enabled(kind == "train"),
            torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"),
        ):
            outputs = network(batch.particles, batch.jets, batch.ptr).float()
        if kind == "train":
            optimizer.zero_grad()
            (outputs[:, 0] - batch.target).abs().mean().backward()
            optimizer.step()

    return step


def _loop(name: str, device: str, jets: int) -> Iterator[dict[str, Any]]:
    """The whole training as a user has it: batches gathered and sent, loss with its terms, clipping, the best state."""
    clouds, validation = _clouds(jets), random_clouds(1000, seed=2)
    for size in TRAINING_BATCHES:
        training = TrainingSettings(epochs=LOOP_EPOCHS, batch_size=size)
        settings = SETTINGS[name].model_copy(update={"training": training})
        with tempfile.TemporaryDirectory() as folder:
            rate = train(settings, clouds, validation, folder, device=device, progress=False).jets_per_s
        yield {
            "name": f"loop/{name}", "precision": "bfloat16" if device == "cuda" else "float32",
            "jets_per_s": round(rate, 1), "batch": size, "compiled": False, "published": None, "n": LOOP_EPOCHS,
        }  # fmt: skip


def _median_seconds(step: Callable[[], None], rounds: int) -> float:
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    seconds = []
    for round_ in range(-3, rounds):  # three to warm up
        wait()
        start = time.perf_counter()
        step()
        wait()
        if round_ >= 0:
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))

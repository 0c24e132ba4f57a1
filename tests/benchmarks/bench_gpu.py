"""Training and inference on a GPU, beside the figures of the published serving: `python -m tests.benchmarks gpu`.

Writes results/reference/gpu.json with the names of the GPU and of its driver. It runs only when it is named, because
few machines have a GPU.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from jetcorr_utils.config import project_root
from jetcorr_utils.data.batches import gather
from jetcorr_utils.files import write_json
from jetcorr_utils.models import build_model
from tests.benchmarks.bench_models import SETTINGS
from tests.clouds import random_clouds

ROUNDS = 7
TRAINING_BATCH, INFERENCE_BATCH = 500, 1024
PUBLISHED = {"infer/pfn": 27929, "infer/particlenet": 1805}
"""jets/s of the talk at batch 1024, through Triton on a GPU; it gives none for training."""


def benchmarks() -> Iterator[dict[str, Any]]:
    """One line for each network, kind and precision."""
    if not torch.cuda.is_available():
        sys.exit("gpu: PyTorch finds no CUDA device here, so there is nothing to measure")
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    device = {"gpu": torch.cuda.get_device_name(), "driver": driver, "cuda": torch.version.cuda}
    lines = [{**line, **device} for line in measure("cuda")]
    write_json(project_root() / "results" / "reference" / "gpu.json", lines)
    yield from lines


def measure(device: str, rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Jets a second of both networks, in float32 and with bfloat16 where that is safe."""
    rng = np.random.default_rng(1)
    clouds = random_clouds(rng.gamma(4, 45 / 4, INFERENCE_BATCH).astype(int).clip(1, 200))
    for name, settings in SETTINGS.items():
        torch.manual_seed(1)
        model = build_model(settings)
        model.fit_constants(clouds)
        model.to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for kind, size in (("train", TRAINING_BATCH), ("infer", INFERENCE_BATCH)):
            batch = gather(clouds, np.arange(size)).to(device)
            model.train(kind == "train")

            def step(batch=batch, train=kind == "train", model=model, optimizer=optimizer) -> None:
                with torch.set_grad_enabled(train):
                    outputs = model(batch.particles, batch.jets, batch.ptr).float()
                if train:
                    optimizer.zero_grad()
                    (outputs[:, 0] - batch.target).abs().mean().backward()
                    optimizer.step()

            for precision in ("float32", "bfloat16"):
                with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
                    rate = size / _median_seconds(step, rounds)
                yield {
                    "name": f"{kind}/{name}", "precision": precision, "jets_per_s": round(rate, 1), "batch": size,
                    "published": PUBLISHED.get(f"{kind}/{name}"), "n": rounds,
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

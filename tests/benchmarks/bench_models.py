"""Training and inference of both networks against weaver-core's, in jets a second on one core.

Both sides have the published hyperparameters, batches of 500 of the same simulated jets, the same optimiser and the
same allocator settings. weaver-core's input is ready-made, padded to 100 particles as it was published (longer jets are
cut), while ours starts from physical columns. Each figure is the median of the rounds, in CPU time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jetcorr_utils.config import ParticleNetSettings, PfnSettings, load_study
from jetcorr_utils.data.batches import CloudBatch, gather
from jetcorr_utils.data.clouds import load_clouds
from jetcorr_utils.models import build_model
from jetcorr_utils.models.allocator import keep_memory
from jetcorr_utils.models.inputs import CloudInputs
from tests.benchmarks.turns import compared, in_turns, multiplicity, rates
from tests.benchmarks.weaver_peer import PeerPfn, weaver_particlenet
from tests.clouds import random_clouds

ROUNDS = int(os.environ.get("JETCORR_BENCH_ROUNDS", 7))
BATCH = 500
WIDTH = 100
SETTINGS = {
    "pfn": PfnSettings(architecture="pfn", conv_layers=5, conv_dim=50, fc_layers=3, fc_dim=400),
    "particlenet": ParticleNetSettings(
        architecture="particlenet", blocks=3, k=16, conv_layers=3, conv_dim=50, fc_layers=3, fc_dim=200
    ),
}


def benchmarks(names: Sequence[str] = tuple(SETTINGS)) -> Iterator[dict[str, Any]]:
    """The lines of bench.jsonl that concern the networks."""
    torch.set_num_threads(1)
    keep_memory()
    study = load_clouds(load_study("smoke").data, progress=False)
    rng = np.random.default_rng(1)
    picked = study.select(np.sort(rng.choice(len(study), BATCH, replace=False)))
    # Padding loses the more the fewer particles there are: clouds as full as those of the published inputs, too
    full = random_clouds(rng.gamma(4, 45 / 4, BATCH).astype(int).clip(1, 200))
    for suffix, dataset in (("", picked), ("/45_particles", full)):
        batch = gather(dataset, np.arange(BATCH))
        for name in names:
            ours, peer = _ours(name, dataset, batch), _peer(name, dataset, batch)
            for kind, step in (("train", _training_step), ("infer", _inference_step)):
                steps = step(*ours, batch.target), step(*peer, batch.target)
                yield {**_compare(f"{kind}/{name}{suffix}", *steps), **multiplicity(dataset)}


def _compare(name: str, ours: Callable[[], None], peer: Callable[[], None]) -> dict[str, Any]:
    seconds = in_turns({"ours": ours, "peer": peer}, ROUNDS)
    return {
        "name": name, **compared(*(rates(BATCH, values) for values in seconds.values())),
        "unit": "jets/s of CPU time", "peer_is": f"weaver-core, the same jets padded to {WIDTH}",
    }  # fmt: skip


def _training_step(model: nn.Module, forward: Callable[[], Tensor], target: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        (forward()[:, 0] - target).abs().mean().backward()
        optimizer.step()

    return step


def _inference_step(model: nn.Module, forward: Callable[[], Tensor], target: Tensor) -> Callable[[], None]:
    @torch.inference_mode()
    def step() -> None:
        model.eval()
        forward()

    return step


def _ours(name: str, dataset: Any, batch: CloudBatch) -> tuple[nn.Module, Callable[[], Tensor]]:
    torch.manual_seed(1)
    model = build_model(SETTINGS[name])
    model.fit_constants(dataset)
    return model, lambda: model(batch.particles, batch.jets, batch.ptr)


def _peer(name: str, dataset: Any, batch: CloudBatch) -> tuple[nn.Module, Callable[[], Tensor]]:
    torch.manual_seed(1)
    settings = SETTINGS[name]
    columns = CloudInputs("open").particle_dim
    inputs = build_model(settings).inputs
    inputs.fit(dataset)
    with torch.no_grad():
        rows, jets = inputs(batch.particles, batch.jets, batch.ptr.diff())
    points, features, mask = (torch.zeros(BATCH, WIDTH, width) for width in (2, columns, 1))
    for jet, (first, last) in enumerate(zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True)):
        last = min(last, first + WIDTH)
        points[jet, : last - first] = batch.particles[first:last, :2]
        features[jet, : last - first] = rows[first:last]
        mask[jet, : last - first] = 1
    if isinstance(settings, PfnSettings):
        model: nn.Module = PeerPfn(settings, columns, jets.shape[1])
        return model, lambda: model(points, features, mask, jets)
    block = (settings.k, (settings.conv_dim,) * settings.conv_layers)
    model = weaver_particlenet().ParticleNet(
        columns, 1, conv_params=[block] * settings.blocks, fc_params=[(settings.fc_dim, 0.0)] * settings.fc_layers,
        use_fusion=False, use_fts_bn=False, trim=False,
    )  # fmt: skip
    arguments = [x.transpose(1, 2).contiguous() for x in (points, features, mask)]
    arguments[2] = arguments[2].bool()
    return model, lambda: model(*arguments)

"""The learning-rate finder: L. N. Smith, arXiv:1506.01186.

Train a few steps while the rate grows exponentially; below a good rate the loss hardly moves, above it it explodes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from ..data.batches import BatchLoader, CloudBatch
from ..errors import InputError
from ..models import build_model
from ..models.losses import CorrectionLoss
from .optimizers import build_optimizer

if TYPE_CHECKING:
    from ..config import ModelSettings
    from ..data.dataset import CloudDataset

__all__ = ["find_learning_rate"]


def find_learning_rate(
    settings: ModelSettings,
    train: CloudDataset,
    *,
    lowest: float = 1e-5,
    highest: float = 1.0,
    steps: int = 100,
    progress: bool = True,
) -> tuple[float, pd.DataFrame]:
    """Suggest a learning rate for the network and the optimiser of `settings`.

    Returns
    -------
    rate, curve
        A tenth of the rate with the lowest smoothed loss, and the curve behind it: columns learning_rate, loss, smooth.
        The loss is divided by that of the untrained network on the same jets, because batches differ more than the
        network changes.

    Raises
    ------
    InputError
        If the rates or the number of steps make no range.
    """
    if not 0 < lowest < highest or steps < 10:
        raise InputError(
            f"a search from {lowest} to {highest} in {steps} steps is none: 0 < lowest < highest, 10 steps"
        )
    rates = np.geomspace(lowest, highest, steps)
    options = settings.training
    losses: list[float] = []
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        model = build_model(settings).train()
        model.fit_constants(train)
        untrained = copy.deepcopy(model).eval()
        loss_of = CorrectionLoss(options)
        optimizer = build_optimizer(model, options)
        loader = BatchLoader(train, options.batch_size, shuffle=True, seed=options.seed, shard_jets=options.shard_jets)
        batches = _endless(loader)
        for rate, batch in tqdm(zip(rates, batches, strict=False), total=steps, disable=not progress, unit="step"):
            for group in optimizer.param_groups:
                group["lr"] = rate
            inputs, labels = (batch.particles, batch.jets, batch.ptr), (batch.target, batch.flavour, batch.gen_pt)
            loss = loss_of.total(loss_of(model(*inputs), *labels))
            with torch.no_grad():
                reference = CorrectionLoss(options)
                start = reference.total(reference(untrained(*inputs), *labels))
            losses.append(loss.item() / start.item())
            if not np.isfinite(losses[-1]) or losses[-1] > 4 * min(losses):
                break
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), options.gradient_clip)
            optimizer.step()
    curve = pd.DataFrame({"learning_rate": rates[: len(losses)], "loss": losses})
    curve["smooth"] = curve["loss"].ewm(alpha=0.1).mean()
    return float(curve["learning_rate"][curve["smooth"].idxmin()]) / 10, curve


def _endless(loader: BatchLoader) -> Iterator[CloudBatch]:
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        yield from loader
        epoch += 1

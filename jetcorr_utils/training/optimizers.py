"""Optimisers of the published search space, and the schedules of the learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

if TYPE_CHECKING:
    from ..config import TrainingSettings

__all__ = ["build_optimizer", "build_schedules"]


def build_optimizer(model: nn.Module, settings: TrainingSettings) -> Optimizer:
    """The optimiser `settings.optimizer` for the parameters of `model`.

    Weight decay acts on matrices only: pulling biases or the scales of batch normalisation to zero helps nothing.
    """
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    rate = settings.learning_rate
    if settings.optimizer == "ranger":  # RAdam + lookahead + gradient centralisation
        from pytorch_optimizer import Ranger  # slow to import, and needed by few

        # Without this option its first five steps go uphill: their rectification is -1 (pytorch-optimizer 4.1)
        return Ranger(groups, lr=rate, degenerated_to_sgd=True)
    classes: dict[str, Any] = {
        "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad,
    }  # fmt: skip
    return classes[settings.optimizer](groups, lr=rate)


def build_schedules(
    optimizer: Optimizer, settings: TrainingSettings, steps_per_epoch: int
) -> tuple[lr_scheduler.ChainedScheduler, lr_scheduler.ReduceLROnPlateau]:
    """Linear warm-up and a cosine to zero, to step after each step of the optimiser, and a rule for plateaus.

    The latter takes a step after each epoch, with the validation loss. What `settings.schedule` does not ask for never
    changes the rate.
    """
    warmup = round(settings.warmup * steps_per_epoch)
    by_step: list[lr_scheduler.LRScheduler] = [
        lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    ]
    if settings.schedule == "cosine":
        by_step.append(lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings.epochs * steps_per_epoch))
    patience = max(settings.patience // 3, 1) if settings.schedule == "plateau" else settings.epochs
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=patience)
    return lr_scheduler.ChainedScheduler(by_step, optimizer=optimizer), plateau

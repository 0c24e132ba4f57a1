"""Optimisers of the published search space, and the schedules of the learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

if TYPE_CHECKING:
    from ..config import TrainingSettings

__all__ = ["Schedule", "build_optimizer"]


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
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad,
    }
    return classes[settings.optimizer](groups, lr=rate)


class Schedule:
    """Linear warm-up, then a cosine to zero, a plateau rule, or a constant rate.

    Call `step` after each optimiser step and `end_epoch` after each validation.
    """

    def __init__(self, optimizer: Optimizer, settings: TrainingSettings, steps_per_epoch: int) -> None:
        warmup = round(settings.warmup * steps_per_epoch)
        by_step: list[lr_scheduler.LRScheduler] = []
        if warmup:
            by_step.append(lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup))
        if settings.schedule == "cosine":
            by_step.append(lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings.epochs * steps_per_epoch))
        self._by_step = by_step
        self._plateau = None
        if settings.schedule == "plateau":
            patience = max(settings.patience // 3, 1)
            self._plateau = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=patience)
        self._optimizer = optimizer

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self._optimizer.param_groups[0]["lr"]

    def step(self) -> None:
        """Go on by one optimiser step."""
        for scheduler in self._by_step:
            scheduler.step()

    def end_epoch(self, validation_loss: float) -> None:
        """Lower the rate if the validation loss no longer falls (plateau only)."""
        if self._plateau is not None:
            self._plateau.step(validation_loss)

    def _all(self) -> list[Any]:
        return [*self._by_step, *([self._plateau] if self._plateau is not None else [])]

    def state_dict(self) -> list[dict[str, Any]]:
        """What `load_state_dict` needs to go on from here."""
        return [scheduler.state_dict() for scheduler in self._all()]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Go on from a `state_dict`."""
        for scheduler, saved in zip(self._all(), state, strict=True):
            scheduler.load_state_dict(saved)

"""Sums over the processes of a distributed training, for what a batch must know of all its jets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

__all__ = ["process_count", "sum_over_processes", "total_over_processes"]


def process_count() -> int:
    """The number of processes that train together; 1 where none was started."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def total_over_processes(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """The sum of an array over all processes; the array itself where there is one."""
    if process_count() == 1:
        return values
    total = torch.from_numpy(values.copy())
    distributed.all_reduce(total)
    return total.numpy()


def sum_over_processes(values: Tensor) -> Tensor:
    """The same for a tensor whose gradient is wanted: that of the sum of all processes' losses."""
    return values if process_count() == 1 else _Sum.apply(values)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total

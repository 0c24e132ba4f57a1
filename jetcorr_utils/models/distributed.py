"""Sums over the processes of a distributed training, for what a batch must know of all its jets."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

__all__ = ["process_count", "total_over_processes"]


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

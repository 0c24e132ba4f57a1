"""What a network says of jets: of a batch, and of a whole data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.batches import BatchLoader, CloudBatch
from ..errors import memory_errors
from ..models import CloudNetwork, correction
from ..models.process_sums import total_over_processes
from .torchrun import share_of

if TYPE_CHECKING:
    from ..data.dataset import CloudDataset

__all__ = ["evaluate", "forward", "predict"]


def predict(model: CloudNetwork, dataset: CloudDataset, batch_size: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """The log of the correction factor and its resolution for each jet of `dataset`, both `(B,)` float32."""
    with memory_errors():
        outputs = evaluate(model, dataset, batch_size, next(model.parameters()).device)
    factor, sigma = correction(outputs)
    return factor.numpy(), sigma.numpy()


@torch.inference_mode()
def evaluate(model: nn.Module, dataset: CloudDataset, batch_size: int, device: Any) -> Tensor:
    """Outputs `(B, 3)` in the order of the data set; processes that train together share the work."""
    training = model.training
    model.eval()
    outputs = torch.zeros(len(dataset), 3)
    first, last = share_of(len(dataset))
    for batch in BatchLoader(dataset.slice(first, last), batch_size):
        outputs[first + batch.index] = forward(model, batch, device).float().cpu()
    model.train(training)
    return torch.from_numpy(total_over_processes(outputs.numpy()))


def forward(model: nn.Module, batch: CloudBatch, device: Any) -> Tensor:
    """Outputs `(B, 3)` of a batch, computed on `device`."""
    return model(batch.particles.to(device), batch.jets.to(device), batch.ptr.to(device))

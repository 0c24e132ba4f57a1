"""Batch normalisation over the rows of a ragged batch: no padding enters it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .process_sums import process_count, sum_over_processes

__all__ = ["RowNorm"]


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation over rows `(R, C)`, with the rows of all processes of a distributed training.

    A single row, which has no variance, is normalised by the running statistics.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalised rows."""
        if not self.training or len(x) < 2:
            mean, variance = self.running_mean, self.running_var
            return nn.functional.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)
        if process_count() > 1:
            return self._forward_together(x)
        return super().forward(x)

    def _forward_together(self, x: Tensor) -> Tensor:
        ones = x.new_ones(1, x.shape[1])
        sums = torch.cat([x.sum(0, keepdim=True), x.square().sum(0, keepdim=True), len(x) * ones])
        total = sum_over_processes(sums)
        mean = total[0] / total[2]
        variance = total[1] / total[2] - mean.square()
        self.track(mean.detach(), variance.detach(), total[2, 0].item())
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias

    @torch.no_grad()
    def track(self, mean: Tensor, variance: Tensor, rows: float) -> None:
        """Update the running statistics with those of a batch (`variance` divided by `rows`)."""
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_((variance * (rows / max(rows - 1, 1))).to(self.running_var), self.momentum)
        self.num_batches_tracked += 1

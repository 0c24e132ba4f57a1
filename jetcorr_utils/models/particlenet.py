"""ParticleNet: H. Qu, L. Gouskos, Phys. Rev. D 101, 056019, arXiv:1902.08570.

Blocks of EdgeConv (Y. Wang et al., arXiv:1801.07829) on the graph of each particle's k nearest neighbours: in the plane
of eta and phi for the first block, in the space of the learned features for the others. This module is the network in
plain PyTorch, the reference and what runs on GPUs; on CPUs the sums over edges are left to `edgeconv`.

Where this differs from the published code: clouds are ragged, so that padding enters neither the neighbour search nor
the batch normalisation nor the means, and a particle with fewer than k neighbours is averaged over those it has.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch_geometric.nn import MeanAggregation

from .common import CloudNetwork
from .distributed import process_count, sum_over_processes
from .edgeconv import Graph, edge_stack, fast_neighbours
from .neighbours import edge_starts, nearest_neighbours
from .threads import is_fast

if TYPE_CHECKING:
    from ..config import ParticleNetSettings

__all__ = ["EdgeConv", "ParticleNet"]


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


class EdgeConv(nn.Module):
    r"""One EdgeConv block.

    .. math:: x_i' = \mathrm{ReLU}\Big(\mathrm{BN}(W_s x_i) + \frac{1}{|N(i)|} \sum_{j \in N(i)} h(x_i, x_j - x_i)\Big)

    with `h` a stack of linear layers, each with batch normalisation over all real edges and ReLU; the shortcut is the
    identity where the widths agree. The sum is 0 for the only particle of a jet.

    Shapes: features `(N, C)`, edges `(N + 1,)` and `(E,)` (see `neighbours`), ptr `(B + 1,)` → `(N, C')`.
    """

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        super().__init__()
        sizes = [2 * inputs] + [width] * layers
        self.linears = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(RowNorm(width) for _ in range(layers))
        self.shortcut = nn.Identity()
        if inputs != width:
            self.shortcut = nn.Sequential(nn.Linear(inputs, width, bias=False), RowNorm(width))
        self.mean = MeanAggregation()

    def split_first(self) -> tuple[Tensor, Tensor]:
        """The first layer as two matrices `(C', C)`: W (x_i, x_j - x_i) = P x_i + Q x_j."""
        own, difference = self.linears[0].weight.chunk(2, dim=1)
        return own - difference, difference

    def forward(self, x: Tensor, start: Tensor, source: Tensor, ptr: Tensor, fast: bool = True) -> Tensor:
        """New features of the particles; `fast` allows the compiled kernels where they can be used."""
        shortcut = self.shortcut(x)
        if len(source) == 0:  # only jets of one particle
            return shortcut.relu()
        # The first product is done on particles rather than on edges: there are k times fewer of them
        own, other = (x @ weight.T for weight in self.split_first())
        if fast and is_fast(self, x):
            messages = edge_stack(own, other, Graph(start, source, ptr), self.linears[1:], self.norms)
        else:
            messages = self._messages(own, other, start, source)
        return (shortcut + messages).relu()

    def _messages(self, own: Tensor, other: Tensor, start: Tensor, source: Tensor) -> Tensor:
        """The mean of `h` over the neighbours of each particle, `(N, C')`, in plain PyTorch."""
        target = torch.arange(len(own), device=own.device).repeat_interleave(start.diff(), output_size=len(source))
        edges = self.norms[0](own.index_select(0, target) + other.index_select(0, source)).relu()
        for linear, norm in zip(self.linears[1:], self.norms[1:], strict=True):
            edges = norm(linear(edges)).relu()
        return self.mean(edges, ptr=start, dim=0)


class ParticleNet(CloudNetwork):
    """`blocks` blocks of EdgeConv with `conv_layers` layers of `conv_dim`, then the mean over a jet's particles."""

    def __init__(self, settings: ParticleNetSettings) -> None:
        super().__init__(settings, latent=settings.conv_dim)
        widths = [self.inputs.particle_dim] + [settings.conv_dim] * settings.blocks
        self.blocks = nn.ModuleList(EdgeConv(inputs, width, settings.conv_layers) for inputs, width in pairwise(widths))
        self.k = settings.k
        self.pool = MeanAggregation()

    def embed(self, features: Tensor, points: Tensor, ptr: Tensor) -> Tensor:
        """Mean over the particles of each jet after the last block, `(B, conv_dim)`."""
        start = edge_starts(ptr, self.k)
        positions = points
        for block in self.blocks:
            source = self._neighbours(positions, ptr, start)
            features = positions = block(features, start, source, ptr, self.fast)
        return self.pool(features, ptr=ptr, dim=0)

    def _neighbours(self, positions: Tensor, ptr: Tensor, start: Tensor) -> Tensor:
        if self.fast and is_fast(self, positions):
            return fast_neighbours(positions, ptr, start, self.k)
        return nearest_neighbours(positions, ptr, self.k)

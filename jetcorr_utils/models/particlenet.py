"""ParticleNet: H. Qu, L. Gouskos, Phys. Rev. D 101, 056019, arXiv:1902.08570.

Blocks of EdgeConv (Y. Wang et al., arXiv:1801.07829) on the graph of each particle's k nearest neighbours: in the plane
of eta and phi for the first block, in the space of the learned features for the others. This module is the network in
plain PyTorch: the reference, and what runs on GPUs.

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
from .neighbours import nearest_neighbours

if TYPE_CHECKING:
    from ..config import ParticleNetSettings

__all__ = ["EdgeConv", "ParticleNet"]


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation over rows; a single row, which has no variance, is normalised by the running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalised rows `(R, C)`."""
        if self.training and len(x) < 2:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class EdgeConv(nn.Module):
    r"""One EdgeConv block.

    .. math:: x_i' = \mathrm{ReLU}\Big(\mathrm{BN}(W_s x_i) + \frac{1}{|N(i)|} \sum_{j \in N(i)} h(x_i, x_j - x_i)\Big)

    with `h` a stack of linear layers, each with batch normalisation over all real edges and ReLU; the shortcut is the
    identity where the widths agree. The sum is 0 for the only particle of a jet.

    Shapes: features `(N, C)`, neighbour table `(N, k)` and `(N,)` → `(N, C')`.
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

    def messages(self, x: Tensor, index: Tensor, count: Tensor) -> Tensor:
        """The mean of `h` over the neighbours of each particle, `(N, C')`."""
        valid = torch.arange(index.shape[1], device=x.device) < count.unsqueeze(1)
        own, other = self.split_first()
        target = torch.repeat_interleave(count)
        # The first product is done on particles rather than on edges: there are k times fewer of them
        edges = (x @ own.T).index_select(0, target) + (x @ other.T).index_select(0, index[valid])
        edges = self.norms[0](edges).relu()
        for linear, norm in zip(self.linears[1:], self.norms[1:], strict=True):
            edges = norm(linear(edges)).relu()
        ptr = torch.nn.functional.pad(count.cumsum(0), (1, 0))
        return self.mean(edges, ptr=ptr, dim=0)

    def forward(self, x: Tensor, index: Tensor, count: Tensor) -> Tensor:
        """New features of the particles."""
        shortcut = self.shortcut(x)
        if int(count.max()) == 0:  # only jets of one particle: there are no edges
            return shortcut.relu()
        return (shortcut + self.messages(x, index, count)).relu()


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
        positions = points
        for block in self.blocks:
            features = block(features, *nearest_neighbours(positions, ptr, self.k))
            positions = features
        return self.pool(features, ptr=ptr, dim=0)

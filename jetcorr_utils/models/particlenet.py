"""ParticleNet: H. Qu, L. Gouskos, Phys. Rev. D 101, 056019, arXiv:1902.08570.

Blocks of EdgeConv on the graph of each particle's k nearest neighbours: in the plane of eta and phi for the first
block, in the space of the learned features for the others.

Where this differs from the published code: clouds are ragged, so that padding enters neither the neighbour search nor
the batch normalisation nor the means, and a particle with fewer than k neighbours is averaged over those it has.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch_geometric.nn import MeanAggregation

from .cloud_network import CloudNetwork
from .edgeconv import EdgeConv
from .neighbours import edge_starts, fast_neighbours, nearest_neighbours
from .threads import is_fast

if TYPE_CHECKING:
    from ..architectures import ParticleNetSettings

__all__ = ["ParticleNet"]


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
        start = edge_starts(ptr, self.k, len(features))
        positions = points
        for block in self.blocks:
            source = self._neighbours(positions, ptr, start)
            features = positions = block(features, start, source, ptr, self.fast)
        return self.pool(features, ptr=ptr, dim=0)

    def _neighbours(self, positions: Tensor, ptr: Tensor, start: Tensor) -> Tensor:
        if self.fast and is_fast(self, positions):
            return fast_neighbours(positions, ptr, start, self.k)
        return nearest_neighbours(positions, ptr, self.k)

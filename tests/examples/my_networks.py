"""Networks of one's own, as a user writes them: one file beside the study, which names them.

models:
  deep_sets: {architecture: "my_networks:DeepSets", pooling: sum}
  edge_gat2: {architecture: "my_networks:EdgeAttention", k: 4}
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch_geometric.nn import MLP, MeanAggregation, SumAggregation
from torch_geometric.utils import softmax

from jetcorr_utils.models import Architecture, CloudNetwork, NetworkSettings, add_architecture
from jetcorr_utils.models.neighbours import edge_starts, nearest_neighbours


class DeepSetsSettings(NetworkSettings):
    """Deep Sets, arXiv:1703.06114; a study may give these settings, and a search may vary them."""

    width: PositiveInt = 24
    pooling: Literal["sum", "mean"] = "mean"


class DeepSets(CloudNetwork):
    """A network for each particle, and the sum or mean over the particles of a jet."""

    settings_class = DeepSetsSettings

    def __init__(self, settings: DeepSetsSettings) -> None:
        super().__init__(settings, latent=settings.width)
        self.phi = MLP([self.inputs.particle_dim, settings.width, settings.width], norm=None, plain_last=False)
        self.pool = SumAggregation() if settings.pooling == "sum" else MeanAggregation()

    def embed(self, features: Tensor, points: Tensor, ptr: Tensor) -> Tensor:
        """The pooled latent vectors, `(B, width)`."""
        return self.pool(self.phi(features), ptr=ptr, dim=0)


class EdgeAttentionSettings(NetworkSettings):
    """Attention over the nearest neighbours, as in graph attention networks, arXiv:1710.10903."""

    width: PositiveInt = 16
    k: PositiveInt = 8


class EdgeAttention(CloudNetwork):
    """One layer of attention of each particle to its neighbours in the plane, then the mean over the jet."""

    settings_class = EdgeAttentionSettings

    def __init__(self, settings: EdgeAttentionSettings) -> None:
        super().__init__(settings, latent=settings.width)
        self.own = nn.Linear(self.inputs.particle_dim, settings.width)
        self.other = nn.Linear(self.inputs.particle_dim, settings.width)
        self.score = nn.Linear(settings.width, 1)
        self.sum, self.mean = SumAggregation(), MeanAggregation()

    def embed(self, features: Tensor, points: Tensor, ptr: Tensor) -> Tensor:
        """`(B, width)`."""
        particles = len(features)
        start = edge_starts(ptr, self.settings.k, particles)
        source = nearest_neighbours(points, ptr, self.settings.k)
        target = torch.arange(particles).repeat_interleave(start.diff(), output_size=len(source))
        edges = (self.own(features)[target] + self.other(features)[source]).relu()
        weights = softmax(self.score(edges), ptr=start, dim=0)
        around = self.sum(weights * edges, ptr=start, dim=0)
        return self.mean(self.own(features).relu() + around, ptr=ptr, dim=0)


add_architecture("attention_by_name", Architecture(EdgeAttention, EdgeAttentionSettings))

"""Particle Flow Network: Energy Flow Networks, P. Komiske, E. Metodiev, J. Thaler, arXiv:1810.05165.

output = F(Σ_i Φ(p_i), jet): a network Φ for each particle, a sum over the particles, and a network F for the jet. A
sum is the same for any order of its terms, and any continuous function of a set can be written so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch_geometric.nn import MLP, SumAggregation

from .cloud_network import CloudNetwork
from .particle_flow_kernel import summed_layers
from .threads import is_fast

if TYPE_CHECKING:
    from ..architectures import PfnSettings
    from ..data.dataset import CloudDataset

__all__ = ["ParticleFlowNetwork"]


class ParticleFlowNetwork(CloudNetwork):
    """The Particle Flow Network on ragged clouds: no padding, so no work for particles that are not there.

    `phi` has `conv_layers` layers of `conv_dim`; the sum over particles is in units of the training jets' mean
    multiplicity, so that it is of order one.
    """

    def __init__(self, settings: PfnSettings) -> None:
        super().__init__(settings, latent=settings.conv_dim)
        sizes = [self.inputs.particle_dim] + [settings.conv_dim] * settings.conv_layers
        self.phi = MLP(sizes, norm=None, plain_last=False)
        self.pool = SumAggregation()
        self.register_buffer("multiplicity", torch.ones(()))

    def embed(self, features: Tensor, points: Tensor, ptr: Tensor) -> Tensor:
        """Σ Φ over the particles of each jet, `(B, conv_dim)`."""
        if self.fast and is_fast(self, features):
            return summed_layers(features, ptr, self.phi.lins) / self.multiplicity
        return self.pool(self.phi(features), ptr=ptr, dim=0) / self.multiplicity

    @torch.no_grad()
    def fit_constants(self, dataset: CloudDataset) -> None:
        """Set input standardisation, output units and the unit of the sum from the training data."""
        super().fit_constants(dataset)
        self.multiplicity.fill_(float(np.diff(dataset.ptr).mean()))

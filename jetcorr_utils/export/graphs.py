"""The networks as they are exported: padded tensors in, the same numbers out.

A client of an ONNX file sends padded jets with a mask. Inside, the graph gathers the real particles and works on their
rows only, like the networks in `jetcorr_utils.models`, so that padding costs nothing and changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..models import CloudNetwork, ParticleFlowNetwork, correction

__all__ = ["PaddedNetwork", "padded_network"]


class PaddedNetwork(nn.Module):
    """Base of the exported networks.

    Parameters
    ----------
    model
        The trained network, whose weights are shared.
    """

    def __init__(self, model: CloudNetwork) -> None:
        super().__init__()
        self.model = model

    def embed(self, particles: Tensor, jets: Tensor, mask: Tensor) -> Tensor:
        """A latent vector a jet `(B, latent)` from padded particles `(B, P, 2 + F)`, jets and mask `(B, P)`."""
        raise NotImplementedError

    def forward(
        self, pf_points: Tensor, pf_features: Tensor, pf_mask: Tensor, jet_features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log of the correction factor and its resolution, each `(B, 1)`; not a number for a jet without particles.

        Shapes: `(B, P, 2)`, `(B, P, F)`, `(B, P, 1)` and `(B, 10)`.
        """
        mask = pf_mask.squeeze(2) > 0
        latent = self.embed(torch.cat([pf_points, pf_features], dim=2), jet_features, mask)
        outputs = self.model.head(torch.cat([latent, self.model.inputs.jet_features(jet_features)], dim=1))
        log_factor, sigma = correction(outputs)
        empty = ~mask.any(dim=1)
        return tuple(x.masked_fill(empty, torch.nan).unsqueeze(1) for x in (log_factor, sigma))


class PaddedPfn(PaddedNetwork):
    """Particle Flow Network: the per-particle network on rows, the sum by a product with the mask."""

    def embed(self, particles: Tensor, jets: Tensor, mask: Tensor) -> Tensor:
        place = mask.flatten()
        rows = place.nonzero().squeeze(1)
        jet = jets.index_select(0, rows // mask.shape[1])
        features = self.model.inputs.particle_features(
            particles.flatten(0, 1).index_select(0, rows), jet[:, 0], jet[:, 1]
        )
        hidden = self.model.phi(features)
        # Back to the padded layout: padding takes any row, and counts zero in the product with the mask
        hidden = torch.cat([hidden, hidden.new_zeros(1, hidden.shape[1])])
        back = torch.where(place, place.long().cumsum(0) - 1, rows.shape[0])
        padded = hidden.index_select(0, back).view(mask.shape[0], mask.shape[1], -1)
        ones = mask.to(hidden.dtype).unsqueeze(1)
        return torch.bmm(ones, padded).squeeze(1) / self.model.multiplicity


def padded_network(model: CloudNetwork) -> PaddedNetwork:
    """The network to export for a trained one."""
    if isinstance(model, ParticleFlowNetwork):
        return PaddedPfn(model).eval()
    raise NotImplementedError(type(model).__name__)

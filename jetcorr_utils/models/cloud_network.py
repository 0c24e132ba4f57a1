"""What the networks share: the check of their input, the head with its three outputs, and how outputs are read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import MLP

from ..architectures import NetworkSettings
from ..errors import InputError
from .inputs import CloudInputs, sample_rows

if TYPE_CHECKING:
    from ..data.dataset import CloudDataset

__all__ = ["CloudNetwork", "CorrectionHead", "correction", "counts_of"]


def correction(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The log of the correction factor and its resolution, each `(B,)`, from a network's outputs `(B, 3)`.

    The resolution is half of the distance between the 16 % and 84 % quantiles of log(pt_gen/pt), as in the regressions
    of the CMS experiment (arXiv:1912.06046).
    """
    return outputs[:, 0], (outputs[:, 1] + outputs[:, 2]) / 2


def counts_of(particles: Tensor, jets: Tensor, ptr: Tensor) -> Tensor:
    """The multiplicity `(B,)` of each cloud.

    Raises
    ------
    InputError
        If a cloud is empty, or if the parts of the batch do not belong together.
    """
    counts = ptr.diff()
    if len(jets) != len(counts) or len(particles) != int(ptr[-1]):
        raise InputError(f"{len(jets)} jets and {len(particles)} particles do not fit a ptr of {len(counts)} clouds")
    if len(counts) and int(counts.min()) < 1:
        raise InputError(f"jet {int(counts.argmin())} of the batch has no particles: select jets with at least one")
    return counts


class CorrectionHead(nn.Module):
    """Fully connected layers from a jet's latent vector to three numbers.

    They are the median of log(pt_gen/pt) and the positive distances from it to the 16 % and 84 % quantiles. The outputs
    are in units of the target's own spread, so that an untrained network predicts about the best constant.
    """

    def __init__(self, inputs: int, layers: int, width: int, dropout: float) -> None:
        super().__init__()
        sizes = [inputs] + [width] * layers
        self.mlp = MLP(sizes, dropout=dropout, norm=None, plain_last=False)
        self.output = nn.Linear(width, 3)
        self.register_buffer("center", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, latent: Tensor) -> Tensor:
        """Outputs `(B, 3)` from `(B, inputs)`."""
        median, widths = self.output(self.mlp(latent)).split([1, 2], dim=-1)
        # softplus(0 + this constant) = 1: the widths start at the spread of the target
        widths = F.softplus(widths + math.log(math.e - 1))
        return torch.cat([self.center + self.scale * median, self.scale * widths], dim=-1)

    @torch.no_grad()
    def fit(self, target: np.ndarray) -> None:
        """Set the units of the outputs from the targets of the training jets."""
        low, middle, high = np.quantile(target, [0.16, 0.5, 0.84])
        self.center.fill_(float(middle))
        self.scale.fill_(max(float(high - low) / 2, 1e-3))


class CloudNetwork(nn.Module):
    """Base of the networks: inputs, the body `embed` that a network defines, and the head.

    Attributes
    ----------
    settings_class, padded_class
        Of a network of one's own, for its entry in the table of architectures.
    settings
        The settings that the network was built from.
    fast
        Whether the compiled kernels may be used on CPUs; without them this is plain PyTorch.
    """

    settings_class: ClassVar[type[NetworkSettings]] = NetworkSettings
    padded_class: ClassVar[type[nn.Module] | None] = None

    def __init__(self, settings: NetworkSettings, latent: int) -> None:
        super().__init__()
        self.settings = settings
        self.fast = True
        self.inputs = CloudInputs(settings.features)
        self.head = CorrectionHead(latent + self.inputs.jet_dim, settings.fc_layers, settings.fc_dim, settings.dropout)

    def embed(self, features: Tensor, points: Tensor, ptr: Tensor) -> Tensor:
        """A latent vector a jet, `(B, latent)`, from `(N, particle_dim)` features at `(N, 2)` points.

        Jet `i` has the particles `ptr[i]` to `ptr[i + 1]`, one at least; `ptr` is `(B + 1,)`.
        """
        raise NotImplementedError

    def forward(self, particles: Tensor, jets: Tensor, ptr: Tensor) -> Tensor:
        """Outputs of a ragged batch.

        Parameters
        ----------
        particles
            Physical columns `(N, 2 + F)` of the particles of all jets, jet after jet.
        jets
            Physical columns `(B, J)`.
        ptr
            `(B + 1,)`: jet `i` has the particles `ptr[i]` to `ptr[i + 1]`.

        Returns
        -------
        Tensor
            `(B, 3)`: median of log(pt_gen/pt), and its positive distances to the 16 % and 84 % quantiles.

        Raises
        ------
        InputError
            If a jet has no particles.
        """
        counts = counts_of(particles, jets, ptr)
        features, jet_features = self.inputs(particles, jets, counts)
        latent = self.embed(features, particles[:, :2], ptr)
        return self.head(torch.cat([latent, jet_features], dim=-1))

    def fit_constants(self, dataset: CloudDataset) -> None:
        """Set all constants that come from the training data: input standardisation and output units."""
        self.inputs.fit(dataset)
        self.head.fit(np.asarray(dataset.target)[sample_rows(len(dataset), 100_000, 0)])

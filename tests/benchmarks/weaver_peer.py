"""The peer of the benchmarks: weaver-core's ParticleNet and its example PFN, with our hyperparameters.

weaver-core (https://github.com/hqucms/weaver-core, MIT) is what the published calibration was trained with. It is
installed, without its dependencies, into .venv-peer/ when a benchmark first needs it; jetcorr never uses it.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from types import ModuleType

import torch
from torch import Tensor, nn

from jetcorr_utils.config import ParticleNetSettings, PfnSettings, project_root

__all__ = ["PeerParticleNet", "PeerPfn", "weaver", "weaver_particlenet"]

REQUIREMENT = "weaver-core==0.5.3"


def weaver() -> None:
    """Make the package `weaver` importable; installed first where it is not there."""
    folder = project_root() / ".venv-peer"
    if not (folder / "weaver").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), REQUIREMENT]
        subprocess.run(command, check=True)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def weaver_particlenet() -> ModuleType:
    """weaver-core's module of ParticleNet."""
    weaver()
    from weaver.nn.model import ParticleNet as module  # noqa: N813

    return module


class PeerParticleNet(nn.Module):
    """weaver's ParticleNet for inference, with the paper's four inputs and jet features before the last layers.

    Like the published network, it computes on all padded particles.
    """

    def __init__(self, settings: ParticleNetSettings, columns: int, jet_columns: int) -> None:
        super().__init__()
        block = (settings.k, (settings.conv_dim,) * settings.conv_layers)
        self.body = weaver_particlenet().ParticleNet(
            columns, 1, conv_params=[block] * settings.blocks, fc_params=[(settings.fc_dim, 0.0)], use_fusion=False,
            use_fts_bn=True, use_counts=True, for_inference=True,
        )  # fmt: skip
        self.body.fc = nn.Identity()
        self.head = _head(settings.conv_dim + jet_columns, settings.fc_layers, settings.fc_dim)

    def forward(self, points: Tensor, features: Tensor, mask: Tensor, jets: Tensor) -> Tensor:
        """Output `(B, 1)` from `(B, P, 2)`, `(B, P, F)`, `(B, P, 1)` and `(B, J)`."""
        latent = self.body(*(x.transpose(1, 2) for x in (points, features, mask)))
        return self.head(torch.cat([latent, jets], dim=1))


class PeerPfn(nn.Module):
    """weaver's example PFN (networks/example_PFN.py of jet-universe/particle_transformer): convolutions of width 1."""

    def __init__(self, settings: PfnSettings, columns: int, jet_columns: int) -> None:
        super().__init__()
        sizes = [columns] + [settings.conv_dim] * settings.conv_layers
        self.phi = nn.Sequential(*(nn.Sequential(nn.Conv1d(a, b, 1), nn.ReLU()) for a, b in itertools.pairwise(sizes)))
        self.head = _head(settings.conv_dim + jet_columns, settings.fc_layers, settings.fc_dim)

    def forward(self, points: Tensor, features: Tensor, mask: Tensor, jets: Tensor) -> Tensor:
        """See `PeerParticleNet.forward`."""
        x = self.phi(features.transpose(1, 2)) * mask.transpose(1, 2)
        return self.head(torch.cat([x.sum(dim=2), jets], dim=1))


def _head(inputs: int, layers: int, width: int) -> nn.Sequential:
    sizes = [inputs] + [width] * layers
    pairs = itertools.pairwise(sizes)
    return nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairs), nn.Linear(width, 1))

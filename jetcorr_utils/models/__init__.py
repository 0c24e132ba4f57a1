"""The networks that learn the jet energy correction, and what they share.

They take ragged particle clouds in physical units and return, for each jet, the median of log(pt_gen/pt) and the widths
of its distribution. `architectures.ARCHITECTURES` is the table of them.
"""

from __future__ import annotations

from ..architectures import ARCHITECTURES, Architecture, NetworkSettings, add_architecture
from .cloud_network import CloudNetwork, correction
from .particle_flow import ParticleFlowNetwork
from .particlenet import ParticleNet

__all__ = [
    "Architecture", "CloudNetwork", "NetworkSettings", "ParticleFlowNetwork", "ParticleNet", "add_architecture",
    "build_model", "correction",
]  # fmt: skip


def build_model(settings: NetworkSettings) -> CloudNetwork:
    """The network of `settings`, untrained; its constants are set by `fit_constants(dataset)` or by a checkpoint."""
    return ARCHITECTURES[settings.architecture].build(settings)

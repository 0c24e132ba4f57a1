"""The networks that learn the jet energy correction, and what they share.

Both take ragged particle clouds in physical units and return, for each jet, the median of log(pt_gen/pt) and the widths
of its distribution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .common import CloudNetwork, correction
from .particle_flow import ParticleFlowNetwork
from .particlenet import ParticleNet

if TYPE_CHECKING:
    from ..config import ModelSettings

__all__ = ["CloudNetwork", "ParticleFlowNetwork", "ParticleNet", "build_model", "correction"]

_ARCHITECTURES = {"pfn": ParticleFlowNetwork, "particlenet": ParticleNet}


def build_model(settings: ModelSettings) -> CloudNetwork:
    """The network of `settings`, untrained; its constants are set by `fit_constants(dataset)` or by a checkpoint."""
    return _ARCHITECTURES[settings.architecture](settings)

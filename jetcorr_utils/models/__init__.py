"""The networks that learn the jet energy correction, and what they share.

They take ragged particle clouds in physical units and return, for each jet, the median of log(pt_gen/pt) and the widths
of its distribution. `architectures.ARCHITECTURES` is the table of them.
"""

from __future__ import annotations

from ..architectures import ARCHITECTURES, Architecture, NetworkSettings, add_architecture
from .compiler_folder import have_own_folder

have_own_folder()

from .cloud_network import CloudNetwork, correction  # noqa: E402
from .particle_flow import ParticleFlowNetwork  # noqa: E402
from .particlenet import ParticleNet  # noqa: E402

__all__ = [
    "Architecture", "CloudNetwork", "NetworkSettings", "ParticleFlowNetwork", "ParticleNet", "add_architecture",
    "build_model", "correction",
]  # fmt: skip


def build_model(settings: NetworkSettings) -> CloudNetwork:
    """The network of `settings`, untrained; its constants are set by `fit_constants(dataset)` or by a checkpoint."""
    return ARCHITECTURES[settings.architecture].build(settings)

"""Jet flavours as CMS defines them: ghost hadrons and ghost partons clustered into the jets.

The momenta of partons and heavy hadrons are scaled to almost nothing and clustered together with the jets' particles,
which they cannot change; a jet's flavour is read from the ghosts inside it (CMS SWGuideBTagMCTools, arXiv:0707.1378).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .generator import heavy_quark
from .particles import Particles

__all__ = ["GHOST_SCALE", "hadron_flavour", "parton_flavour"]

GHOST_SCALE = 1e-18


def hadron_flavour(jet: NDArray, ghosts: Particles, jets: int) -> NDArray[np.int32]:
    """5 for jets (j,) with a b hadron, else 4 for those with a c hadron, else 0.

    `jet` (g,) is the jet of each ghost, -1 outside of jets.
    """
    flavour = np.zeros(jets, np.int32)
    np.maximum.at(flavour, jet[jet >= 0], heavy_quark(np.abs(ghosts.pdg[jet >= 0])).astype(np.int32))
    return flavour


def parton_flavour(jet: NDArray, ghosts: Particles, jets: int) -> NDArray[np.int32]:
    """Signed parton flavour of jets (j,): b before c before the hardest parton; 21 gluon, 0 without any parton."""
    pdg = np.abs(ghosts.pdg)
    inside = (jet >= 0) & (pdg < 100)
    rank = np.select([pdg == 5, pdg == 4], [2, 1], 0)[inside]
    order = np.lexsort((ghosts.pt[inside], rank, jet[inside]))
    flavour = np.zeros(jets, np.int32)
    flavour[jet[inside][order]] = ghosts.pdg[inside][order]  # the last of each jet wins
    return flavour

"""The container that travels from the generator to the detector: particles of many events as flat columns.

Flat columns with offsets, rather than awkward records, because the detector's loops are compiled by numba.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from ..jets.ragged import offsets_of, owners

_DEFAULTS = {"d0": 0.0, "dz": 0.0, "flight": 0.0, "origin": -1}
"""Of a particle that comes from its collision."""

__all__ = ["Particles", "concatenate", "concatenate_in_order", "to_cartesian"]


@dataclass
class Particles:
    """Particles of E events, n in all, sorted by event.

    Attributes
    ----------
    pt, eta, phi, mass
        Float arrays (n,), GeV and radians.
    pdg
        Signed PDG numbers (n,).
    charge
        In units of e (n,).
    radius
        Transverse distance of the production point from the beam (n,), m.
    vertex
        0 for the hard collision, 1, 2, … for pileup (n,).
    offsets
        Particles of event i are rows offsets[i] to offsets[i + 1] (E + 1,).
    d0, dz
        How far the straight line on which the particle was made passes by its collision (n,), m: across the beam, with
        the sign of CMS, and along it. Default: 0.
    flight
        Distance of the production point from the collision (n,), m. Default: 0.
    origin
        Equal for charged particles of the same decay (n,); -1 for all others, the default.
    """

    pt: NDArray
    eta: NDArray
    phi: NDArray
    mass: NDArray
    pdg: NDArray
    charge: NDArray
    radius: NDArray
    vertex: NDArray
    offsets: NDArray
    d0: NDArray = field(default_factory=lambda: np.empty(0))
    dz: NDArray = field(default_factory=lambda: np.empty(0))
    flight: NDArray = field(default_factory=lambda: np.empty(0))
    origin: NDArray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        """Fill the columns that were not given."""
        for name, value in _DEFAULTS.items():
            if len(getattr(self, name)) != len(self.pt):
                setattr(self, name, np.full(len(self.pt), value))

    def __len__(self) -> int:
        return len(self.pt)

    @property
    def events(self) -> int:
        """Number of events."""
        return len(self.offsets) - 1

    @property
    def energy(self) -> NDArray:
        """Energies (n,), GeV."""
        return np.sqrt((self.pt * np.cosh(self.eta)) ** 2 + self.mass**2)

    def select(self, mask: NDArray) -> Particles:
        """The particles where `mask` (n,) is true."""
        columns = {f.name: getattr(self, f.name)[mask] for f in fields(self) if f.name != "offsets"}
        kept = np.concatenate([[0], np.cumsum(mask)])
        return Particles(**columns, offsets=kept[self.offsets])

    def repeated(self, times: int) -> Particles:
        """All events `times` times, one round after the other."""
        columns = {f.name: np.tile(getattr(self, f.name), times) for f in fields(self) if f.name != "offsets"}
        return Particles(**columns, offsets=offsets_of(np.tile(np.diff(self.offsets), times)))


def concatenate(first: Particles, second: Particles) -> Particles:
    """Particles of the same E events put together; in each event those of `first` come first."""
    return concatenate_in_order(first, second)[0]


def concatenate_in_order(first: Particles, second: Particles) -> tuple[Particles, NDArray]:
    """`concatenate`, and the order (n,) by which it sorts the rows of `first` with those of `second` behind."""
    order = np.argsort(np.concatenate([owners(first.offsets), owners(second.offsets)]), kind="stable")
    columns = {
        f.name: np.concatenate([getattr(first, f.name), getattr(second, f.name)])[order]
        for f in fields(first)
        if f.name != "offsets"
    }
    return Particles(**columns, offsets=first.offsets + second.offsets), order


def to_cartesian(pt: NDArray, eta: NDArray, phi: NDArray, mass: NDArray, offsets: NDArray) -> ak.Array:
    """Four-momenta of E events as the record array (E * var) with px, py, pz, E that fastjet takes."""
    pz = pt * np.sinh(eta)
    content = ak.zip({"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pz, "E": np.sqrt(pt**2 + pz**2 + mass**2)})
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), content.layout))

"""The bins in which the response is measured, and how they are written on figures and in metrics.json.

Bins are in the generator jet's pt and abs(eta), as in the paper (github.com/deinal/jec-inference), so that
a correction cannot move a jet from one bin to another. The upper edge belongs to the next bin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..jets.flavours import FLAVOURS

__all__ = [
    "ETA_BINS", "FLAVOURS", "FLAVOUR_GROUPS", "JEC_ETA_EDGES", "PT_BINS", "PT_EDGES", "PT_EDGES_ABOVE_CUT", "WIDEST",
    "Bin", "bin_text", "filled_bins", "flavour_name", "selection_text",
]  # fmt: skip


@dataclass(frozen=True)
class Bin:
    """A half-open interval [low, high); `name` is its key in metrics.json.

    >>> Bin(30, float("inf")).name, Bin(0, 1.3).name
    ('30-inf', '0-1.3')
    """

    low: float
    high: float

    @property
    def name(self) -> str:
        """The bin as text, for example ``30-inf``."""
        return f"{self.low:g}-{self.high:g}"

    def contains(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Which of the values lie in the bin."""
        values = np.asarray(values)
        return (values >= self.low) & (values < self.high)

    def text(self, symbol: str, unit: str = "") -> str:
        """The bin as a mathtext inequality, for a figure."""
        unit = rf"\ \mathrm{{{unit}}}" if unit else ""
        if np.isinf(self.high):
            return rf"${symbol} > {self.low:g}{unit}$"
        if self.low == 0:
            return rf"${symbol} < {self.high:g}{unit}$"
        return rf"${self.low:g} < {symbol} < {self.high:g}{unit}$"


#: gen pt, GeV
PT_BINS = tuple(Bin(*edges) for edges in ((30, np.inf), (30, 100), (100, 300), (300, 1000), (1000, np.inf)))

#: abs(gen eta)
ETA_BINS = tuple(Bin(*edges) for edges in ((0, 1.3), (1.3, 2.5), (0, 2.5)))

#: the names of the widest of these bins, in which models are compared by one number
WIDEST = (ETA_BINS[2].name, PT_BINS[0].name)

#: fine bins in gen pt for figures, GeV: the paper's, 20 even steps in log(pt) from 20 to 3000 GeV
PT_EDGES = np.geomspace(20.0, 3000.0, 20)

#: those of them above 30 GeV: below, the cut on the reconstructed pt keeps only what fluctuates upwards
PT_EDGES_ABOVE_CUT = PT_EDGES[PT_EDGES > 30]

#: eta of the towers of CMS's calorimeter within the tracker, in which its jet energy corrections are binned
JEC_ETA_EDGES = np.array([
    0, 0.087, 0.174, 0.261, 0.348, 0.435, 0.522, 0.609, 0.696, 0.783, 0.879, 0.957, 1.044, 1.131, 1.218, 1.305, 1.392,
    1.479, 1.566, 1.653, 1.740, 1.830, 1.930, 2.043, 2.172, 2.322, 2.500,
])  # fmt: skip
JEC_ETA_EDGES = np.concatenate([-JEC_ETA_EDGES[:0:-1], JEC_ETA_EDGES])

#: flavours whose jets are like each other
FLAVOUR_GROUPS = {"uds": ("u", "d", "s"), "c": ("c",), "b": ("b",), "g": ("g",)}


def filled_bins(
    values: NDArray[np.float64], edges: Iterable[float], min_jets: int, among: NDArray[np.bool_] | bool = True
) -> Iterator[tuple[float, float, NDArray[np.int64]]]:
    """Lower and upper edge of each bin that has enough jets, and the indices of these.

    Parameters
    ----------
    values
        Of the jets, (N,).
    among
        (N,), the jets that count.
    """
    for low, high in pairwise(edges):
        rows = np.flatnonzero(among & (values >= low) & (values < high))
        if len(rows) >= min_jets:
            yield low, high, rows


def flavour_name(flavour: int) -> str:
    """The name of a flavour; ``other`` for a jet without a label."""
    return FLAVOURS.get(abs(int(flavour)), "other")


def bin_text(name: str) -> str:
    """The name of a bin as it is written on an axis.

    >>> bin_text("30-100"), bin_text("30-inf")
    ('30–100', '30+')
    """
    return name.replace("-inf", "+").replace("-", "–")


def selection_text(pt_bin: Bin | None = None, eta_bin: Bin | None = None) -> str:
    """The selection of a figure as text, one line for each variable."""
    lines = []
    if pt_bin is not None:
        lines.append(pt_bin.text(r"p_\mathrm{T}^\mathrm{gen}", "GeV"))
    if eta_bin is not None:
        lines.append(eta_bin.text(r"|\eta^\mathrm{gen}|"))
    return "\n".join(lines)

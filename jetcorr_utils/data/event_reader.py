"""What readers of files with an entry for each event have in common: their jets are flat over the events."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from ..jets.columns import PARTICLES
from ..jets.ragged import offsets_of
from .reader import JetReader

__all__ = ["EventReader", "cloud_of", "flat"]

_JETS_AN_EVENT = 5


class EventReader(JetReader):
    """An open file of events, whose jets refer to their candidates.

    Attributes
    ----------
    tree
        Of the file.
    collection
        Which of its jets.
    branches
        Those that are read.
    """

    tree: Any
    collection: str
    branches: Collection[str]

    @property
    def attached(self) -> bool:
        """The candidates are attached to the jets by references."""
        return True

    def entries_of(self, step: int | str) -> int:
        """The number of events of about `step` jets."""
        if isinstance(step, int):
            return max(1, step // _JETS_AN_EVENT)
        return max(1, int(self.tree.num_entries_for(step, filter_name=sorted(self.branches))))


def flat(values: ak.Array) -> NDArray:
    """The values of all events in a row."""
    return ak.to_numpy(ak.flatten(values, axis=None))


def cloud_of(columns: dict[str, NDArray], owner: NDArray, jets: int) -> ak.Array:
    """The candidates of each of so many jets, `(jets, var)`, from columns that are sorted by the jet, their `owner`."""
    contents = [
        ak.contents.NumpyArray(values.astype(PARTICLES[name].dtype, copy=False)) for name, values in columns.items()
    ]
    offsets = ak.index.Index64(offsets_of(np.bincount(owner, minlength=jets)))
    return ak.Array(ak.contents.ListOffsetArray(offsets, ak.contents.RecordArray(contents, list(columns))))

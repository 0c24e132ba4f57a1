"""What a notebook shows while a cell is at work: the curve of a training, the table of a search, drawn again in place.

In a batch run the last state is what stays in the executed notebook.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from IPython.display import display

from .physics.learning import plot_history

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .data import CloudDataset
    from .tuning import SearchResult

__all__ = ["LiveHistory", "LiveTable"]

SHARE = 0.05  # of the time that may go into drawing
LONGEST = 2.0  # seconds between two drawings, if there is something new; also where drawing takes longer than its share


class _Live:
    """One output of a cell, replaced by what is shown next."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._next = 0.0

    def show(self, content: Any) -> None:
        """Put `content` in the place of what is shown."""
        if self._handle is None:
            self._handle = display(content, display_id=True)
        else:
            self._handle.update(content)

    def _now_and_then(self, draw: Callable[[], Any]) -> None:
        """Show what `draw` makes, unless it was done so lately that drawing would slow the work down."""
        start = time.monotonic()
        if start >= self._next:
            self.show(draw())
            end = time.monotonic()
            self._next = end + min((end - start) / SHARE, LONGEST)


class LiveHistory(_Live):
    """The learning curve of a training that goes on: a callback of `jetcorr_utils.training.train`.

    Parameters
    ----------
    clouds
        The jets, training and validation: they say what the best constant gives.
    title, source
        What is trained, and what made its jets.
    epochs
        How many there may be: the figure has room for them from the start.
    """

    def __init__(self, clouds: CloudDataset, title: str = "", source: str = "", epochs: int | None = None) -> None:
        super().__init__()
        self._rows: list[dict[str, float]] = []
        constant = np.median(clouds.split("train").target)
        error = float(np.abs(clouds.split("validation").target - constant).mean())
        self._draw = lambda: plot_history(pd.DataFrame(self._rows), error, title, epochs).complete(source)

    def __call__(self, epoch: int, row: dict[str, float]) -> None:
        self.earlier([row])

    def earlier(self, rows: Sequence[dict[str, float]]) -> None:
        """The epochs of a training that goes on, which are drawn at once."""
        self._rows += rows
        self._now_and_then(self._draw)

    def end(self, figure: Figure) -> None:
        """Leave the figure of the whole training, also of the epochs before it was resumed."""
        self.show(figure)


class LiveTable(_Live):
    """The trials of a search that have ended, best first: its `watch`, see `jetcorr_utils.tuning.search`."""

    def __call__(self, result: SearchResult) -> None:
        self.show(result.table())

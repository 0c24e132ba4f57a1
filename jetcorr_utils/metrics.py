"""The metrics: for each its function, which values are better, and what it is called, in one table.

The search for hyperparameters notes them of each trial, metrics.json has them in bins with bootstrap errors, and the
results table and the figures show them. One of one's own is a function in a file among the study's `extensions`::

    def tail(jets):  # the share of jets whose response is far off
        return jets.mean(abs(jets.response - 1) > 0.3)

    add_metric(Metric("tail", "jets far off", "less", "%", tail))

Functions get `Jets` and return a number for the data and one for each replica of the bootstrap, (1 + R,), or None where
there are too few jets of some flavour.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

if TYPE_CHECKING:
    from .bootstrap import Bootstrap

__all__ = [
    "METRICS", "OBJECTIVE", "Jets", "Metric", "add_metric", "binned_metrics", "compared_metrics", "flavour_spread",
    "gains_in", "shown_metrics", "trial_metrics",
]  # fmt: skip

Numbers = NDArray[np.float64]


class Jets:
    """The response = corrected pt / generator pt of the jets of one bin, and what metrics are made of.

    Parameters
    ----------
    response
        (N,) of all jets that the bootstrap has.
    rows
        Which of them lie in the bin.
    flavours
        The same for each flavour; None if there are too few jets of some.
    standard
        The same jets with the standard correction; None: these are they.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        response: Numbers,
        rows: NDArray[np.int64],
        flavours: Sequence[NDArray[np.int64]] | None,
        standard: Jets | None = None,
    ) -> None:
        self._bootstrap, self.response, self.rows, self._flavours = bootstrap, response, rows, flavours
        self.standard = standard or self

    def quantiles(self, probabilities: Sequence[float]) -> Numbers:
        """Quantiles (1 + R, Q) of the response."""
        return self._bootstrap.quantiles(self.response, self.rows, probabilities)

    def mean(self, values: NDArray) -> Numbers:
        """The mean (1 + R,) over the bin of a value or a condition (N,) of all jets."""
        return self._bootstrap.mean(values, self.rows)

    @functools.cached_property
    def quartiles(self) -> Numbers:
        """(3, 1 + R)."""
        return self.quantiles((0.25, 0.5, 0.75)).T

    @property
    def median(self) -> Numbers:
        """(1 + R,)."""
        return self.quartiles[1]

    @property
    def resolution(self) -> Numbers:
        """Interquartile range over median (1 + R,)."""
        low, median, high = self.quartiles
        return (high - low) / median

    @functools.cached_property
    def flavour_medians(self) -> Numbers | None:
        """Median response of each flavour (1 + R, F)."""
        if not self._flavours:
            return None
        return np.stack([self._bootstrap.median(self.response, rows) for rows in self._flavours], axis=-1)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    name
        In metrics.json, in the table of trials, and for Katib.
    title
        In figures and tables.
    better
        Which values are: "more", "less", or those near "zero".
    unit
        "%" for a fraction that figures and the results table show in per cent.
    function
        Its value of some jets; None for what a training notes itself.
    gain
        Whether it compares with the standard correction, which then has none itself.
    trial
        Whether the search notes it of each trial.
    compared
        Whether the figures of a search compare trials by it.
    shown
        Whether the results table has it, and a figure shows it in bins.
    digits
        Decimals in the table of trials.
    log
        Whether axes for it are logarithmic.
    reach
        The name of the metric that says how far it can come, which its figure marks; empty if none does.
    """

    name: str
    title: str
    better: Literal["more", "less", "zero"]
    unit: str = ""
    function: Callable[[Jets], Numbers | None] | None = None
    gain: bool = False
    trial: bool = True
    compared: bool = True
    shown: bool = True
    digits: int = 4
    log: bool = False
    reach: str = ""

    @property
    def scale(self) -> float:
        """What its value is multiplied with where it is shown."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def label(self) -> str:
        """With its unit, for the axis of a figure."""
        title = self.title[:1].upper() + self.title[1:]
        return f"{title} [{self.unit}]" if self.unit else title

    def measure(self, jets: Jets) -> Numbers | None:
        """Its value of some jets; None also where it has no function."""
        return None if self.function is None else self.function(jets)

    def cost(self, values: NDArray) -> NDArray:
        """Numbers that are the less, the better."""
        return {"more": -values, "less": values, "zero": np.abs(values)}[self.better]


def flavour_spread(medians: Numbers) -> Numbers:
    """The paper's flavour dependence (…,) from medians (…, 6): the sum of their distances from their mean."""
    return np.abs(medians - medians.mean(axis=-1, keepdims=True)).sum(axis=-1)


def _of_medians(number: Callable[[Numbers], Numbers]) -> Callable[[Jets], Numbers | None]:
    """A metric that is a number of the medians by flavour."""
    return lambda jets: None if jets.flavour_medians is None else number(jets.flavour_medians)


def _range(medians: Numbers) -> Numbers:
    return np.ptp(medians, axis=-1)


def _flavour_gain(jets: Jets) -> Numbers | None:
    ours, standard = jets.flavour_medians, jets.standard.flavour_medians
    return None if ours is None or standard is None else 1 - flavour_spread(ours) / flavour_spread(standard)


def _flavour_reach(jets: Jets) -> Numbers | None:
    """The gain of a correction without flavour dependence: what statistics make of equal medians, and of each."""
    ours, standard = jets.flavour_medians, jets.standard.flavour_medians
    if ours is None or standard is None:
        return None
    noise = flavour_spread(ours[1:] - ours[0])
    return 1 - np.concatenate([[noise.mean()], noise]) / flavour_spread(standard)[0]


def _resolution_gain(jets: Jets) -> Numbers:
    return 1 - jets.resolution / jets.standard.resolution


#: what a search minimises
OBJECTIVE = "mae"

_TABLE = (
    Metric(OBJECTIVE, "validation MAE", "less", digits=5),
    Metric("constant_mae", "MAE of the best constant", "less", digits=5, compared=False),
    Metric("resolution_gain", "resolution gain", "more", "%", _resolution_gain, gain=True),
    Metric("flavour_spread", "flavour spread", "less", "", _of_medians(flavour_spread), compared=False, shown=False),
    Metric("closure", "closure", "zero", "%", lambda jets: jets.median - 1, compared=False, shown=False),
    Metric("jets_per_s", "inference", "more", "jets/s", digits=0, log=True),
    Metric("train_jets_per_s", "training", "more", "jets/s", digits=0, log=True, compared=False),
    Metric("parameters", "parameters", "less", digits=0, compared=False),
    Metric("epochs", "epochs", "less", digits=0, compared=False),
    Metric("seconds", "time", "less", "s", compared=False),
    Metric("resolution", "resolution", "less", "%", lambda jets: jets.resolution, trial=False, shown=False),
    Metric("flavour_gain", "flavour gain", "more", "%", _flavour_gain, gain=True, trial=False, reach="flavour_reach"),
    Metric("flavour_range", "flavour range", "less", "%", _of_medians(_range), trial=False, shown=False),
    Metric("flavour_reach", "flavour reach", "more", "%", _flavour_reach, gain=True, trial=False, shown=False),
)

#: by their names
METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}


def add_metric(metric: Metric) -> None:
    """Enter a metric into the table.

    Raises
    ------
    InputError
        If there is one of this name already, or it has no function.
    """
    if metric.name in METRICS:
        raise InputError(f"metric {metric.name!r}: there is one of this name already; choose another")
    if metric.function is None:
        raise InputError(f"metric {metric.name!r}: has no function")
    METRICS[metric.name] = metric


def gains_in(entry: object) -> bool:
    """Whether an entry of metrics.json is that of a model: it has gains over the standard correction."""
    return isinstance(entry, Mapping) and any(metric.gain and metric.name in entry for metric in METRICS.values())


def trial_metrics() -> list[str]:
    """The names of what the search notes of each trial, its objective first."""
    return [metric.name for metric in METRICS.values() if metric.trial]


def compared_metrics() -> list[str]:
    """The names of those that the figures of a search compare trials by."""
    return [metric.name for metric in METRICS.values() if metric.trial and metric.compared]


def binned_metrics() -> list[Metric]:
    """What metrics.json has in bins."""
    return [metric for metric in METRICS.values() if metric.function is not None]


def shown_metrics() -> list[Metric]:
    """What the results table and figures in bins show."""
    return [metric for metric in binned_metrics() if metric.shown]

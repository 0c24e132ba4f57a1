"""Are these jets like those that a model was trained on? Each feature is compared, for particles by their class.

A correction that was learned from one kind of jets is wrong for another in a way that no error shows: other pileup,
another detector, a column in other units. `summarise` describes the training jets in a few kilobytes that travel with
the model; `DriftCheck` compares with it what is corrected, chunk by chunk.

The measure is the Kolmogorov-Smirnov distance, the largest difference between two cumulative distributions, taken at
eleven quantiles of the training jets. It is a warning where it is above 0.1 and what chance may add: the 99 % point of
the distance between two samples of the same jets, 1.63 · sqrt(1/n + 1/m) (Smirnov 1948), where n and m count jets,
because particles of one jet are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..jets.columns import JETS, PARTICLES, POINTS
from ..jets.particle_classes import CLASSES, FORWARD
from ..jets.ragged import owners, rows_of
from .dataset import CloudDataset, Clouds

__all__ = ["Drift", "DriftCheck", "summarise"]

PROBABILITIES = np.array([0.02, *np.arange(0.1, 0.95, 0.1), 0.98])
TOLERATED = 0.1
"""A distance that matters: a tenth of the jets lie elsewhere."""
SAMPLE = 20_000
"""Jets that the summary is made of, at most."""
JETS_A_CHUNK = 2_000
"""Jets of each chunk that are looked at, at most: the check must cost less than the correction."""
_CLASSES = CLASSES | {"forward": tuple(number for numbers in FORWARD.values() for number in numbers)}


@dataclass(frozen=True)
class Drift:
    """A feature that is not distributed as in the training.

    Attributes
    ----------
    feature
        ``rhoAll``, or ``photons: PF_pT``.
    distance, tolerated
        Between the distributions, 0 to 1, and what is not worth a warning.
    mean, training_mean
        Of the feature.
    """

    feature: str
    distance: float
    tolerated: float
    mean: float
    training_mean: float

    def text(self) -> str:
        """One line."""
        return (
            f"{self.feature}: mean {self.mean:.3g}, in training {self.training_mean:.3g} "
            f"(distance {self.distance:.2f}, tolerated {self.tolerated:.2f})"
        )


def summarise(dataset: CloudDataset, jets: int = SAMPLE) -> dict[str, Any]:
    """How the features of training jets are distributed.

    Parameters
    ----------
    dataset
        The training jets.
    jets
        Describe a random sample of so many.

    Returns
    -------
    dict
        For JSON. By feature: ``edges`` (quantiles), ``below`` (the share of values up to each edge), ``mean``, and
        ``jets`` (how many have such values).
    """
    index = np.random.default_rng(0).permutation(len(dataset))[:jets]
    summary = {}
    for name, values, count in _features(dataset, np.sort(index)):
        if not len(values):
            continue
        edges = np.unique([float(f"{edge:.5g}") for edge in np.quantile(values, PROBABILITIES)])
        summary[name] = {
            "edges": edges.tolist(), "below": _rounded((_up_to(values, edges) / len(values)).tolist()),
            "mean": float(f"{values.mean():.5g}"), "jets": count,
        }  # fmt: skip
    return summary


class DriftCheck:
    """Compares the features of jets with a summary of the training jets.

    Parameters
    ----------
    summary
        From `summarise`.
    """

    def __init__(self, summary: Mapping[str, Mapping[str, Any]]) -> None:
        self.summary = dict(summary)
        self._up_to = {name: np.zeros(len(entry["edges"])) for name, entry in self.summary.items()}
        self._values = dict.fromkeys(self.summary, 0)
        self._sum = dict.fromkeys(self.summary, 0.0)
        self._jets = dict.fromkeys(self.summary, 0)

    def add(self, clouds: Clouds) -> None:
        """Take in a chunk of jets, or an even selection of them where there are many."""
        jets = len(clouds.ptr) - 1
        index = np.unique(np.linspace(0, jets - 1, min(jets, JETS_A_CHUNK)).astype(np.int64)) if jets else np.zeros(0)
        for name, values, count in _features(clouds, index.astype(np.int64)):
            if name in self.summary:
                self._up_to[name] += _up_to(values, np.asarray(self.summary[name]["edges"]))
                self._values[name] += len(values)
                self._sum[name] += float(values.sum())
                self._jets[name] += count

    def merge(self, other: DriftCheck) -> None:
        """Take in what another check of the same summary has seen."""
        for name in self.summary:
            self._up_to[name] = self._up_to[name] + other._up_to[name]
            self._values[name] += other._values[name]
            self._sum[name] += other._sum[name]
            self._jets[name] += other._jets[name]

    def drifts(self) -> list[Drift]:
        """The features that are not distributed as in the training, the worst first."""
        found = []
        for name, entry in self.summary.items():
            if not self._values[name]:
                continue
            distance = float(np.abs(self._up_to[name] / self._values[name] - entry["below"]).max())
            tolerated = TOLERATED + 1.63 * np.sqrt(1 / self._jets[name] + 1 / entry["jets"])
            if distance > tolerated:
                mean = self._sum[name] / self._values[name]
                found.append(Drift(name, distance, float(tolerated), mean, entry["mean"]))
        return sorted(found, key=lambda drift: -drift.distance)


def _features(clouds: Clouds, index: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.float64], int]]:
    """Name, finite values, and the number of jets behind them, for each feature of the jets of some rows."""
    if not len(index):
        return
    for name, column in zip(clouds.jet_columns, np.asarray(clouds.jets)[index].astype(np.float64).T, strict=True):
        if JETS[name].drift:
            values = np.abs(column) if JETS[name].symmetric else column
            values = values[np.isfinite(values)]
            yield JETS[name].range_name, values, len(values)
    rows, ptr = rows_of(np.asarray(clouds.ptr), index)
    particles = np.asarray(clouds.particles)[rows].astype(np.float64)
    column = dict(zip(clouds.columns, particles.T, strict=True))
    owner = owners(ptr)
    classes = {"particles": np.ones(len(rows), bool)}  # for a network that is not told the classes
    if "PF_id" in column:
        classes = {label: np.isin(np.abs(column["PF_id"]), ids) for label, ids in _CLASSES.items()}
    compared = {name: values for name, values in column.items() if PARTICLES[name].drift and name not in POINTS}
    compared["dR"] = np.hypot(*(column[name] for name in POINTS))
    for label, mine in classes.items():
        number = np.bincount(owner[mine], minlength=len(index)).astype(np.float64)
        yield f"{label}: number in a jet", number, len(index)
        for name, column in compared.items():
            values = column[mine]
            yield f"{label}: {name}", values[np.isfinite(values)], int((number > 0).sum())


def _up_to(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many values are at most each edge."""
    # a float32 column that is equal to a rounded edge must not fall on the other side of it
    return np.searchsorted(np.sort(values), edges + 1e-6 * np.abs(edges), side="right").astype(np.float64)


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 4) for value in values]

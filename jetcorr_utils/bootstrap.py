"""Quantiles with errors from a Poisson bootstrap that pairs everything with everything.

In each replica every event gets a weight from a Poisson distribution of mean 1 (Chamandy et al., 2012). The weight is a
hash of the event's identity, the replica and the seed. So jets of one event, which share pileup and the hard process,
are drawn together; two corrections, two bins or two files see the same replica, which makes the error of a difference
or a ratio profit from their correlation; and neither the order of the jets nor their split into files matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, factorial
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .compiled import compiled
from .config import PhysicsSettings
from .jets.splitmix import GOLDEN, finalise

__all__ = [
    "Bootstrap", "Estimate", "estimate", "event_keys", "poisson_weights", "value_and_error", "weighted_quantiles",
]  # fmt: skip

#: value, error, and number of jets behind them: an entry of metrics.json
Estimate = dict[str, float | int | None]

# P(weight <= k) of the Poisson distribution of mean 1, in units of 2^-64; 20 is beyond what 64 bits can tell from 1.
_POISSON_CDF = np.array(
    [min(int(2**64 * sum(exp(-1) / factorial(i) for i in range(k + 1))), 2**64 - 1) for k in range(20)], dtype=np.uint64
)


_mix = compiled(finalise, nogil=True)


@compiled(nogil=True)
def _combine(columns):
    keys = np.zeros(columns.shape[1], np.uint64)
    for row in range(columns.shape[0]):
        for i in range(columns.shape[1]):
            keys[i] = _mix(keys[i] + GOLDEN + columns[row, i])
    return keys


@compiled(nogil=True)
def _fill_weights(keys, seed, cdf, weights):
    for replica in range(weights.shape[0]):
        salt = _mix(seed + GOLDEN * np.uint64(replica + 1))
        for i in range(keys.size):
            uniform = _mix(keys[i] ^ salt)
            count = 0
            while count < 19 and uniform >= cdf[count]:
                count += 1
            weights[replica, i] = count


@compiled(nogil=True)
def _scan(values, order, weights, probabilities, result):
    """Quantiles of the sorted `values`, each repeated `weights[replica, order]` times; linear interpolation."""
    for replica in range(weights.shape[0]):
        row = weights[replica]
        total = 0
        for i in order:
            total += row[i]
        if total == 0:
            result[replica, :] = np.nan
            continue
        at, seen = 0, np.int64(row[order[0]])
        for q in range(probabilities.size):
            place = probabilities[q] * (total - 1)
            below = np.int64(np.floor(place))
            while seen <= below:
                at += 1
                seen += row[order[at]]
            low = values[at]
            if place > below:
                after, until = at, seen
                while until <= below + 1:
                    after += 1
                    until += row[order[after]]
                low += (place - below) * (values[after] - low)
            result[replica, q] = low


@compiled(nogil=True)
def _shortest(values, order, weights, share, result):
    """Length of the shortest interval of the sorted `values` that holds `share` of each replica's weight."""
    for replica in range(weights.shape[0]):
        row = weights[replica]
        total = 0
        for i in order:
            total += row[i]
        needed = share * total
        best, start, inside = np.inf, 0, 0
        for end in range(order.size):
            inside += row[order[end]]
            while inside - row[order[start]] >= needed and start < end:
                inside -= row[order[start]]
                start += 1
            if inside >= needed and total > 0:
                best = min(best, values[end] - values[start])
        result[replica] = best if total > 0 else np.nan


def event_keys(run: ArrayLike, lumi: ArrayLike, event: ArrayLike) -> NDArray[np.uint64]:
    """One number (N,) for each event, well mixed, from its run, luminosity section and event numbers."""
    columns = [np.asarray(column).astype(np.int64).view(np.uint64) for column in (run, lumi, event)]
    return _combine(np.stack(columns))


def poisson_weights(keys: NDArray[np.uint64], replicas: int, seed: int = 1) -> NDArray[np.uint8]:
    """Poisson weights of mean 1, (replicas, N), a function of key, replica and seed only."""
    weights = np.empty((replicas, len(keys)), np.uint8)
    _fill_weights(keys, np.uint64(seed), _POISSON_CDF, weights)
    return weights


def weighted_quantiles(
    values: ArrayLike, weights: NDArray[np.uint8], probabilities: Sequence[float], rows: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Quantiles of values that are repeated `weights` times, as ``np.quantile(np.repeat(values, w), p)`` has them.

    Parameters
    ----------
    values
        (N,), finite.
    weights
        (R, M) whole numbers; one set of quantiles for each row.
    probabilities
        (Q,), ascending.
    rows
        (N,) the column of `weights` that belongs to each value; default: value i has column i.

    Returns
    -------
    (R, Q); NaN where a row's weights are all zero.
    """
    values = np.asarray(values, dtype=np.float64)
    result = np.full((len(weights), len(probabilities)), np.nan)
    if values.size:
        order = np.argsort(values, kind="stable")
        columns = order if rows is None else np.asarray(rows)[order]
        _scan(values[order], columns, weights, np.asarray(probabilities, dtype=np.float64), result)
    return result


def estimate(replicas: NDArray[np.float64], jets: int) -> Estimate:
    """Value (entry 0: the data as they are) and error (standard deviation of the others) from bootstrapped numbers."""
    value, error = float(replicas[0]), float(np.std(replicas[1:], ddof=1)) if len(replicas) > 2 else np.nan
    return {
        "value": value if np.isfinite(value) else None,
        "error": error if np.isfinite(error) else None,
        "jets": int(jets),
    }


def value_and_error(name: str, replicas: NDArray[np.float64]) -> dict[str, float]:
    """The same as two cells of a table: ``<name>`` and ``<name>_error``."""
    return {name: replicas[0], f"{name}_error": np.std(replicas[1:], ddof=1)}


class Bootstrap:
    """Quantiles and means of a table's jets in the data (entry 0) and in each replica (entries 1 to R).

    Parameters
    ----------
    predictions
        The jets; the weights follow from run, lumi and event.
    replicas, seed
        How many replicas, and which.
    """

    def __init__(self, predictions: pd.DataFrame, replicas: int = 200, seed: int = 1) -> None:
        keys = event_keys(predictions["run"], predictions["lumi"], predictions["event"])
        self.weights = np.concatenate([np.ones((1, len(keys)), np.uint8), poisson_weights(keys, replicas, seed)])

    @classmethod
    def of(cls, predictions: pd.DataFrame, settings: PhysicsSettings | None) -> Self:
        """With the replicas and the seed of the settings, or of a study without such."""
        settings = settings or PhysicsSettings()
        return cls(predictions, settings.replicas, settings.seed)

    @classmethod
    def of_data(cls, jets: int) -> Self:
        """Without replicas: entry 0 only."""
        bootstrap = cls.__new__(cls)
        bootstrap.weights = np.ones((1, jets), np.uint8)
        return bootstrap

    def quantiles(
        self, values: NDArray[np.float64], rows: NDArray[np.int64], probabilities: Sequence[float]
    ) -> NDArray[np.float64]:
        """Quantiles (1 + R, Q) of ``values[rows]``."""
        return weighted_quantiles(values[rows], self.weights, probabilities, rows)

    def median(self, values: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Medians (1 + R,) of ``values[rows]``."""
        return self.quantiles(values, rows, (0.5,))[:, 0]

    def resolution(self, values: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Interquartile range over median (1 + R,) of ``values[rows]``."""
        low, median, high = self.quantiles(values, rows, (0.25, 0.5, 0.75)).T
        return (high - low) / median

    def mean(self, values: NDArray, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Means (1 + R,) of ``values[rows]``."""
        weights = self.weights[:, rows].astype(np.float32)
        with np.errstate(invalid="ignore"):
            return (weights @ values[rows].astype(np.float32)) / weights.sum(axis=1)

    def effective_sigma(self, values: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Half the shortest interval with 68.27 % of ``values[rows]`` (1 + R,), a width that tails do not touch."""
        chosen = np.asarray(values, dtype=np.float64)[rows]
        order, result = np.argsort(chosen, kind="stable"), np.full(len(self.weights), np.nan)
        if len(rows):
            _shortest(chosen[order], rows[order], self.weights, 0.6827, result)
        return result / 2

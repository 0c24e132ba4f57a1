"""The range of the jets that a model was trained on, feature by feature, and which jets are beyond it.

Beyond its training a network extrapolates, and says nothing of it: a wrong rho or a candidate of another kind gives a
correction like any other. So the model carries the lowest and the highest value of each input and of the factor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..jets.columns import JETS, PARTICLES, Column, Features, features_of, jet_columns, particle_columns
from .dataset import CloudDataset, Clouds
from .selection import LARGEST_RATIO

__all__ = ["factor_range", "factors_within", "inputs_within", "jet_range", "range_names", "training_range", "unnoted"]

CHUNK = 1 << 20
"""Particles in memory at a time."""


def range_names(features: Features) -> list[str]:
    """What a range may be given of; ``particles`` is the multiplicity."""
    jets, particles = jet_columns(features), particle_columns(features)
    return [
        *(JETS[name].range_name for name in jets), "particles", *(PARTICLES[name].range_name for name in particles)
    ]  # fmt: skip


def jet_range(dataset: Clouds) -> dict[str, list[float]]:
    """Lowest and highest value of each column of the jets (GeV; abs(eta)), and of their multiplicity."""
    return {name: [float(values.min()), float(values.max())] for name, values in _jet_values(dataset)}


def training_range(dataset: CloudDataset) -> dict[str, list[float]]:
    """`jet_range`, and lowest and highest value of each column of the particles; read in chunks."""
    low, high = (np.full(dataset.particles.shape[1], sign * np.inf) for sign in (1, -1))
    for start in range(0, len(dataset.particles), CHUNK):
        chunk = _values(dataset.particles[start : start + CHUNK], dataset.columns, PARTICLES)
        columns = np.stack([values for _, values in chunk])
        low, high = np.minimum(low, columns.min(axis=1)), np.maximum(high, columns.max(axis=1))
    names = [PARTICLES[name].range_name for name in dataset.columns]
    return jet_range(dataset) | {name: [float(a), float(b)] for name, a, b in zip(names, low, high, strict=True)}


def factor_range(dataset: CloudDataset) -> list[float]:
    """Lowest and highest factor pt_gen/pt of training jets."""
    return [float(np.exp(np.float64(limit))) for limit in (np.min(dataset.target), np.max(dataset.target))]


def inputs_within(clouds: Clouds, metadata: Mapping[str, str]) -> NDArray[np.bool_]:
    """Which jets `(B,)` are within the range of a model's training jets, in every feature that it noted."""
    limits = json.loads(metadata.get("training_range", "{}"))
    inside = np.ones(len(clouds.ptr) - 1, dtype=bool)
    for name, values in _jet_values(clouds):
        inside &= _between(values, limits.get(name))
    good = np.ones(len(clouds.particles), dtype=bool)
    for name, values in _values(clouds.particles, clouds.columns, PARTICLES):
        good &= _between(values, limits.get(name))
    if not good.all():
        inside[np.repeat(np.arange(len(inside)), np.diff(clouds.ptr))[~good]] = False
    return inside


def unnoted(metadata: Mapping[str, str]) -> list[str]:
    """The inputs, and ``factor``, of which a model does not say which values its training jets had."""
    limits = json.loads(metadata.get("training_range", "{}"))
    names = [name for name in range_names(features_of(metadata)) if name not in limits]
    return names + ["factor"] * ("factor_range" not in metadata)


def factors_within(log_factor: NDArray, metadata: Mapping[str, str]) -> NDArray[np.bool_]:
    """Which corrections `(B,)` are factors that the model's training jets had.

    A model that does not say which they were is held to the ratios that jets of a training may have at all.
    """
    low, high = json.loads(metadata.get("factor_range", "null")) or (1 / LARGEST_RATIO, LARGEST_RATIO)
    values = np.asarray(log_factor, np.float64)
    return (np.log(low) <= values) & (values <= np.log(high))


def _jet_values(clouds: Clouds) -> Iterator[tuple[str, NDArray]]:
    yield from _values(clouds.jets, clouds.jet_columns, JETS)
    yield "particles", clouds.multiplicity


def _values(matrix: NDArray, names: Sequence[str], table: Mapping[str, Column]) -> Iterator[tuple[str, NDArray]]:
    for name, values in zip(names, np.asarray(matrix).T, strict=True):
        yield table[name].range_name, np.abs(values) if table[name].symmetric else values


def _between(values: NDArray, limits: tuple[float, float] | None) -> NDArray[np.bool_] | bool:
    """Whether each value is within limits, at any where there are none; what is not a number never is."""
    return True if limits is None else (values >= limits[0]) & (values <= limits[1])

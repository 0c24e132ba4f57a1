"""From ragged clouds to the padded tensors that the exported models and the server take.

Jets are batched in the order of their multiplicity, so that little padding is made, sent and computed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Clouds
from ..errors import InputError

__all__ = ["INPUT_NAMES", "OUTPUT_NAMES", "Clouds", "batches_by_multiplicity", "pad"]

INPUT_NAMES = ("pf_points", "pf_features", "pf_mask", "jet_features")
OUTPUT_NAMES = ("output", "sigma")


def batches_by_multiplicity(ptr: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers of at most `batch_size` jets at a time, jets with few particles first.

    Raises
    ------
    InputError
        If a jet has no particles.
    """
    counts = np.diff(ptr)
    if len(counts) and counts.min() < 1:
        raise InputError(f"jet {int(counts.argmin())} has no particles: select jets with at least one")
    order = np.argsort(counts, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def pad(clouds: Clouds, rows: NDArray[np.int64], particles: int | None = None) -> dict[str, NDArray[np.float32]]:
    """The model's inputs for some jets, padded with zeros.

    Parameters
    ----------
    clouds
        The jets.
    rows
        `(b,)` row numbers of the jets wanted.
    particles
        How many particles to pad to; default: as many as the largest of these jets has.

    Returns
    -------
    dict
        ``pf_points`` (b, particles, 2), ``pf_features`` (b, particles, F), ``pf_mask`` (b, particles, 1),
        ``jet_features`` (b, J), all float32.
    """
    ptr = np.asarray(clouds.ptr)
    counts = ptr[rows + 1] - ptr[rows]
    width = max(int(counts.max(initial=1)), particles or 1)
    mask = np.arange(width) < counts[:, None]
    block = np.zeros((len(rows), width, clouds.particles.shape[1]), np.float32)
    # One fancy index over a memory map reads the rows once and in order
    block[mask] = np.asarray(clouds.particles)[(ptr[rows][:, None] + np.arange(width))[mask]]
    return {
        "pf_points": np.ascontiguousarray(block[:, :, :2]),
        "pf_features": np.ascontiguousarray(block[:, :, 2:]),
        "pf_mask": mask[:, :, None].astype(np.float32),
        "jet_features": np.ascontiguousarray(np.asarray(clouds.jets)[rows], dtype=np.float32),
    }

"""The k nearest neighbours of each particle among the real particles of its own jet.

A jet of n particles has min(k, n - 1) neighbours for each. A particle is never its own neighbour, also not where
another one sits at the same position. Of equally near ones, that which comes first in the jet is taken first. One at a
distance that is not a number comes last, before places where there is no particle.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .threads import jet_parts, kernel, numpy_of, one_blas_thread, over

__all__ = ["edge_starts", "fast_neighbours", "nearest_neighbours"]

_ZERO = np.float32(0)
_LARGEST = np.finfo(np.float32).max


def edge_starts(ptr: Tensor, k: int, particles: int | None = None) -> Tensor:
    """Where the edges of each particle begin, `(N + 1,)`, from where the jets begin, `(B + 1,)`.

    The number N of particles need not be given where this is not traced for an export.
    """
    sizes = ptr.diff()
    degree = (sizes - 1).clamp(max=k).repeat_interleave(sizes, output_size=particles)
    return torch.nn.functional.pad(degree.cumsum(0), (1, 0))


def nearest_neighbours(positions: Tensor, ptr: Tensor, k: int) -> Tensor:
    """The neighbours of all particles in plain PyTorch: the reference, and the path on GPUs.

    Parameters
    ----------
    positions
        `(N, d)`.
    ptr
        `(B + 1,)`, where the jets begin and end.
    k
        How many neighbours to look for.

    Returns
    -------
    Tensor
        `(E,)` row numbers, particle after particle (see `edge_starts`), nearest first.
    """
    if torch.compiler.is_exporting():
        return _exported_neighbours(positions, ptr, k)
    sizes = ptr.diff()
    longest = int(sizes.max())
    found = min(k, longest - 1)
    if found == 0:
        return ptr.new_empty(0)
    jet = torch.arange(len(sizes), device=ptr.device).repeat_interleave(sizes, output_size=len(positions))
    place = torch.arange(len(positions), device=ptr.device) - ptr[jet]
    padded = positions.new_zeros(len(sizes), longest, positions.shape[1])
    padded[jet, place] = positions.detach()
    distance = _padded_distances(padded)
    distance.nan_to_num_(nan=torch.finfo(distance.dtype).max)
    absent = torch.arange(longest, device=ptr.device) >= sizes.unsqueeze(1)
    distance.masked_fill_(absent.unsqueeze(1), torch.inf)
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    # A stable sort keeps the order of equally near particles, topk does not
    nearest = distance.sort(dim=2, stable=True).indices[:, :, :found] + ptr[:-1].view(-1, 1, 1)
    real = torch.arange(found, device=ptr.device) < (sizes - 1).unsqueeze(1)
    return nearest[jet, place][real[jet]]


def _exported_neighbours(positions: Tensor, ptr: Tensor, k: int) -> Tensor:
    """The same by one table of all pairs `(N, N)`, without numbers that depend on the data: a graph of few jets."""
    row = torch.arange(positions.shape[0], device=ptr.device)
    jet = (row.unsqueeze(1) >= ptr[1:]).sum(dim=1)
    distance = _padded_distances(positions.unsqueeze(0)).squeeze(0)
    unwanted = (jet.unsqueeze(1) != jet) | (row.unsqueeze(1) == row)
    last = torch.finfo(distance.dtype).max
    distance = distance.nan_to_num(nan=last / 2).masked_fill(unwanted, last)
    distance = torch.nn.functional.pad(distance, (0, k), value=last)
    nearest = distance.topk(k, dim=1, largest=False).indices
    degree = (ptr.diff() - 1).clamp(max=k).index_select(0, jet)
    return nearest[torch.arange(k, device=ptr.device) < degree.unsqueeze(1)]


def _padded_distances(x: Tensor) -> Tensor:
    """`(B, P, P)` from `(B, P, d)`; by differences in the plane, where they are exact, else by one product."""
    if x.shape[2] <= 3:
        return (x.unsqueeze(1) - x.unsqueeze(2)).square().sum(dim=3)
    norm = x.square().sum(dim=2)
    return torch.baddbmm(norm.unsqueeze(1) + norm.unsqueeze(2), x, x.transpose(1, 2), alpha=-2)


def fast_neighbours(positions: Tensor, ptr: Tensor, start: Tensor, k: int) -> Tensor:
    """What `nearest_neighbours` gives, by a compiled kernel on CPUs; `start` is as `edge_starts` gives it."""
    x, bounds, begin = numpy_of(positions), ptr.numpy(), start.numpy()
    source = np.empty(int(begin[-1]), np.int64)
    arguments = (bounds, k, x, begin, source)
    with one_blas_thread():
        over(jet_parts(bounds), _nearest, *arguments)
    return torch.from_numpy(source)


@kernel
def _nearest(first, last, ptr, k, positions, start, source):
    """Neighbours of the particles of the jets `first` to `last`, nearest first, in the order of the jet where equal."""
    largest = 0
    for jet in range(first, last):
        largest = max(largest, ptr[jet + 1] - ptr[jet])
    products = np.empty(largest * largest, np.float32)
    best = np.empty(k, np.float32)
    for jet in range(first, last):
        begin, size = ptr[jet], ptr[jet + 1] - ptr[jet]
        x = positions[begin : begin + size]
        distances = products[: size * size].reshape((size, size))
        _squared_distances(x, distances)
        for i in range(size):
            found = min(k, size - 1)
            _smallest(distances[i], i, found, begin, best, source[start[begin + i] : start[begin + i] + found])


@kernel
def _squared_distances(x, out):
    """Squared distances, up to a constant in each row; by differences in the plane, where they are exact."""
    size, dim = x.shape
    if dim <= 3:
        for i in range(size):
            for j in range(size):
                total = _ZERO
                for d in range(dim):
                    total += (x[i, d] - x[j, d]) ** 2
                out[i, j] = total
        return
    np.dot(x, x.T, out)
    norm = np.empty(size, np.float32)
    for i in range(size):
        norm[i] = out[i, i]
    for i in range(size):
        for j in range(size):
            out[i, j] = norm[j] - 2 * out[i, j]


@kernel
def _smallest(distances, self, count, offset, best, out):
    """Put `offset` + the places of the `count` smallest distances but that of `self` into `out`, smallest first.

    A distance that is not a number is as large as one can be.
    """
    filled = 0
    for j in range(len(distances)):
        value = distances[j] if distances[j] <= _LARGEST else _LARGEST
        if j == self or (filled == count and value >= best[count - 1]):
            continue
        place = min(filled, count - 1)
        while place > 0 and best[place - 1] > value:
            best[place] = best[place - 1]
            out[place] = out[place - 1]
            place -= 1
        best[place] = value
        out[place] = offset + j
        filled = min(filled + 1, count)

"""The k nearest neighbours of each particle among the real particles of its own jet.

A jet of n particles has min(k, n - 1) neighbours for each. A particle is never its own neighbour, also not where
another one sits at the same position. Of equally near ones, that which comes first in the jet is taken first. One at a
distance that is not a number comes last, before places where there is no particle.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["edge_starts", "nearest_neighbours"]


def edge_starts(ptr: Tensor, k: int) -> Tensor:
    """Where the edges of each particle begin, `(N + 1,)`, from where the jets begin, `(B + 1,)`."""
    sizes = ptr.diff()
    degree = (sizes - 1).clamp(max=k).repeat_interleave(sizes)
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
    sizes = ptr.diff()
    longest = int(sizes.max())
    found = min(k, longest - 1)
    if found == 0:
        return ptr.new_empty(0)
    jet = torch.arange(len(sizes), device=ptr.device).repeat_interleave(sizes, output_size=len(positions))
    place = torch.arange(len(positions), device=ptr.device) - ptr[jet]
    padded = positions.new_zeros(len(sizes), longest, positions.shape[1])
    padded[jet, place] = positions.detach()
    distance = _squared_distances(padded)
    distance.nan_to_num_(nan=torch.finfo(distance.dtype).max)
    absent = torch.arange(longest, device=ptr.device) >= sizes.unsqueeze(1)
    distance.masked_fill_(absent.unsqueeze(1), torch.inf)
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    # A stable sort keeps the order of equally near particles, topk does not
    nearest = distance.sort(dim=2, stable=True).indices[:, :, :found] + ptr[:-1].view(-1, 1, 1)
    real = torch.arange(found, device=ptr.device) < (sizes - 1).unsqueeze(1)
    return nearest[jet, place][real[jet]]


def _squared_distances(x: Tensor) -> Tensor:
    """`(B, P, P)` from `(B, P, d)`; by differences in the plane, where they are exact, else by one product."""
    if x.shape[2] <= 3:
        return (x.unsqueeze(1) - x.unsqueeze(2)).square().sum(dim=3)
    norm = x.square().sum(dim=2)
    return torch.baddbmm(norm.unsqueeze(1) + norm.unsqueeze(2), x, x.transpose(1, 2), alpha=-2)

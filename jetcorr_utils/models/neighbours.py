"""The k nearest neighbours of each particle among the real particles of its own jet.

A table `(N, k)` of row numbers with the number of valid entries of each row: a jet of n particles has min(k, n - 1)
neighbours for each. A particle is never its own neighbour, also not where another one sits at the same position.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nearest_neighbours"]


def nearest_neighbours(positions: Tensor, ptr: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Row numbers of the nearest neighbours, in plain PyTorch: the reference, and the path on GPUs.

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
    index, count
        `(N, k)`, nearest first, of which the first `count[i]` of row `i` are valid and the rest are `i` itself;
        `(N,)`.
    """
    rows = torch.arange(len(positions), device=positions.device)
    sizes = ptr.diff()
    jet = torch.repeat_interleave(sizes, output_size=len(positions))
    place = rows - ptr[jet]
    longest = int(sizes.max())
    found = min(k, longest - 1)
    index = rows.unsqueeze(1).repeat(1, k)
    count = (sizes - 1).clamp(max=k)[jet]
    if found == 0:
        return index, count
    padded = positions.new_zeros(len(sizes), longest, positions.shape[1])
    padded[jet, place] = positions.detach()
    distance = _squared_distances(padded)
    absent = torch.arange(longest, device=positions.device) >= sizes.unsqueeze(1)
    distance.masked_fill_(absent.unsqueeze(1), torch.inf)
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    nearest = distance.topk(found, dim=2, largest=False).indices + ptr[:-1].view(-1, 1, 1)
    valid = torch.arange(found, device=positions.device) < count.unsqueeze(1)
    index[:, :found] = torch.where(valid, nearest[jet, place], rows.unsqueeze(1))
    return index, count


def _squared_distances(x: Tensor) -> Tensor:
    """`(B, P, P)` from `(B, P, d)`; by differences in the plane, where they are exact, else by one product."""
    if x.shape[2] <= 3:
        return (x.unsqueeze(1) - x.unsqueeze(2)).square().sum(dim=3)
    norm = x.square().sum(dim=2)
    return torch.baddbmm(norm.unsqueeze(1) + norm.unsqueeze(2), x, x.transpose(1, 2), alpha=-2)

"""EdgeConv: Y. Wang et al., arXiv:1801.07829, on the graph of each particle's nearest neighbours.

This module is the layer in plain PyTorch, the reference and what runs on GPUs; on CPUs the sums over edges are left to
`edgeconv_stack`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.nn import MeanAggregation

from .edgeconv_stack import Graph, edge_stack
from .norm import RowNorm
from .threads import is_fast

__all__ = ["EdgeConv"]


class EdgeConv(nn.Module):
    r"""One EdgeConv block.

    .. math:: x_i' = \mathrm{ReLU}\Big(\mathrm{BN}(W_s x_i) + \frac{1}{|N(i)|} \sum_{j \in N(i)} h(x_i, x_j - x_i)\Big)

    with `h` a stack of linear layers, each with batch normalisation over all real edges and ReLU; the shortcut is the
    identity where the widths agree. The sum is 0 for the only particle of a jet.

    Shapes: features `(N, C)`, edges `(N + 1,)` and `(E,)` (see `neighbours`), ptr `(B + 1,)` → `(N, C')`.
    """

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        super().__init__()
        sizes = [2 * inputs] + [width] * layers
        self.linears = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(RowNorm(width) for _ in range(layers))
        self.shortcut = nn.Identity()
        if inputs != width:
            self.shortcut = nn.Sequential(nn.Linear(inputs, width, bias=False), RowNorm(width))
        self.mean = MeanAggregation()

    def split_first(self) -> tuple[Tensor, Tensor]:
        """The first layer as two matrices `(C', C)`: W (x_i, x_j - x_i) = P x_i + Q x_j."""
        own, difference = self.linears[0].weight.chunk(2, dim=1)
        return own - difference, difference

    def forward(self, x: Tensor, start: Tensor, source: Tensor, ptr: Tensor, fast: bool = True) -> Tensor:
        """New features of the particles; `fast` allows the compiled kernels where they can be used."""
        shortcut = self.shortcut(x)
        if len(source) == 0:  # only jets of one particle
            return shortcut.relu()
        # The first product is done on particles rather than on edges: there are k times fewer of them
        own, other = (x @ weight.T for weight in self.split_first())
        if fast and is_fast(self, x):
            messages = edge_stack(own, other, Graph(start, source, ptr), self.linears[1:], self.norms)
        else:
            messages = self._messages(own, other, start, source)
        return (shortcut + messages).relu()

    def _messages(self, own: Tensor, other: Tensor, start: Tensor, source: Tensor) -> Tensor:
        """The mean of `h` over the neighbours of each particle, `(N, C')`, in plain PyTorch."""
        target = torch.arange(len(own), device=own.device).repeat_interleave(start.diff(), output_size=len(source))
        edges = self.norms[0](own.index_select(0, target) + other.index_select(0, source)).relu()
        for linear, norm in zip(self.linears[1:], self.norms[1:], strict=True):
            edges = norm(linear(edges)).relu()
        return self.mean(edges, ptr=start, dim=0)

r"""The EdgeConv stack on CPUs, forward and backward, on the compiled kernels; equal to the plain PyTorch one.

The stack is relu ∘ BN_L ∘ W_L ∘ … ∘ relu ∘ BN_2 ∘ W_2 ∘ relu ∘ BN_1 on z_1 = own_i + other_j for each edge from j to i,
followed by the mean over the edges of each i. Batch normalisation over E edges, with gradient g at what leaves it, has

.. math:: \partial z = \gamma \sigma^{-1} \big(g - \overline{g} - \hat z\, \overline{g \hat z}\big),
          \quad \hat z = (z - \mu) / \sigma, \qquad \partial\gamma = \sum g \hat z, \quad \partial\beta = \sum g

(S. Ioffe, C. Szegedy, arXiv:1502.03167), which is affine in g and in z with one coefficient a channel: so each layer
needs one pass over the edges forward and one backward, and only the z of the layers are stored.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from . import edgeconv_kernels as kernels
from .process_sums import total_over_processes
from .threads import jet_parts, numpy_of, one_blas_thread, over, run

if TYPE_CHECKING:
    from .norm import RowNorm

__all__ = ["Graph", "edge_stack"]

Array = NDArray[np.float32]
T = TypeVar("T")


def edge_stack(
    own: Tensor, other: Tensor, graph: Graph, linears: Sequence[nn.Linear], norms: Sequence[RowNorm]
) -> Tensor:
    """The mean over the neighbours of each particle of what the stack of L layers gives, `(N, C)`.

    Parameters
    ----------
    own, other
        The first layer's share of a particle and of its neighbour, `(N, C)`.
    graph
        The edges.
    linears, norms
        The L - 1 layers after the first, and L batch normalisations; a training updates their running statistics.
    """
    weights = [linear.weight for linear in linears]
    with one_blas_thread():
        if not norms[0].training:
            return _infer(own, other, graph, weights, norms)
        affine = [parameter for norm in norms for parameter in (norm.weight, norm.bias)]
        mean, moments, edges = _EdgeStack.apply(own, other, graph, [norm.eps for norm in norms], *affine, *weights)
    for norm, (batch_mean, batch_variance) in zip(norms, moments, strict=True):
        norm.track(batch_mean, batch_variance, edges)
    return mean


class Graph:
    """The edges of a batch, and its division into parts of whole jets, one a thread.

    `start` `(N + 1,)` says where the edges of each particle begin, `source` `(E,)` is the neighbour of each edge.
    """

    def __init__(self, start: Tensor, source: Tensor, ptr: Tensor) -> None:
        self.start, self.source = start.numpy(), source.numpy()
        bounds = ptr.numpy()
        self._particles = [(bounds[a], bounds[b]) for a, b in jet_parts(bounds)]
        self._edges = [(self.start[a], self.start[b]) for a, b in self._particles]

    def by_particles(self, kernel: Callable[..., T], *arguments: Any) -> list[T]:
        """The results of `kernel(first, last, *arguments)` for ranges of particles that cover the batch."""
        return over(self._particles, kernel, *arguments)

    def by_edges(self, kernel: Callable[..., T], rows: Sequence[Array], *arguments: Any) -> list[T]:
        """The results of `kernel(*rows, *arguments)` for ranges of edges that cover the batch, each with its rows."""
        return run([functools.partial(kernel, *(x[a:b] for x in rows), *arguments) for a, b in self._edges])


class _Norm(NamedTuple):
    """A batch normalisation with the statistics of a batch: z → scale z + shift."""

    mean: NDArray[np.float64]
    inverse: NDArray[np.float64]
    gamma: Array
    scale: Array
    shift: Array

    @classmethod
    @np.errstate(invalid="ignore", over="ignore")  # what is not a number stays so without a word, as in PyTorch
    def of(cls, sums: NDArray[np.float64], edges: float, gamma: Array, beta: Array, epsilon: float) -> _Norm:
        """From the sums of z and z² over the edges of this process."""
        sums = total_over_processes(sums)
        mean = sums[0] / edges
        inverse = 1 / np.sqrt(np.maximum(sums[1] / edges - mean**2, 0) + epsilon)
        scale = gamma * inverse
        return cls(mean, inverse, gamma, scale.astype(np.float32), (beta - mean * scale).astype(np.float32))

    @np.errstate(invalid="ignore", over="ignore")
    def backward(self, local: NDArray[np.float64], edges: float) -> tuple[tuple[Array, Array, Array], Array, Array]:
        """Coefficients of g, z and 1 in the gradient at z, and the gradients of gamma and beta.

        `local` `(2, C)` has the sums of g and g z over the edges of this process.
        """
        total = total_over_processes(local)
        at_gamma, at_gamma_total = (self.inverse * (sums[1] - self.mean * sums[0]) for sums in (local, total))
        by_z = -self.gamma * self.inverse**2 * at_gamma_total / edges
        constant = -self.gamma * self.inverse * total[0] / edges - by_z * self.mean
        coefficients = tuple(x.astype(np.float32) for x in (self.gamma * self.inverse, by_z, constant))
        return coefficients, at_gamma.astype(np.float32), local[0].astype(np.float32)


class _EdgeStack(torch.autograd.Function):
    """The training: the means `(N, C)`, mean and variance of each z `(L, 2, C)`, and the number of edges."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, other: Tensor, graph: Graph, epsilons: list[float], *parameters: Tensor) -> Any:
        """Layer after layer: finish the batch normalisation of the one before, then the product and its sums."""
        layers = len(epsilons)
        gammas, betas, weights = _unpack(parameters, layers)
        shape = (len(graph.source), own.shape[1])
        edges = float(total_over_processes(np.array([shape[0]], np.float64))[0])
        zs: list[Array] = [_empty(shape) for _ in range(layers)]
        norms: list[_Norm] = []
        for layer, z in enumerate(zs):
            if layer == 0:
                sums = graph.by_particles(
                    kernels.add_ends, graph.start, graph.source, numpy_of(own), numpy_of(other), z
                )
            else:
                weight_t, norm = np.ascontiguousarray(weights[layer - 1].T), norms[-1]
                sums = graph.by_edges(kernels.forward_layer, (zs[layer - 1], z), norm.scale, norm.shift, weight_t)
            norms.append(_Norm.of(sum(sums), edges, gammas[layer], betas[layer], epsilons[layer]))
        mean, active = _empty(own.shape), _empty((2, *own.shape))
        norm = norms[-1]
        graph.by_particles(kernels.mean_over_neighbours, graph.start, zs[-1], norm.scale, norm.shift, mean, active)
        ctx.graph, ctx.zs, ctx.norms, ctx.weights, ctx.active, ctx.edges = graph, zs, norms, weights, active, edges
        moments = [(norm.mean, norm.inverse**-2 - epsilon) for norm, epsilon in zip(norms, epsilons, strict=True)]
        moments = torch.from_numpy(np.array(moments))
        ctx.mark_non_differentiable(moments)
        return torch.from_numpy(mean), moments, edges

    @staticmethod
    def backward(ctx: Any, at_mean: Tensor, *_: Any) -> Any:
        """From the last layer to the first."""
        graph, zs, norms = ctx.graph, ctx.zs, ctx.norms
        count = torch.from_numpy(np.diff(graph.start)).clamp(min=1)
        at_sum = numpy_of(at_mean / count.unsqueeze(1))
        # The ReLU after the last z lets `active[0]` edges of a particle through, and their z sum up to `active[1]`
        sums = (at_sum * ctx.active).sum(axis=1, dtype=np.float64)
        gradient = _empty(zs[-1].shape)
        affine: list[Array] = []
        weights: list[Array] = []
        with one_blas_thread():
            scale, shift = norms[-1].scale, norms[-1].shift
            graph.by_particles(kernels.backward_mean, graph.start, zs[-1], scale, shift, at_sum, gradient)
            for layer in range(len(zs) - 1, 0, -1):
                coefficients, *gradients = norms[layer].backward(sums, ctx.edges)
                affine = [*gradients, *affine]
                norm, rows = norms[layer - 1], (gradient, zs[layer], zs[layer - 1])
                layer_weight = ctx.weights[layer - 1]
                results = graph.by_edges(
                    kernels.backward_layer, rows, *coefficients, layer_weight, norm.scale, norm.shift
                )
                weights.insert(0, sum(result[0] for result in results).astype(np.float32))
                sums = sum(result[1] for result in results)
            coefficients, *gradients = norms[0].backward(sums, ctx.edges)
            affine = [*gradients, *affine]
            ends = np.zeros_like(at_sum), np.zeros_like(at_sum)
            graph.by_particles(kernels.spread_ends, graph.start, graph.source, gradient, zs[0], *coefficients, *ends)
        at_own, at_other, *rest = map(torch.from_numpy, (*ends, *affine, *weights))
        return at_own, at_other, None, None, *rest


def _infer(own: Tensor, other: Tensor, graph: Graph, weights: Sequence[Tensor], norms: Sequence[RowNorm]) -> Tensor:
    """With the running statistics: all layers at once, the batch normalisations folded into the weights."""
    scales = [norm.weight / (norm.running_var + norm.eps).sqrt() for norm in norms]
    shifts = [norm.bias - norm.running_mean * scale for norm, scale in zip(norms, scales, strict=True)]
    own_, other_ = numpy_of(own * scales[0] + shifts[0]), numpy_of(other * scales[0])
    channels = own.shape[1]
    folded = [(w * scale.unsqueeze(1)).T for w, scale in zip(weights, scales[1:], strict=True)]
    weights_t = numpy_of(torch.stack(folded) if folded else own.new_zeros(0, channels, channels))
    later = numpy_of(torch.stack(shifts[1:]) if folded else own.new_zeros(0, channels))
    mean = _empty(own.shape)
    graph.by_particles(kernels.infer, graph.start, graph.source, own_, other_, weights_t, later, mean)
    return torch.from_numpy(mean)


def _unpack(parameters: Sequence[Tensor], layers: int) -> tuple[list[Array], list[Array], list[Array]]:
    arrays = [numpy_of(parameter) for parameter in parameters]
    return arrays[0 : 2 * layers : 2], arrays[1 : 2 * layers : 2], arrays[2 * layers :]


def _empty(shape: Sequence[int]) -> Array:
    # From torch: its memory is aligned for the widest vector registers
    return torch.empty(tuple(shape)).numpy()

"""The sum over particles of a small network, on CPUs: a chunk of particles goes through all layers while in the cache.

Plain PyTorch takes one layer after the other over all particles of a batch, and writes and reads the results thrice a
layer (product, bias, ReLU). The products here are those of BLAS, by `numpy.dot`; the tests compare with plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .threads import jet_parts, kernel, numpy_of, one_blas_thread, over

__all__ = ["summed_layers"]

_CHUNK = 128
"""Particles that go through the layers together."""

_ZERO = np.float32(0)


def summed_layers(x: Tensor, ptr: Tensor, linears: Sequence[nn.Linear]) -> Tensor:
    """Σ φ(x_i) over the particles of each jet, with φ linear layers that are each followed by a ReLU.

    Shapes: `(N, C)`, `(B + 1,)` → `(B, C')`; the layers after the first keep the width C'.
    """
    parameters = [parameter for linear in linears for parameter in (linear.weight, linear.bias)]
    return _SummedLayers.apply(x, ptr, *parameters)


class _SummedLayers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ptr: Tensor, *parameters: Tensor) -> Tensor:
        """Keeps what leaves each layer, `(L, N, C')`, if gradients will be asked for."""
        weights, biases = _stack(parameters)
        features, bounds, width = numpy_of(x), ptr.numpy(), parameters[0].shape[0]
        keep = any(ctx.needs_input_grad)
        hidden = torch.empty(len(biases) if keep else 0, len(x) if keep else 0, width).numpy()
        sums = torch.zeros(len(bounds) - 1, width)
        first_t = np.ascontiguousarray(parameters[0].detach().numpy().T)
        later_t = np.ascontiguousarray(weights.transpose(0, 2, 1))
        arguments = (bounds, features, first_t, later_t, biases, hidden, sums.numpy())
        with one_blas_thread():
            over(jet_parts(bounds), _forward, *arguments)
        ctx.save_for_backward(x, ptr, *parameters)
        ctx.hidden = hidden
        return sums

    @staticmethod
    def backward(ctx: Any, at_sums: Tensor) -> Any:
        """Gradients of the parameters, and of the features if they are asked for."""
        x, ptr, *parameters = ctx.saved_tensors
        weights, _ = _stack(parameters)
        features, bounds = numpy_of(x), ptr.numpy()
        at_features = torch.empty(x.shape if ctx.needs_input_grad[0] else (0, x.shape[1]))
        arguments = (bounds, features, parameters[0].detach().numpy(), weights, ctx.hidden, numpy_of(at_sums))
        with one_blas_thread():
            parts = over(jet_parts(bounds), _backward, *arguments, at_features.numpy())
        first, later, at_biases = (torch.from_numpy(sum(results)) for results in zip(*parts, strict=True))
        gradients = [g for weight, bias in zip([first, *later], at_biases, strict=True) for g in (weight, bias)]
        return (at_features if ctx.needs_input_grad[0] else None, None, *gradients)


def _stack(parameters: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """The weights of the layers after the first `(L - 1, C', C')`, and all biases `(L, C')`."""
    width = parameters[0].shape[0]
    weights = [parameter.detach() for parameter in parameters[2::2]]
    later = torch.stack(weights) if weights else torch.empty(0, width, width)
    return later.numpy(), torch.stack([parameter.detach() for parameter in parameters[1::2]]).numpy()


@kernel
def _add_bias_and_cut(rows, bias):
    for r in range(len(rows)):
        for c in range(rows.shape[1]):
            value = rows[r, c] + bias[c]
            rows[r, c] = _ZERO if value < 0 else value


@kernel
def _forward(first, last, ptr, features, first_t, later_t, biases, hidden, sums):
    """The jets `first` to `last`; fills `sums`, and `hidden` unless it is empty."""
    layers, width = biases.shape
    keep = len(hidden) > 0
    buffers = np.empty((2, _CHUNK, width), np.float32)
    below = buffers[1]
    jet = first
    for begin in range(ptr[first], ptr[last], _CHUNK):
        end = min(begin + _CHUNK, ptr[last])
        for layer in range(layers):
            out = hidden[layer][begin:end] if keep else buffers[layer % 2][: end - begin]
            if layer == 0:
                np.dot(features[begin:end], first_t, out)
            else:
                np.dot(below, later_t[layer - 1], out)
            _add_bias_and_cut(out, biases[layer])
            below = out
        for r in range(end - begin):
            while begin + r >= ptr[jet + 1]:
                jet += 1
            for c in range(width):
                sums[jet, c] += below[r, c]


@kernel
def _backward(first, last, ptr, features, first_weight, weights, hidden, at_sums, at_features):
    """Gradients of the first weight, of the later weights and of the biases from the jets `first` to `last`."""
    layers, _, width = hidden.shape
    inputs = features.shape[1]
    at_first = np.zeros((width, inputs), np.float32)
    at_weights = np.zeros((layers - 1, width, width), np.float32)
    at_biases = np.zeros((layers, width), np.float32)
    first_product = np.empty((width, inputs), np.float32)
    product = np.empty((width, width), np.float32)
    here = np.empty((_CHUNK, width), np.float32)
    below = np.empty((_CHUNK, width), np.float32)
    jet = first
    for begin in range(ptr[first], ptr[last], _CHUNK):
        end = min(begin + _CHUNK, ptr[last])
        size = end - begin
        for r in range(size):
            while begin + r >= ptr[jet + 1]:
                jet += 1
            for c in range(width):
                here[r, c] = at_sums[jet, c]
        for layer in range(layers - 1, -1, -1):
            out = hidden[layer][begin:end]
            for r in range(size):
                for c in range(width):
                    value = _ZERO if out[r, c] <= 0 else here[r, c]
                    here[r, c] = value
                    at_biases[layer, c] += value
            if layer > 0:
                np.dot(here[:size].T, hidden[layer - 1][begin:end], product)
                at_weights[layer - 1] += product
                np.dot(here[:size], weights[layer - 1], below[:size])
                here, below = below, here
            else:
                np.dot(here[:size].T, features[begin:end], first_product)
                at_first += first_product
                if len(at_features):
                    np.dot(here[:size], first_weight, at_features[begin:end])
    return at_first, at_weights, at_biases

"""Compiled kernels of the EdgeConv block on CPUs: one pass over the edges for each layer, a few rows at a time.

Plain PyTorch writes each intermediate result of an EdgeConv, `(E, C)` with E edges and C channels, to memory and reads
it back, several times a layer; on a CPU that costs more than the arithmetic. Here a chunk of edges goes through batch
normalisation, ReLU and the matrix product of a layer while it is in the cache, and only the product is stored. The
products are those of BLAS, by `numpy.dot`. `edgeconv_stack` calls these kernels and derives what they compute.

Names: `start` `(N + 1,)` says where the edges of each particle begin, `source` `(E,)` is the neighbour; `z` is what
enters a batch normalisation and `scale z + shift` what leaves it. Rows are float32, sums over edges float64 `(2, C)`.
Kernels release the GIL and work on rows, or on the particles `first` to `last`, so that threads can share an array.
"""

from __future__ import annotations

import numpy as np

from .threads import kernel

__all__ = [
    "add_ends", "backward_layer", "backward_mean", "forward_layer", "infer", "mean_over_neighbours", "spread_ends",
]  # fmt: skip

_CHUNK = 128
"""Edges that go through a layer together: what is held of them fits a second-level cache."""

_ZERO = np.float32(0)


@kernel
def add_ends(first, last, start, source, own, other, z):
    """z = own_i + other_j for each edge; the sums of z and z²."""
    channels = own.shape[1]
    part = np.zeros((2, channels), np.float32)
    sums = np.zeros((2, channels))
    for i in range(first, last):
        for e in range(start[i], start[i + 1]):
            j = source[e]
            for c in range(channels):
                value = own[i, c] + other[j, c]
                z[e, c] = value
                part[0, c] += value
                part[1, c] += value * value
        if i % 16 == 15 or i == last - 1:
            sums += part
            part[:] = 0
    return sums


@kernel
def _activate(z, scale, shift, out):
    for r in range(len(z)):
        for c in range(z.shape[1]):
            value = z[r, c] * scale[c] + shift[c]
            out[r, c] = _ZERO if value < 0 else value


@kernel
def forward_layer(before, z, scale, shift, weight_t):
    """z = relu(scale · before + shift) Wᵀ for each edge; the sums of z and z²."""
    channels = z.shape[1]
    hidden = np.empty((_CHUNK, before.shape[1]), np.float32)
    part = np.empty((2, channels), np.float32)
    sums = np.zeros((2, channels))
    for first in range(0, len(z), _CHUNK):
        last = min(first + _CHUNK, len(z))
        rows = hidden[: last - first]
        _activate(before[first:last], scale, shift, rows)
        np.dot(rows, weight_t, z[first:last])
        part[:] = 0
        for r in range(first, last):
            for c in range(channels):
                part[0, c] += z[r, c]
                part[1, c] += z[r, c] * z[r, c]
        sums += part
    return sums


@kernel
def mean_over_neighbours(first, last, start, z, scale, shift, mean, active):
    """The mean of relu(scale · z + shift) over the edges of each particle.

    `active` `(2, N, C)` gets, for the backward pass, the number of edges that the ReLU lets through and their sum of z.
    """
    channels = z.shape[1]
    for i in range(first, last):
        for c in range(channels):
            mean[i, c] = active[0, i, c] = active[1, i, c] = _ZERO
        for e in range(start[i], start[i + 1]):
            for c in range(channels):
                value = z[e, c] * scale[c] + shift[c]
                off = value <= 0
                mean[i, c] += _ZERO if off else value
                active[0, i, c] += _ZERO if off else np.float32(1)
                active[1, i, c] += _ZERO if off else z[e, c]
        share = np.float32(1 / max(start[i + 1] - start[i], 1))
        for c in range(channels):
            mean[i, c] *= share


@kernel
def backward_mean(first, last, start, z, scale, shift, gradient, out):
    """Gradient at what leaves the last batch normalisation, from that of the sum over neighbours `(N, C)`."""
    for i in range(first, last):
        for e in range(start[i], start[i + 1]):
            for c in range(z.shape[1]):
                value = gradient[i, c]
                out[e, c] = _ZERO if z[e, c] * scale[c] + shift[c] <= 0 else value


@kernel
def backward_layer(gradient, z, before, by_gradient, by_z, constant, weight, scale, shift):
    """Gradients of a layer, from the one at what leaves its batch normalisation, which it overwrites.

    The gradient at z is by_gradient · gradient + by_z · z + constant. `gradient` gets the one at what leaves the batch
    normalisation of the layer before. Returns the gradient of the weight, and the sums of `gradient` and of
    `gradient` · `before`.
    """
    inputs, outputs = before.shape[1], z.shape[1]
    hidden = np.empty((_CHUNK, inputs), np.float32)
    at_z = np.empty((_CHUNK, outputs), np.float32)
    product = np.empty((outputs, inputs), np.float32)
    weight_gradient = np.zeros((outputs, inputs))
    part = np.empty((2, inputs), np.float32)
    sums = np.zeros((2, inputs))
    for first in range(0, len(z), _CHUNK):
        last = min(first + _CHUNK, len(z))
        size = last - first
        for r in range(size):
            for c in range(outputs):
                at_z[r, c] = by_gradient[c] * gradient[first + r, c] + by_z[c] * z[first + r, c] + constant[c]
        _activate(before[first:last], scale, shift, hidden[:size])
        np.dot(at_z[:size].T, hidden[:size], product)
        weight_gradient += product
        np.dot(at_z[:size], weight, gradient[first:last])
        part[:] = 0
        for r in range(size):
            for c in range(inputs):
                value = _ZERO if hidden[r, c] <= 0 else gradient[first + r, c]
                gradient[first + r, c] = value
                part[0, c] += value
                part[1, c] += value * before[first + r, c]
        sums += part
    return weight_gradient, sums


@kernel
def spread_ends(first, last, start, source, gradient, z, by_gradient, by_z, constant, own, other):
    """Add the gradient at z = own_i + other_j of each edge to the gradients of both of its ends."""
    for i in range(first, last):
        for e in range(start[i], start[i + 1]):
            j = source[e]
            for c in range(z.shape[1]):
                value = by_gradient[c] * gradient[e, c] + by_z[c] * z[e, c] + constant[c]
                own[i, c] += value
                other[j, c] += value


@kernel
def infer(first, last, start, source, own, other, weights_t, shifts, mean):
    """The whole stack, the batch normalisations folded into `own`, `other`, `weights_t` `(L - 1, C, C)`, `shifts`."""
    layers, channels = shifts.shape
    k = 1
    for i in range(first, last):
        k = max(k, start[i + 1] - start[i])
    a = np.empty((_CHUNK + k, channels), np.float32)
    b = np.empty((_CHUNK + k, channels), np.float32)
    i = first
    while i < last:
        begin = i
        row = 0
        while i < last and row < _CHUNK:
            for e in range(start[i], start[i + 1]):
                j = source[e]
                for c in range(channels):
                    value = own[i, c] + other[j, c]
                    a[row, c] = _ZERO if value < 0 else value
                row += 1
            i += 1
        for layer in range(layers):
            np.dot(a[:row], weights_t[layer], b[:row])
            for r in range(row):
                for c in range(channels):
                    value = b[r, c] + shifts[layer, c]
                    a[r, c] = _ZERO if value < 0 else value
        row = 0
        for particle in range(begin, i):
            count = start[particle + 1] - start[particle]
            for c in range(channels):
                mean[particle, c] = _ZERO
            for r in range(row, row + count):
                for c in range(channels):
                    mean[particle, c] += a[r, c]
            share = np.float32(1 / max(count, 1))
            for c in range(channels):
                mean[particle, c] *= share
            row += count

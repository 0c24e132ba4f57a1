"""The compiled sum over particles against plain PyTorch: values and all gradients, in one thread and in two."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from jetcorr_utils.models.particle_flow_kernel import summed_layers


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layers", [1, 3])
def test_equals_plain_pytorch(layers, threads):
    torch.manual_seed(layers)
    sizes = torch.tensor([1, 300, 5, 128, 1])
    ptr = nn.functional.pad(sizes.cumsum(0), (1, 0))
    widths = [7] + [19] * layers
    linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
    x = torch.randn(int(ptr[-1]), 7, requires_grad=True)
    weights = torch.randn(5, 19)
    inputs = [x, *linears.parameters()]

    def exact() -> torch.Tensor:
        rows = x
        for linear in linears:
            rows = linear(rows).relu()
        return torch.stack([rows[a:b].sum(dim=0) for a, b in pairwise(ptr.tolist())])

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = summed_layers(x, ptr, linears)
        gradients = torch.autograd.grad((found * weights).sum(), inputs)
    finally:
        torch.set_num_threads(before)
    expected = exact()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    for ours, theirs in zip(gradients, torch.autograd.grad((expected * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(summed_layers(x, ptr, linears), expected, rtol=1e-5, atol=1e-4)

"""The compiled EdgeConv stack against plain PyTorch, which runs on GPUs: outputs, gradients and running statistics."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from jetcorr_utils.config import ParticleNetSettings
from jetcorr_utils.data.batches import gather
from jetcorr_utils.models import build_model
from jetcorr_utils.models.threads import is_fast
from tests.clouds import random_clouds


def pair(**settings):
    """The same network with the kernels, and without them in float64."""
    torch.manual_seed(1)
    model = build_model(ParticleNetSettings(architecture="particlenet", fc_dim=16, **settings))
    model.fit_constants(random_clouds(50))
    slow = copy.deepcopy(model).double()
    slow.fast = False
    return model, slow


def step(model, batch, weights):
    dtype = next(model.parameters()).dtype
    found = model(batch.particles.to(dtype), batch.jets.to(dtype), batch.ptr)
    (found * weights.to(dtype)).sum().backward()
    return found


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "settings",
    [
        {"conv_layers": 1, "conv_dim": 18, "k": 4},
        {"conv_layers": 3, "conv_dim": 10, "k": 16},
        {"conv_layers": 2, "conv_dim": 33, "k": 8},
    ],
    ids=["one layer, identity shortcut", "three layers", "odd width"],
)
def test_training_equals_plain_pytorch(settings, threads):
    model, slow = pair(blocks=2, **settings)
    batch = gather(random_clouds([1, 2, 40, 17, 16, 1, 70, 8, 30, 25], seed=3), np.arange(10))
    weights = torch.randn(10, 3)
    for _ in range(2):  # the second step starts from the running statistics of the first
        model.zero_grad()
        slow.zero_grad()
        found, expected = step(model, batch, weights), step(slow, batch, weights)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
        for (name, p), q in zip(model.named_parameters(), slow.parameters(), strict=True):
            tolerance = 2e-5 * q.grad.abs().max().item() + 1e-7
            torch.testing.assert_close(p.grad.double(), q.grad, rtol=0, atol=tolerance, msg=lambda m: f"{name}: {m}")  # noqa: B023
        for (name, p), q in zip(model.named_buffers(), slow.buffers(), strict=True):
            torch.testing.assert_close(p.double(), q.double(), rtol=1e-5, atol=1e-6, msg=lambda m: f"{name}: {m}")  # noqa: B023
    model.eval(), slow.eval()
    with torch.no_grad():
        found = model(batch.particles, batch.jets, batch.ptr)
        expected = slow(batch.particles.double(), batch.jets.double(), batch.ptr)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_threads_do_not_change_the_inference():
    model, _ = pair(conv_dim=16, k=8)
    model.eval()
    batch = gather(random_clouds(60, seed=4), np.arange(60))
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            with torch.inference_mode():
                results.append(model(batch.particles, batch.jets, batch.ptr))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-6, atol=1e-7)


def test_same_input_same_bits():
    model, _ = pair(conv_dim=16, k=8)
    batch = gather(random_clouds(30, seed=5), np.arange(30))
    weights = torch.randn(30, 3)
    gradients = []
    for _ in range(2):
        copied = copy.deepcopy(model)
        step(copied, batch, weights)
        gradients.append([p.grad for p in copied.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_where_the_kernels_cannot_be_used_pytorch_is():
    model, _ = pair(conv_dim=16, k=8)
    x = torch.zeros(2, 3)
    assert is_fast(model.train(), x)
    assert not is_fast(model, x.double())
    assert not is_fast(model.eval(), x)  # gradients through the running statistics
    with torch.no_grad():
        assert is_fast(model, x)
        with torch.autocast("cpu", torch.bfloat16):
            assert not is_fast(model, x)
    batch = gather(random_clouds(10), np.arange(10))
    slow = copy.deepcopy(model)
    slow.fast = False
    torch.testing.assert_close(
        model(batch.particles, batch.jets, batch.ptr), slow(batch.particles, batch.jets, batch.ptr)
    )

"""The compiled kernels give the same network on processors without AVX-512."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from jetcorr_utils.config import ParticleNetSettings
from jetcorr_utils.data.batches import gather
from jetcorr_utils.models import build_model
from tests.benchmarks.__main__ import ENVIRONMENT
from tests.clouds import random_clouds

SETTINGS = ParticleNetSettings(architecture="particlenet", blocks=2, k=16, conv_layers=3, conv_dim=50, fc_dim=50)
SCRIPT = """
import sys, numba, torch
from tests.models.test_avx2 import outputs_and_gradients
print(numba.core.config.CPU_NAME, torch.backends.cpu.get_cpu_capability())
torch.save(outputs_and_gradients(), sys.argv[1])
"""


def outputs_and_gradients() -> list[torch.Tensor]:
    """What a ParticleNet gives, and the gradients of all its parameters."""
    torch.manual_seed(1)
    clouds = random_clouds([1, 3, 17, 18, 40, 90], seed=2)
    model = build_model(SETTINGS)
    model.fit_constants(clouds)
    batch = gather(clouds, torch.arange(len(clouds)).numpy())
    outputs = model(batch.particles, batch.jets, batch.ptr)
    outputs.square().sum().backward()
    return [outputs.detach(), *(p.grad for p in model.parameters())]


@pytest.mark.slow
def test_the_kernels_agree_with_those_for_avx2(tmp_path):
    path = tmp_path / "avx2.pt"
    environment = {**os.environ, **ENVIRONMENT["avx2"]}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["haswell", "AVX2"]
    for found, expected in zip(torch.load(path), outputs_and_gradients(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()) + 1e-7)

"""What is not a number stays so: the compiled kernels give NaN wherever plain PyTorch does, and nowhere else."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from jetcorr_utils.config import ParticleNetSettings, PfnSettings
from jetcorr_utils.data.batches import gather
from jetcorr_utils.models import build_model
from jetcorr_utils.models.neighbours import edge_starts, fast_neighbours, nearest_neighbours
from tests.clouds import random_clouds

SETTINGS = {
    "pfn": PfnSettings(architecture="pfn", conv_dim=18, fc_dim=16),
    "particlenet": ParticleNetSettings(
        architecture="particlenet", blocks=2, k=4, conv_layers=2, conv_dim=18, fc_dim=16
    ),
}
FIRST, LATER = (
    {"pfn": "phi.lins.0", "particlenet": "blocks.0.linears.0"},
    {"pfn": "phi.lins.1", "particlenet": "blocks.1.linears.1"},
)
BIAS = {"pfn": "phi.lins.2.bias", "particlenet": "blocks.1.norms.1.bias"}


def outputs(name, place, value):
    """Outputs, and gradients of all parameters, of a network with one bad number: by the kernels, and without them."""
    torch.manual_seed(2)
    model = build_model(SETTINGS[name])
    clouds = random_clouds([7, 1, 30, 140, 2, 12], seed=4)
    model.fit_constants(clouds)
    batch = gather(clouds, np.arange(6))
    with torch.no_grad():
        if place == "particle":
            batch.particles[9, 2] = value
        elif place == "position":
            batch.particles[9, 0] = value
        elif place == "jet":
            batch.jets[2, 5] = value
        else:
            parameter = {
                "first weight": f"{FIRST[name]}.weight",
                "later weight": f"{LATER[name]}.weight",
                "bias": BIAS[name],
            }
            model.get_parameter(parameter[place]).view(-1)[3] = value
    slow = copy.deepcopy(model)
    slow.fast = False
    for network in (model, slow):
        with torch.no_grad():
            found = [network.eval()(batch.particles, batch.jets, batch.ptr)]
        found.append(network.train()(batch.particles, batch.jets, batch.ptr))
        found[1].sum().backward()
        yield [*found, *(parameter.grad for parameter in network.parameters())]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["particle", "position", "jet", "first weight", "later weight", "bias"])
@pytest.mark.parametrize("name", list(SETTINGS))
def test_kernels_and_plain_pytorch_agree_on_what_is_not_a_number(name, place, value):
    fast, slow = outputs(name, place, value)
    if np.isnan(value):
        assert torch.isnan(slow[0]).any()
    for ours, theirs in zip(fast, slow, strict=True):
        assert torch.equal(torch.isnan(ours), torch.isnan(theirs))
    torch.testing.assert_close(fast[0], slow[0], rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("dim", [2, 5])
def test_a_particle_at_no_position_is_the_last_neighbour_and_no_place_without_a_particle_is_one(dim):
    sizes = torch.tensor([4, 9])
    ptr = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
    positions = torch.from_numpy(np.random.default_rng(0).normal(size=(13, dim)).astype(np.float32))
    positions[[0, 1, 5, 12]] = torch.nan
    start = edge_starts(ptr, 6)
    plain, compiled = nearest_neighbours(positions, ptr, 6), fast_neighbours(positions, ptr, start, 6)
    assert torch.equal(plain, compiled)
    assert plain[: start[4]].max() < 4 <= plain[start[4] :].min()
    assert plain[start[2] : start[3]].tolist() == [3, 0, 1]

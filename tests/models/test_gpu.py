"""Both networks on a GPU, where there is one: the numbers of the CPU, and a training that learns and resumes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from jetcorr_utils.config import ParticleNetSettings, PfnSettings, TrainingSettings
from jetcorr_utils.data.batches import gather
from jetcorr_utils.models import build_model
from jetcorr_utils.training import load_model, predict, train
from tests.clouds import random_clouds

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here")

SHAPE = {"conv_layers": 2, "conv_dim": 16, "fc_dim": 16}


def settings(name: str, **training):
    options = TrainingSettings(**{"epochs": 6, "batch_size": 50, "learning_rate": 3e-3, **training})
    if name == "pfn":
        return PfnSettings(architecture="pfn", **SHAPE, training=options)
    return ParticleNetSettings(architecture="particlenet", blocks=2, k=4, **SHAPE, training=options)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", ["pfn", "particlenet"])
def test_outputs_and_gradients_are_those_of_the_cpu(name, training):
    clouds = random_clouds([1, 2, 3, 5, 1, 40, 150, *[20] * 200])
    torch.manual_seed(3)
    here = build_model(settings(name))
    here.fit_constants(clouds)
    there = copy.deepcopy(here).cuda()
    batch = gather(clouds, np.arange(len(clouds)))
    found = {}
    for model, moved in ((here, batch), (there, batch.to("cuda"))):
        model.train(training)
        outputs = model(moved.particles, moved.jets, moved.ptr)
        (outputs[:, 0] - moved.target).square().mean().backward()
        gradients = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
        found[moved.particles.device.type] = {"outputs": outputs.detach().cpu(), **gradients}
    assert found["cpu"].keys() == found["cuda"].keys()
    for key, expected in found["cpu"].items():
        scale = expected.abs().max().item() + 1e-6
        np.testing.assert_allclose(found["cuda"][key], expected, rtol=1e-3, atol=1e-3 * scale, err_msg=key)


@pytest.mark.parametrize("name", ["pfn", "particlenet"])
def test_learns_in_mixed_precision_and_its_network_answers_the_same_on_the_cpu(name, tmp_path):
    validation = random_clouds(500, seed=2)
    result = train(
        settings(name, epochs=12), random_clouds(2000, seed=1), validation, tmp_path, device="cuda", progress=False
    )
    assert result.validation_mae < 0.6 * result.constant_mae
    model = load_model(tmp_path)
    here, _ = predict(model, validation)
    there, _ = predict(copy.deepcopy(model).cuda(), validation)
    np.testing.assert_allclose(there, here, atol=1e-4)
    assert np.abs(validation.target - here).mean() == pytest.approx(result.validation_mae, rel=0.02)


@pytest.mark.parametrize("name", ["pfn", "particlenet"])
def test_a_training_goes_on_where_it_stopped(name, tmp_path):
    class Stop(Exception):
        pass

    def stop(epoch, row):
        if epoch == 3:
            raise Stop

    clouds, validation = random_clouds(600, seed=1), random_clouds(200, seed=2)
    whole = train(settings(name), clouds, validation, tmp_path / "whole", device="cuda", progress=False)
    with pytest.raises(Stop):
        train(settings(name), clouds, validation, tmp_path / "part", device="cuda", progress=False, callback=stop)
    part = train(settings(name), clouds, validation, tmp_path / "part", device="cuda", progress=False)
    # Sums on a GPU come in any order, so not to the bit as on CPUs
    assert len(part.history) == len(whole.history) == 6
    np.testing.assert_allclose(part.history["train_loss"], whole.history["train_loss"], rtol=0.05)


def test_compiled_it_learns_as_well(tmp_path):
    clouds, validation = random_clouds(2000, seed=1), random_clouds(500, seed=2)
    result = train(
        settings("pfn", epochs=12), clouds, validation, tmp_path, device="cuda", compile=True, progress=False
    )
    assert result.validation_mae < 0.6 * result.constant_mae

"""Optimisers descend, schedules have the shape of their name, and both go on from a saved state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from jetcorr_utils.config import TrainingSettings
from jetcorr_utils.training.optimizers import build_optimizer, build_schedules

NAMES = ["adam", "adamw", "ranger", "rmsprop", "adagrad"]


def rates(epochs: int = 10, steps: int = 5, losses=None, **settings) -> np.ndarray:
    options = TrainingSettings(epochs=epochs, learning_rate=0.1, **settings)
    optimizer = build_optimizer(nn.Linear(1, 1), options)
    schedule, plateau = build_schedules(optimizer, options, steps)
    found = []
    for epoch in range(epochs):
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        plateau.step(1.0 if losses is None else losses[epoch])
    return np.array(found)


@pytest.mark.parametrize("name", NAMES)
def test_optimizers_descend(name):
    torch.manual_seed(0)
    x, model = torch.randn(64, 3), nn.Linear(3, 1)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 3
    optimizer = build_optimizer(model, TrainingSettings(optimizer=name, learning_rate=0.2))
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_weight_decay_acts_on_matrices_only():
    model = nn.Linear(3, 3)
    optimizer = build_optimizer(model, TrainingSettings(weight_decay=0.1))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {id(model.weight): 0.1, id(model.bias): 0.0}


def test_warm_up_then_cosine_to_zero():
    found = rates(schedule="cosine", warmup=2)
    assert np.argmax(found) in {9, 10}
    assert found[0] < 0.1 * 0.1 + 1e-9
    assert (np.diff(found[10:]) < 0).all()
    assert found[-1] < 0.001
    np.testing.assert_allclose(found[25], 0.05, rtol=1e-4)


def test_constant_without_warm_up():
    np.testing.assert_array_equal(rates(schedule="constant", warmup=0), 0.1)


def test_plateau_lowers_the_rate_when_the_loss_stays():
    falling = rates(schedule="plateau", warmup=0, losses=np.linspace(1, 0, 10), patience=3)
    staying = rates(schedule="plateau", warmup=0, losses=np.ones(10), patience=3)
    np.testing.assert_array_equal(falling, 0.1)
    assert staying[-1] < 0.05


@pytest.mark.parametrize("kind", ["cosine", "plateau", "constant"])
def test_a_schedule_goes_on_from_its_state(kind):
    def fresh():
        options = TrainingSettings(schedule=kind, epochs=4, patience=3)
        optimizer = build_optimizer(nn.Linear(1, 1), options)
        return optimizer, *build_schedules(optimizer, options, 3)

    def advance(optimizer, schedule, plateau, epochs):
        found = []
        for _ in range(3 * epochs):
            optimizer.step()
            schedule.step()
            found.append(optimizer.param_groups[0]["lr"])
        plateau.step(1.0)
        return found

    ours = fresh()
    advance(*ours, 2)
    restored = fresh()
    for part, saved in zip(restored, ours, strict=True):
        part.load_state_dict(saved.state_dict())
    assert advance(*ours, 2) == advance(*restored, 2)

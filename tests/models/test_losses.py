"""The loss: medians and quantiles at its minimum, flavours pulled together by the balance term."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jetcorr_utils.config import TrainingSettings
from jetcorr_utils.models.losses import CorrectionLoss, FlavourBalance, pinball


@pytest.mark.parametrize("quantile", [0.16, 0.5, 0.84])
def test_the_pinball_loss_is_least_at_the_quantile(quantile):
    values = torch.from_numpy(np.random.default_rng(1).exponential(size=20_001))
    guesses = torch.linspace(0, 4, 2001)
    losses = torch.stack([pinball(values - guess, quantile).mean() for guess in guesses])
    assert guesses[losses.argmin()].item() == pytest.approx(values.quantile(quantile).item(), abs=0.01)


def test_outputs_that_minimise_the_loss_are_median_and_quantiles():
    target = torch.from_numpy(np.random.default_rng(2).gumbel(0.1, 0.2, 5000)).float()
    free = torch.tensor([0.0, 0.1, 0.1], requires_grad=True)
    loss = CorrectionLoss(TrainingSettings(resolution_weight=1.0))
    optimizer = torch.optim.Adam([free], lr=0.01)
    nothing = torch.zeros(5000, dtype=torch.int64), torch.full((5000,), 100.0)
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / 600)
        optimizer.zero_grad()
        loss.total(loss(free.expand(5000, 3), target, *nothing)).backward()
        optimizer.step()
    median, lower, upper = free.tolist()
    expected = np.quantile(target, [0.16, 0.5, 0.84])
    np.testing.assert_allclose([median - lower, median, median + upper], expected, atol=0.004)


def test_the_widths_do_not_pull_on_the_median():
    """Else the second output would cost the first one accuracy."""
    outputs = torch.tensor([[0.3, 0.1, 0.1]], requires_grad=True)
    loss = CorrectionLoss(TrainingSettings())
    terms = loss(outputs, torch.tensor([0.0]), torch.tensor([1]), torch.tensor([50.0]))
    (gradient,) = torch.autograd.grad(terms["quantiles"], outputs)
    assert gradient[0, 0] == 0
    assert (gradient[0, 1:] != 0).all()


def residuals(shift: dict[int, float], jets: int = 600):
    flavour = torch.tensor([1, 2, 3, 4, 5, 21]).repeat(jets // 6)
    residual = torch.tensor([shift.get(int(f), 0.0) for f in flavour], requires_grad=True)
    return residual, flavour, torch.full((jets,), 150.0)


def test_balance_is_zero_for_equal_flavours_and_grows_with_their_distance():
    same, small, large = (
        FlavourBalance()(*residuals(shift)).item()
        for shift in (dict.fromkeys([1, 2, 3, 4, 5, 21], 0.02), {21: 0.01}, {21: 0.02})
    )
    assert same == pytest.approx(0, abs=1e-6)
    assert 0 < small < large


def test_balance_by_its_formula():
    term = FlavourBalance()(*residuals({21: 0.05, 5: -0.05})).item()
    means = np.tanh([0, 0, 0, 0, -1, 1])
    assert term == pytest.approx(10 * np.mean((means - means.mean()) ** 2), rel=1e-5)


def test_balance_pulls_flavours_together():
    residual, flavour, gen_pt = residuals({21: 0.02})
    FlavourBalance()(residual, flavour, gen_pt).backward()
    assert (residual.grad[flavour == 21] > 0).all()  # descent makes them smaller
    assert (residual.grad[flavour != 21] < 0).all()


def test_balance_leaves_jets_without_a_label_out():
    residual, flavour, gen_pt = residuals({21: 0.02})
    balance = FlavourBalance()
    extra = torch.cat([residual, torch.full((50,), 9.0)]), torch.cat([flavour, torch.zeros(50, dtype=torch.int64)])
    with_unlabelled = balance(*extra, torch.full((650,), 150.0))
    assert with_unlabelled.item() == pytest.approx(FlavourBalance()(residual, flavour, gen_pt).item())


def test_balance_has_a_memory_over_batches():
    """A batch without b jets still knows where they were."""
    balance = FlavourBalance()
    balance(*residuals({5: 0.05}))
    residual, flavour, gen_pt = residuals({})
    without = flavour != 5
    term = balance(residual[without], flavour[without], gen_pt[without])
    means = np.tanh([0, 0, 0, 0, 0, 1])
    assert term.item() == pytest.approx(10 * np.mean((means - means.mean()) ** 2), rel=1e-5)


def test_terms_are_weighted_by_the_settings():
    settings = TrainingSettings(resolution_weight=0.5, flavour_balance=0.3)
    loss = CorrectionLoss(settings)
    terms = {"mae": torch.tensor(1.0), "quantiles": torch.tensor(2.0), "flavour": torch.tensor(10.0)}
    assert loss.total(terms).item() == pytest.approx(1 + 0.5 * 2 + 0.3 * 10)
    assert CorrectionLoss(TrainingSettings()).flavour is None

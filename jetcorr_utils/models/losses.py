"""What the training minimises: absolute error, the quantiles of the resolution, and neutrality to flavour.

With the residual r = log(pt_gen/pt) - median, the loss of a batch is

    mean |r|  +  resolution_weight · (ρ_0.16 + ρ_0.84)
              +  flavour_balance · 10 · mean over (flavour, pt bin) of (m - <m>)²

where ρ_q is the pinball loss of the quantile q, m is the bin's running mean of tanh(r/0.05), and <m> its mean over the
flavours that have jets in this pt bin. Flavour labels are used in the training only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..jets.flavours import FLAVOURS
from .process_sums import process_count, sum_over_processes, total_over_processes

if TYPE_CHECKING:
    from ..config import TrainingSettings

__all__ = ["CorrectionLoss", "FlavourBalance", "pinball"]

PT_EDGES = (30.0, 50.0, 100.0, 200.0, 300.0, 600.0, 1000.0)
"""Edges of the flavour term's bins of generator pt, GeV; jets below and above have bins too."""


def pinball(residual: Tensor, quantile: float) -> Tensor:
    """Loss whose mean is least where `residual` = value - prediction is negative in a share `quantile` of cases."""
    return torch.maximum(quantile * residual, (quantile - 1) * residual)


class CorrectionLoss(nn.Module):
    """The loss of a batch; `forward` gives its terms, each a scalar, and `total` their weighted sum."""

    def __init__(self, settings: TrainingSettings) -> None:
        super().__init__()
        self.resolution_weight = settings.resolution_weight
        self.flavour_weight = settings.flavour_balance
        self.flavour = FlavourBalance() if settings.flavour_balance else None

    def forward(self, outputs: Tensor, target: Tensor, flavour: Tensor, gen_pt: Tensor) -> dict[str, Tensor]:
        """Terms `mae`, `quantiles` and, if it is switched on, `flavour`.

        Parameters
        ----------
        outputs
            Of a network, `(B, 3)`.
        target, flavour, gen_pt
            log(pt_gen/pt), paper flavour and generator pt (GeV), each `(B,)`.
        """
        residual = target - outputs[:, 0]
        # The median is the business of the first term alone; the widths describe what it leaves
        spread = residual.detach()
        quantiles = pinball(spread + outputs[:, 1], 0.16) + pinball(spread - outputs[:, 2], 0.84)
        terms = {"mae": _mean(residual.abs()), "quantiles": _mean(quantiles)}
        if self.flavour is not None:
            terms["flavour"] = self.flavour(residual, flavour, gen_pt)
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The sum that is minimised."""
        loss = terms["mae"] + self.resolution_weight * terms["quantiles"]
        if "flavour" in terms:
            loss = loss + self.flavour_weight * terms["flavour"]
        return loss


def _mean(values: Tensor) -> Tensor:
    """The mean over the batch; of a share of it, a number whose mean over the processes is that of the whole batch."""
    processes = process_count()
    if processes == 1:
        return values.mean()
    jets = total_over_processes(np.array([float(len(values))]))[0]
    return values.sum() * (processes / jets)


class FlavourBalance(nn.Module):
    """The flavour-neutral term; its running means are buffers, so that a resumed training goes on with them.

    tanh(r/0.05) is a smooth sign of the residual: its mean is zero where the median response is one, and no tail pulls
    on it. A batch has few jets of a rare flavour in a pt bin, hence the running mean over batches (decay 0.9).
    """

    def __init__(self, decay: float = 0.9, softness: float = 0.05) -> None:
        super().__init__()
        self.decay = decay
        self.softness = softness
        bins = len(FLAVOURS) * (len(PT_EDGES) + 1)
        self.register_buffer("codes", torch.tensor(list(FLAVOURS)), persistent=False)
        self.register_buffer("edges", torch.tensor(PT_EDGES), persistent=False)
        self.register_buffer("sums", torch.zeros(bins))
        self.register_buffer("weights", torch.zeros(bins))

    def forward(self, residual: Tensor, flavour: Tensor, gen_pt: Tensor) -> Tensor:
        """The term, a scalar, from residuals, paper flavours and generator pt (GeV), each `(B,)`."""
        matches = flavour.abs().unsqueeze(1) == self.codes
        labelled = matches.any(dim=1)
        cell = matches.int().argmax(dim=1) * (len(PT_EDGES) + 1) + torch.bucketize(gen_pt, self.edges)
        values = torch.where(labelled, (residual / self.softness).tanh(), 0.0)
        sums = self.decay * self.sums + sum_over_processes(torch.zeros_like(self.sums).index_add(0, cell, values))
        jets = sum_over_processes(torch.zeros_like(self.weights).index_add(0, cell, labelled.float()))
        weights = self.decay * self.weights + jets
        self.sums.copy_(sums.detach())
        self.weights.copy_(weights)
        return self._spread(sums, weights)

    @staticmethod
    def _spread(sums: Tensor, weights: Tensor) -> Tensor:
        """10 · mean squared deviation of the cells' means from the mean over the flavours of their pt bin."""
        sums, weights = sums.view(len(FLAVOURS), -1), weights.view(len(FLAVOURS), -1)
        filled = weights > 0.5
        means = torch.where(filled, sums / weights.clamp(min=0.5), 0.0)
        average = means.sum(dim=0) / filled.sum(dim=0).clamp(min=1)
        deviation = torch.where(filled, means - average, 0.0)
        return 10 * deviation.square().sum() / filled.sum().clamp(min=1)

"""Both networks written plainly, jet by jet and in as few lines as possible: what the fast ones must equal."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jetcorr_utils.models import CloudNetwork, ParticleFlowNetwork, ParticleNet


def plain(model: CloudNetwork, particles: Tensor, jets: Tensor, ptr: Tensor) -> Tensor:
    """Outputs `(B, 3)` of `model` (in float64) for a batch, by the formulas of the papers."""
    features, jet_features = model.inputs(particles, jets, ptr.diff())
    bounds = list(zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True))
    if isinstance(model, ParticleFlowNetwork):
        latent = [_phi(model, features[a:b]).sum(dim=0) / model.multiplicity for a, b in bounds]
    else:
        latent = _particlenet(model, features, particles[:, :2], bounds)
    return model.head(torch.cat([torch.stack(latent), jet_features], dim=1))


def _phi(model: ParticleFlowNetwork, x: Tensor) -> Tensor:
    for linear in model.phi.lins:
        x = torch.relu(x @ linear.weight.T + linear.bias)
    return x


def _particlenet(model: ParticleNet, x: Tensor, positions: Tensor, bounds: list[tuple[int, int]]) -> list[Tensor]:
    for block in model.blocks:
        pairs = []
        for first, last in bounds:
            for i in range(first, last):
                others = [j for j in range(first, last) if j != i]
                distance = {j: ((positions[i] - positions[j]) ** 2).sum().item() for j in others}
                pairs += [(i, j) for j in sorted(others, key=lambda j: (distance[j], j))[: model.k]]
        edges = torch.stack([torch.cat([x[i], x[j] - x[i]]) for i, j in pairs])
        for linear, norm in zip(block.linears, block.norms, strict=True):
            edges = torch.relu(_batch_norm(norm, edges @ linear.weight.T))
        means = []
        for i in range(len(x)):
            mine = [e for e, (target, _) in enumerate(pairs) if target == i]
            means.append(edges[mine].mean(dim=0) if mine else torch.zeros(edges.shape[1], dtype=edges.dtype))
        shortcut = x
        if isinstance(block.shortcut, nn.Sequential):
            shortcut = _batch_norm(block.shortcut[1], x @ block.shortcut[0].weight.T)
        x = positions = torch.relu(shortcut + torch.stack(means))
    return [x[a:b].mean(dim=0) for a, b in bounds]


def _batch_norm(norm: nn.BatchNorm1d, rows: Tensor) -> Tensor:
    mean, variance = norm.running_mean, norm.running_var
    if norm.training:
        mean, variance = rows.mean(dim=0), rows.var(dim=0, correction=0)
    return (rows - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias

"""The networks as they are exported: padded tensors in, the same numbers out, and fast in ONNX Runtime.

A client of an ONNX file sends padded jets with a mask. Inside, the graph gathers the real particles and works on their
rows only, like the networks in `jetcorr_utils.models`, so that padding costs little and changes nothing. What is
rearranged for speed, and changes nothing beyond rounding:

- batch normalisation is folded into the linear layers;
- the first layer of an EdgeConv is applied to particles instead of edges, W (x_i, x_j - x_i) = P x_i + Q x_j;
- the neighbour axis comes first, so that the mean over neighbours is a matrix product with ones;
- a neighbour that does not exist gives an edge of -1e9, which the first ReLU makes zero: the layers after it turn it
  into a constant, which is subtracted from the sum. No edge is masked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models import CloudNetwork, ParticleFlowNetwork, ParticleNet, correction
from ..models.inputs import CloudInputs
from ..models.particlenet import EdgeConv

__all__ = ["Finish", "PaddedNetwork", "PaddedParticleNet", "PaddedPfn", "padded_network"]

_FAR = -1e30
"""Score of what must not be a neighbour."""
_ABSENT = -1e9
"""Value of an edge to a neighbour that does not exist, before the first ReLU."""


@dataclass
class Rows:
    """The real particles of a chunk of jets.

    Attributes
    ----------
    jet
        `(N,)`, the jet of each row.
    place
        `(N,)`, the place of each row in the flattened padded layout `(c * P,)`.
    back
        `(c * P,)`, the row at each place of the padded layout; for padding the real row before it, if there is one.
    """

    jet: Tensor
    place: Tensor
    back: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> Rows:
        """Rows of a mask `(c, P)`."""
        real = mask.flatten()
        place = real.nonzero().squeeze(1)
        back = (real.long().cumsum(0) - 1).clamp(min=0)
        return cls(place // mask.shape[1], place, back)

    def pad(self, x: Tensor, mask: Tensor) -> Tensor:
        """Values `(N, C)` of rows in the padded layout `(c, P, C)`; padding repeats other rows."""
        return x.index_select(0, self.back).view(mask.shape[0], mask.shape[1], x.shape[1])

    def pool(self, x: Tensor, mask: Tensor) -> Tensor:
        """Sum `(c, C)` over the rows `(N, C)` of each jet."""
        return torch.bmm(mask.to(x.dtype).unsqueeze(1), self.pad(x, mask)).squeeze(1)


class RowFeatures(nn.Module):
    """The features of rows, before the standardisation, which the first linear layer absorbs.

    The flags are looked up in a table by particle id, vertex code and membership, instead of compared one by one. The
    table is made by the network's own inputs.
    """

    def __init__(self, inputs: CloudInputs) -> None:
        super().__init__()
        self.inputs = inputs
        self.columns = [inputs.columns.index(name) for name in ("PF_id", "PF_fromPV", "PF_fromAK4Jet")]
        # One id and one code more than have a meaning, for all those without
        self.ids, self.codes = int(inputs.ids.max()) + 2, len(inputs.codes) + 1
        grid = torch.cartesian_prod(*(torch.arange(float(size)) for size in (self.ids, self.codes, 2)))
        particles = torch.zeros(len(grid), len(inputs.columns))
        particles[:, self.columns] = grid
        self.register_buffer("table", inputs.flags(particles))

    def forward(self, real: Tensor, kinematics: Tensor) -> Tensor:
        """Features `(N, C)` from physical columns `(N, 2 + F)` and pt and eta of each row's jet `(N, 2)`."""
        pdg_id, code, member = (real[:, column] for column in self.columns)
        row = pdg_id.abs().clamp(max=self.ids - 1)
        row = row * self.codes + torch.where(code < 0, self.codes - 1.0, code.clamp(max=self.codes - 1))
        row = (row * 2 + (member > 0).to(row.dtype)).long()
        continuous = self.inputs.continuous(real, kinematics[:, 0], kinematics[:, 1])
        return torch.cat([continuous, self.table.index_select(0, row)], dim=1)

    def absorbed(self, weight: Tensor, bias: Tensor | None) -> nn.Linear:
        """A linear layer on standardised features as one on features before the standardisation."""
        weight = (weight / self.inputs.particle_scale).detach()
        shift = -(weight @ self.inputs.particle_mean)
        return _linear(weight, shift if bias is None else bias + shift)


class PaddedNetwork(nn.Module):
    """Base of the exported bodies: a latent vector for each jet of a chunk.

    Parameters
    ----------
    model
        The trained network, whose weights are shared.

    Attributes
    ----------
    chunk
        Jets at a time: what keeps the largest tensor in the processor's cache.
    min_particles
        The padded layout must be at least so wide.
    """

    chunk: int
    min_particles: int = 1

    def __init__(self, model: CloudNetwork) -> None:
        super().__init__()
        self.inputs = RowFeatures(model.inputs)

    def rows(self, particles: Tensor, mask: Tensor, jets: Tensor) -> tuple[Rows, Tensor, Tensor]:
        """The real rows, their physical columns `(N, 2 + F)`, and their features before the standardisation."""
        rows = Rows.of(mask)
        real = particles.flatten(0, 1).index_select(0, rows.place)
        return rows, real, self.inputs(real, jets[:, :2].index_select(0, rows.jet))

    def forward(self, particles: Tensor, mask: Tensor, jets: Tensor) -> Tensor:
        """Latent vectors `(c, latent)` from particles `(c, P, 2 + F)`, a boolean mask `(c, P)` and jets `(c, 10)`.

        Every jet must have at least one particle.
        """
        raise NotImplementedError


class PaddedPfn(PaddedNetwork):
    """Particle Flow Network: the per-particle network on rows, then their sum."""

    chunk = 64

    def __init__(self, model: ParticleFlowNetwork) -> None:
        super().__init__(model)
        first, *rest = model.phi.lins
        self.layers = nn.ModuleList([self.inputs.absorbed(first.weight, first.bias), *rest])
        self.register_buffer("multiplicity", model.multiplicity)

    def forward(self, particles: Tensor, mask: Tensor, jets: Tensor) -> Tensor:
        """See `PaddedNetwork.forward`."""
        rows, _, x = self.rows(particles, mask, jets)
        for layer in self.layers:
            x = layer(x).relu()
        return rows.pool(x, mask) / self.multiplicity


class PaddedParticleNet(PaddedNetwork):
    """ParticleNet on the real particles of a few jets at a time."""

    chunk = 4

    def __init__(self, model: ParticleNet) -> None:
        super().__init__(model)
        self.k = model.k
        self.min_particles = model.k + 1
        self.blocks = nn.ModuleList(FoldedEdgeConv(block, model.k) for block in model.blocks)
        self.blocks[0].absorb(self.inputs)

    def forward(self, particles: Tensor, mask: Tensor, jets: Tensor) -> Tensor:
        """See `PaddedNetwork.forward`."""
        rows, real, x = self.rows(particles, mask, jets)
        width = mask.shape[1]
        number = mask.sum(dim=1)
        count = (number - 1).clamp(max=self.k).to(x.dtype).index_select(0, rows.jet).unsqueeze(1)
        itself = (rows.place - rows.jet * width).unsqueeze(1) == torch.arange(width, device=mask.device)
        bias = torch.where(itself | ~mask.index_select(0, rows.jet), _FAR, 0.0)
        score = _score_in_plane(real[:, :2], rows, mask)
        for number_of_block, block in enumerate(self.blocks):
            if number_of_block:
                score = _score(x, rows, mask)
            x = block(x, self._neighbours(score + bias, rows, width), count)
        return rows.pool(x, mask) / number.to(x.dtype).unsqueeze(1)

    def _neighbours(self, score: Tensor, rows: Rows, width: int) -> Tensor:
        """Row numbers `(k * N,)` of the nearest neighbours, neighbour axis first; N for those that do not exist."""
        best, position = score.topk(self.k, dim=1, sorted=False)
        found = rows.back.index_select(0, (position + (rows.jet * width).unsqueeze(1)).flatten())
        found = torch.where(best.flatten() > _FAR / 2, found, rows.place.shape[0])
        return found.view(-1, self.k).t().flatten()


def _score_in_plane(points: Tensor, rows: Rows, mask: Tensor) -> Tensor:
    """Minus the squared distance `(N, P)` of each row from all places of its jet, exact by differences."""
    score = torch.zeros(())
    for axis in range(2):  # one plane of numbers at a time: loops over the innermost two are slow
        others = rows.pad(points[:, axis : axis + 1], mask).squeeze(2).index_select(0, rows.jet)
        difference = others - points[:, axis : axis + 1]
        score = score - difference * difference
    return score


def _score(x: Tensor, rows: Rows, mask: Tensor) -> Tensor:
    """2 x_i x_j - |x_j|² `(N, P)`: orders the places j of a jet like minus the squared distance from row i."""
    padded = rows.pad(x, mask)
    norm = (padded * padded).sum(dim=2)
    score = 2 * torch.bmm(padded, padded.transpose(1, 2)) - norm.unsqueeze(1)
    return score.flatten(0, 1).index_select(0, rows.place)


class FoldedEdgeConv(nn.Module):
    """An EdgeConv block with its batch normalisation folded into the weights."""

    def __init__(self, block: EdgeConv, k: int) -> None:
        super().__init__()
        self.k = k
        own, other = block.split_first()
        scale, shift = _normalisation(block.norms[0])
        self.own = _linear(scale[:, None] * own, shift)
        self.other = _linear(scale[:, None] * other, None)
        self.layers = nn.ModuleList(
            _folded(linear, norm) for linear, norm in zip(block.linears[1:], block.norms[1:], strict=True)
        )
        shortcut = block.shortcut
        self.shortcut = shortcut if isinstance(shortcut, nn.Identity) else _folded(*shortcut)
        self.register_buffer("absent", self._rest(torch.zeros(1, len(shift))).detach())
        self.register_buffer("ones", torch.ones(1, k))

    def absorb(self, features: RowFeatures) -> None:
        """Take features before the standardisation; for the first block."""
        if isinstance(self.shortcut, nn.Identity):  # as wide as the features: make the standardisation its shortcut
            width = self.own.in_features
            self.shortcut = features.absorbed(torch.eye(width), None)
        else:
            self.shortcut = features.absorbed(self.shortcut.weight, self.shortcut.bias)
        own, other = self.own, self.other
        self.own = features.absorbed(own.weight, own.bias)
        self.other = features.absorbed(other.weight, None)

    def _rest(self, edges: Tensor) -> Tensor:
        for layer in self.layers:
            edges = layer(edges).relu()
        return edges

    def forward(self, x: Tensor, neighbours: Tensor, count: Tensor) -> Tensor:
        """New features `(N, C')` of rows `(N, C)` with neighbours `(k * N,)` of which `count` `(N, 1)` exist."""
        own, other = self.own(x), self.other(x)
        other = torch.cat([other, torch.full_like(other[:1], _ABSENT)])
        width = own.shape[1]
        edges = (other.index_select(0, neighbours).view(self.k, -1, width) + own).relu()
        edges = self._rest(edges.view(-1, width))
        total = (self.ones @ edges.view(self.k, -1)).view(-1, width)
        mean = (total - (self.k - count) * self.absent) / count.clamp(min=1)
        return (self.shortcut(x) + mean).relu()


def _normalisation(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch normalisation in inference."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale.detach(), (norm.bias - scale * norm.running_mean).detach()


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data = weight.detach().clone()
    if bias is not None:
        layer.bias.data = bias.detach().clone()
    return layer


def _folded(linear: nn.Linear, norm: nn.BatchNorm1d) -> nn.Linear:
    """A linear layer without bias and the normalisation after it, as one linear layer."""
    scale, shift = _normalisation(norm)
    return _linear(scale[:, None] * linear.weight, shift)


class Finish(nn.Module):
    """The head of a network: from latent vectors to the two outputs of the exported model."""

    def __init__(self, model: CloudNetwork) -> None:
        super().__init__()
        self.inputs, self.head = model.inputs, model.head

    def forward(self, latent: Tensor, jets: Tensor, empty: Tensor) -> tuple[Tensor, Tensor]:
        """Log of the correction factor and its resolution, each `(B, 1)`; not a number where `empty` `(B,)`."""
        log_factor, sigma = correction(self.head(torch.cat([latent, self.inputs.jet_features(jets)], dim=1)))
        return tuple(x.masked_fill(empty, torch.nan).unsqueeze(1) for x in (log_factor, sigma))


_BODIES: dict[type, type[PaddedNetwork]] = {ParticleFlowNetwork: PaddedPfn, ParticleNet: PaddedParticleNet}


def padded_network(model: CloudNetwork) -> PaddedNetwork:
    """The body to export for a trained network.

    Raises
    ------
    InputError
        If there is none for this kind of network.
    """
    for kind, body in _BODIES.items():
        if isinstance(model, kind):
            return body(model).eval()
    raise InputError(f"{type(model).__name__}: no way to export this kind of network")

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

from ..architectures import ARCHITECTURES
from ..models import CloudNetwork, ParticleFlowNetwork, ParticleNet, correction
from ..models.edgeconv import EdgeConv
from ..models.inputs import CloudInputs
from .dense import DenseOperations

__all__ = ["Finish", "PaddedNetwork", "PaddedParticleNet", "PaddedPfn", "TracedNetwork", "padded_network"]

_FAR = -1e30
"""Score of what must not be a neighbour."""
_ABSENT = -1e9
"""Value of an edge to a neighbour that does not exist, before the first ReLU."""


class Rows(nn.Module):
    """From padded tensors to the rows of the real particles, and their features: the first part of the graph.

    Features stand as columns, `(C, N)`: each is computed for all particles of the batch at once, and while the batch's
    particles outgrow the processor's cache soon, a column of them does not. The standardisation is left to the first
    linear layer, see `absorbed`.
    """

    def __init__(self, inputs: CloudInputs) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(
        self, points: Tensor, features: Tensor, mask: Tensor, jets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows of padded jets.

        Parameters
        ----------
        points, features, mask, jets
            The model's inputs: `(B, P, 2)`, `(B, P, F)`, `(B, P, 1)`, `(B, J)`.

        Returns
        -------
        columns
            `(C, N)`, the features of the real particles before the standardisation.
        jet
            `(N,)`, the jet of each of them.
        counts
            `(B,)`, how many a jet has. A jet without particles is given the (meaningless) one at place 0.
        empty
            `(B,)`, whether that was so.
        """
        real = mask.squeeze(2) > 0
        empty = ~real.any(dim=1)
        width = real.shape[1]
        real = real | (empty.unsqueeze(1) & (torch.arange(width, device=mask.device) == 0))
        place = real.flatten().nonzero().squeeze(1)
        jet = torch.div(place, width, rounding_mode="trunc")
        physical = [column for x in (points, features) for column in x.flatten(0, 1).index_select(0, place).t()]
        pt, eta = (x.index_select(0, jet) for x in self.inputs.kinematics(jets))
        columns = torch.stack(self.inputs.feature_list(physical, pt, eta))
        return columns, jet, real.to(points.dtype).sum(dim=1).long(), empty

    def absorbed(self, weight: Tensor, bias: Tensor | None) -> nn.Linear:
        """A linear layer on standardised features as one on features before the standardisation."""
        weight = (weight / self.inputs.particle_scale).detach()
        shift = -(weight @ self.inputs.particle_mean)
        return _linear(weight, shift if bias is None else bias + shift)


@dataclass
class Layout:
    """Where the rows of a chunk of jets stand, one jet after the other, and in a padded layout `(c, P)`.

    Attributes
    ----------
    jet
        `(N,)`, the jet of each row.
    first, counts
        `(c,)`, the first row of each jet, and how many it has.
    places
        `(P,)`, 0 to P - 1, where P is at least the largest of `counts`.
    """

    jet: Tensor
    first: Tensor
    counts: Tensor
    places: Tensor

    def mask(self) -> Tensor:
        """Which places `(c, P)` have a particle."""
        return self.places < self.counts.unsqueeze(1)

    def pad(self, x: Tensor) -> Tensor:
        """Values `(N, …)` of rows in the padded layout `(c, P, …)`; padding repeats other rows."""
        row = (self.first.unsqueeze(1) + self.places).clamp(max=x.shape[0] - 1)
        return x.index_select(0, row.flatten()).view(*row.shape, *x.shape[1:])

    def pool(self, x: Tensor) -> Tensor:
        """Sum `(c, C)` over the rows `(N, C)` of each jet."""
        return torch.bmm(self.mask().to(x.dtype).unsqueeze(1), self.pad(x)).squeeze(1)


class PaddedNetwork(nn.Module):
    """Base of the exported bodies: a latent vector for each jet of a chunk.

    Parameters
    ----------
    model
        The trained network, whose weights are shared.

    Attributes
    ----------
    chunk
        Particles at a time, about: what keeps the largest tensor in the processor's cache.
    min_particles
        The padded layout must be at least so wide.
    rows
        What computes the features.
    """

    chunk: int
    min_particles: int = 1

    def __init__(self, model: CloudNetwork) -> None:
        super().__init__()
        self.rows = Rows(model.inputs)

    def forward(self, columns: Tensor, jet: Tensor, first: Tensor, counts: Tensor, places: Tensor) -> Tensor:
        """Latent vectors `(c, latent)` from features `(C, N)` as `Rows` makes them; the others as in `Layout`."""
        raise NotImplementedError


class PaddedPfn(PaddedNetwork):
    """Particle Flow Network: the per-particle network on rows, then their sum."""

    chunk = 2048

    def __init__(self, model: ParticleFlowNetwork) -> None:
        super().__init__(model)
        first, *rest = model.phi.lins
        self.layers = nn.ModuleList([self.rows.absorbed(first.weight, first.bias), *rest])
        self.register_buffer("multiplicity", model.multiplicity)

    def forward(self, columns: Tensor, jet: Tensor, first: Tensor, counts: Tensor, places: Tensor) -> Tensor:
        """See `PaddedNetwork.forward`."""
        x = columns.t()
        for layer in self.layers:
            x = layer(x).relu()
        return Layout(jet, first, counts, places).pool(x) / self.multiplicity


class PaddedParticleNet(PaddedNetwork):
    """ParticleNet on the real particles of a few jets at a time."""

    chunk = 200

    def __init__(self, model: ParticleNet) -> None:
        super().__init__(model)
        self.k = model.k
        self.min_particles = model.k + 1
        self.points = [model.inputs.particle_names.index(name) for name in ("d_eta", "d_phi")]
        self.blocks = nn.ModuleList(FoldedEdgeConv(block, model.k) for block in model.blocks)
        self.blocks[0].absorb(self.rows)

    def forward(self, columns: Tensor, jet: Tensor, first: Tensor, counts: Tensor, places: Tensor) -> Tensor:
        """See `PaddedNetwork.forward`."""
        layout = Layout(jet, first, counts, places)
        start = first.index_select(0, jet).unsqueeze(1)
        count = (counts - 1).clamp(max=self.k).to(columns.dtype).index_select(0, jet).unsqueeze(1)
        row = torch.arange(columns.shape[1], device=columns.device).unsqueeze(1)
        padding = ~layout.mask().index_select(0, jet)
        bias = torch.where(padding | (places == row - start), _FAR, 0.0)
        x, score = columns.t(), _score_in_plane(columns[self.points], layout)
        for number, block in enumerate(self.blocks):
            if number:
                score = _score(x, layout, row)
            x = block(x, self._neighbours(score + bias, start), count)
        return layout.pool(x) / counts.to(x.dtype).unsqueeze(1)

    def _neighbours(self, score: Tensor, start: Tensor) -> Tensor:
        """Row numbers `(k * N,)` of the nearest neighbours, neighbour axis first; N for those that do not exist."""
        best, place = score.topk(self.k, dim=1, sorted=False)
        return torch.where(best > _FAR / 2, place + start, score.shape[0]).t().flatten()


def _score_in_plane(points: Tensor, layout: Layout) -> Tensor:
    """Minus the squared distance `(N, P)` of each row from all places of its jet, exact by differences."""
    score = torch.zeros(())
    for own in points:  # one plane of numbers at a time: loops over the innermost two are slow
        difference = layout.pad(own).index_select(0, layout.jet) - own.unsqueeze(1)
        score = score - difference * difference
    return score


def _score(x: Tensor, layout: Layout, row: Tensor) -> Tensor:
    """2 x_i x_j - |x_j|² `(N, P)`: orders the places j of a jet like minus the squared distance from row i."""
    padded = layout.pad(x)
    norm = (padded * padded).sum(dim=2)
    score = 2 * torch.bmm(padded, padded.transpose(1, 2)) - norm.unsqueeze(1)
    width = layout.places.shape[0]
    place = row.squeeze(1) + (layout.jet * width - layout.first.index_select(0, layout.jet))
    return score.flatten(0, 1).index_select(0, place)


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

    def absorb(self, features: Rows) -> None:
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


class TracedNetwork(PaddedNetwork):
    """Any other network: what its `embed` does to a few jets at a time, with the ragged operations as dense ones."""

    chunk = 256

    def __init__(self, model: CloudNetwork) -> None:
        super().__init__(model)
        self.model = model
        self.points = [model.inputs.particle_names.index(name) for name in ("d_eta", "d_phi")]

    def forward(self, columns: Tensor, jet: Tensor, first: Tensor, counts: Tensor, places: Tensor) -> Tensor:
        """See `PaddedNetwork.forward`."""
        x = columns.t()
        features = (x - self.rows.inputs.particle_mean) / self.rows.inputs.particle_scale
        ptr = torch.cat([first, (first + counts)[-1:]])
        with DenseOperations():
            return self.model.embed(features, x[:, self.points], ptr)


def padded_network(model: CloudNetwork) -> PaddedNetwork:
    """The body to export for a trained network: its own twin, or the network itself, traced."""
    return (ARCHITECTURES[model.settings.architecture].twin(model) or TracedNetwork(model)).eval()

"""What a network sees: physical columns in, standardised features out, inside the model.

The transformation is a part of the model, so that a served model takes pt in GeV and PDG ids, and nobody has to
repeat the preprocessing. Which features a column has stands in the tables of `jets.columns`. Nothing here depends on
the order of the particles or on the azimuth of the jet. Values at the edge of their range (pt → 0, a massless jet, a
jet of one particle) stay finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..jets.columns import JETS, PARTICLES, Column, Features, Transforms, inputs, jet_columns, particle_columns

if TYPE_CHECKING:
    from ..data.dataset import CloudDataset

__all__ = ["CloudInputs", "sample_rows"]


class CloudInputs(nn.Module):
    """Physical columns → standardised features; the constants are buffers, set once by `fit`.

    Parameters
    ----------
    features
        Which columns there are, see `jetcorr_utils.jets.columns`.

    Attributes
    ----------
    columns, jet_columns
        Names of the physical columns.
    particle_names, jet_names
        Names of the features, in their order: continuous ones, then those that are 0 or 1, which stay as they are.
    """

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features
        self.columns, self.jet_columns = particle_columns(features), jet_columns(features)
        for kind, table in (("particle", PARTICLES), ("jet", JETS)):
            continuous, flags = _transforms(table, features)
            setattr(self, f"{kind}_names", (*continuous, *flags))
            setattr(self, f"{kind}_dim", len(continuous) + len(flags))
            self.register_buffer(f"{kind}_mean", torch.zeros(len(continuous) + len(flags)))
            self.register_buffer(f"{kind}_scale", torch.ones(len(continuous) + len(flags)))

    def kinematics(self, jets: Tensor) -> tuple[Tensor, Tensor]:
        """pt (GeV) and eta of the jets, `(…,)`, from their physical columns `(…, J)`."""
        return jets[..., self.jet_columns.index("jetPt")], jets[..., self.jet_columns.index("jetEta")]

    def raw_particle_features(self, particles: Tensor, jet_pt: Tensor, jet_eta: Tensor) -> Tensor:
        """Features `(…, C)` before the standardisation, from physical columns `(…, 2 + F)`; else as `feature_list`."""
        return torch.stack(self.feature_list(particles.unbind(-1), jet_pt, jet_eta), dim=-1)

    def feature_list(self, particles: Sequence[Tensor], jet_pt: Tensor, jet_eta: Tensor) -> list[Tensor]:
        """The features before the standardisation, one by one: the continuous ones, then those that are 0 or 1.

        Parameters
        ----------
        particles
            The physical columns, each of any one shape.
        jet_pt, jet_eta
            pt (GeV) and eta of the jet of each particle, of a shape that broadcasts to that of a column.
        """
        column = dict(zip(self.columns, particles, strict=True)) | {"jetPt": jet_pt, "jetEta": jet_eta}
        return _features(column, PARTICLES, self.features)

    def raw_jet_features(self, jets: Tensor) -> Tensor:
        """Features `(…, J')` of the jets before the standardisation, from their physical columns `(…, J)`."""
        column = dict(zip(self.jet_columns, jets.unbind(-1), strict=True))
        return torch.stack(_features(column, JETS, self.features), dim=-1)

    def particle_features(self, particles: Tensor, jet_pt: Tensor, jet_eta: Tensor) -> Tensor:
        """Standardised particle features, `(…, particle_dim)`; arguments as in `raw_particle_features`."""
        raw = self.raw_particle_features(particles, jet_pt, jet_eta)
        return (raw - self.particle_mean) / self.particle_scale

    def jet_features(self, jets: Tensor) -> Tensor:
        """Standardised jet features, `(…, jet_dim)`."""
        return (self.raw_jet_features(jets) - self.jet_mean) / self.jet_scale

    def forward(self, particles: Tensor, jets: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Features of a ragged batch: `(N, particle_dim)` and `(B, jet_dim)`; `counts` is the multiplicity `(B,)`."""
        kinematics = self._of_particles(jets, counts, len(particles))
        return self.particle_features(particles, *kinematics), self.jet_features(jets)

    def _of_particles(self, jets: Tensor, counts: Tensor, total: int) -> tuple[Tensor, ...]:
        """pt and eta of the jet of each of `total` particles, `(N,)`."""
        kinematics = torch.stack(self.kinematics(jets), dim=-1)
        return kinematics.repeat_interleave(counts, dim=0, output_size=total).unbind(-1)

    @torch.no_grad()
    def fit(self, dataset: CloudDataset, jets: int = 20_000, seed: int = 0) -> None:
        """Set the constants to the mean and the standard deviation over (at most) `jets` jets of `dataset`."""
        sample = dataset.select(sample_rows(len(dataset), jets, seed))
        columns, particles = torch.from_numpy(np.array(sample.jets)), torch.from_numpy(np.array(sample.particles))
        kinematics = self._of_particles(columns, torch.from_numpy(sample.multiplicity), len(particles))
        for kind, table, raw in (
            ("particle", PARTICLES, self.raw_particle_features(particles, *kinematics)),
            ("jet", JETS, self.raw_jet_features(columns)),
        ):
            continuous = torch.arange(raw.shape[-1]) < len(_transforms(table, self.features)[0])
            _set(getattr(self, f"{kind}_mean"), getattr(self, f"{kind}_scale"), raw, continuous)


def _transforms(table: Mapping[str, Column], features: Features) -> tuple[Transforms, Transforms]:
    """By name the functions of the continuous features of a jet or particle, and of those that are true or false."""
    columns = inputs(table, features)
    continuous = {name: function for column in columns for name, function in column.continuous.items()}
    return continuous, {name: function for column in columns for name, function in column.flags.items()}


def _features(column: Mapping[str, Tensor], table: Mapping[str, Column], features: Features) -> list[Tensor]:
    continuous, flags = _transforms(table, features)
    values = [function(column) for function in continuous.values()]
    return values + [function(column).to(values[0].dtype) for function in flags.values()]


def sample_rows(size: int, count: int, seed: int) -> np.ndarray:
    """At most `count` of `size` row numbers, in order, drawn without replacement."""
    if size <= count:
        return np.arange(size)
    return np.sort(np.random.default_rng(seed).choice(size, count, replace=False))


def _set(mean: Tensor, scale: Tensor, raw: Tensor, continuous: Tensor) -> None:
    values = raw.double()
    deviation = values.std(dim=0, correction=0)
    mean.copy_(torch.where(continuous, values.mean(dim=0), 0.0))
    # A column that is constant in the training data must not blow up where it is not constant
    scale.copy_(torch.where(continuous & (deviation > 1e-4), deviation, 1.0))

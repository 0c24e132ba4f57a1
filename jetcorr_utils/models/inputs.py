"""What a network sees: physical columns in, standardised features out, inside the model.

The transformation is a part of the model, so that a served model takes pt in GeV and PDG ids, and nobody has to
repeat the preprocessing. Nothing here depends on the order of the particles or on the azimuth of the jet. Values at the
edge of their range (pt → 0, a massless jet, a jet of one particle) stay finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..data.features import JET_COLUMNS, PARTICLE_COLUMNS, POINT_COLUMNS

if TYPE_CHECKING:
    from ..data.clouds import CloudDataset

__all__ = ["JET_FEATURES", "PARTICLE_FEATURES", "CloudInputs"]

PARTICLE_IDS = {"charged_hadron": 211, "neutral_hadron": 130, "photon": 22, "electron": 11, "muon": 13}
VERTEX_CODES = (0, 1, 2, 3)
"""PF_fromPV: 3 = used in the fit of the primary vertex … 0 = used in another vertex."""

_CONTINUOUS = ("log_pt", "log_pt_over_jet", "d_eta", "d_phi", "d_r", "abs_eta", "mass")
_FLAGS = (*PARTICLE_IDS, "forward", *(f"from_pv_{code}" for code in VERTEX_CODES), "from_jet")
PARTICLE_FEATURES = {
    "open": (*_CONTINUOUS, *_FLAGS),
    "rich": (*_CONTINUOUS, "calo_fraction", "hcal_fraction", *_FLAGS),
}
"""Names of the particle features, in the order of their columns; flags are 0 or 1 and are not standardised."""
JET_FEATURES = (
    "log_pt", "abs_eta", "log_mass_over_pt", "area", "log_pt_over_raw", "rho", "vertices", "qg_ptd",
    "log_qg_axis2", "log_qg_mult",
)  # fmt: skip
"""Names of the jet features, in the order of their columns."""

_TINY = 1e-3
"""Where logarithms stop: 1 MeV for pt and mass, 0.001 for fractions and widths."""


def _log(x: Tensor) -> Tensor:
    return x.clamp(min=_TINY).log()


class CloudInputs(nn.Module):
    """Physical columns → standardised features; the constants are buffers, set once by `fit`.

    Parameters
    ----------
    features
        ``"open"`` or ``"rich"``: which particle columns there are, see `jetcorr_utils.data.features`.
    """

    def __init__(self, features: str) -> None:
        super().__init__()
        self.features = features
        self.columns = POINT_COLUMNS + PARTICLE_COLUMNS[features]
        self.particle_dim = len(PARTICLE_FEATURES[features])
        self.jet_dim = len(JET_FEATURES)
        for name, size in (("particle", self.particle_dim), ("jet", self.jet_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))

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
        column = dict(zip(self.columns, particles, strict=True))
        d_eta, d_phi = column["PF_dEta"], column["PF_dPhi"]
        log_pt = _log(column["PF_pT"])
        continuous = [
            log_pt, log_pt - _log(jet_pt), d_eta, d_phi, (d_eta.square() + d_phi.square()).sqrt(),
            (d_eta + jet_eta).abs(), column["PF_mass"],
        ]  # fmt: skip
        if self.features == "rich":
            continuous += [column[name].clamp(min=0).log1p() for name in ("PF_caloFraction", "PF_hcalFraction")]
        pdg_id, code = column["PF_id"].abs(), column["PF_fromPV"]
        flags = [
            *(pdg_id == value for value in PARTICLE_IDS.values()),
            pdg_id <= 2,
            *(code == value for value in VERTEX_CODES),
            column["PF_fromAK4Jet"] > 0,
        ]
        return [*continuous, *(flag.to(log_pt.dtype) for flag in flags)]

    def raw_jet_features(self, jets: Tensor) -> Tensor:
        """Features `(…, J)` of the jets before the standardisation, from their physical columns `(…, 10)`."""
        column = dict(zip(JET_COLUMNS, jets.unbind(-1), strict=True))
        log_pt = _log(column["jetPt"])
        return torch.stack(
            [
                log_pt,
                column["jetEta"].abs(),
                _log(column["jetMass"]) - log_pt,
                column["jetArea"],
                log_pt - _log(column["jetRawPt"]),
                column["rhoAll"],
                column["PV_npvsGood"],
                column["QG_ptD"],
                _log(column["QG_axis2"]),
                column["QG_mult"].clamp(min=0).log1p(),
            ],
            dim=-1,
        )

    def particle_features(self, particles: Tensor, jet_pt: Tensor, jet_eta: Tensor) -> Tensor:
        """Standardised particle features, `(…, particle_dim)`; arguments as in `raw_particle_features`."""
        raw = self.raw_particle_features(particles, jet_pt, jet_eta)
        return (raw - self.particle_mean) / self.particle_scale

    def jet_features(self, jets: Tensor) -> Tensor:
        """Standardised jet features, `(…, jet_dim)`."""
        return (self.raw_jet_features(jets) - self.jet_mean) / self.jet_scale

    def forward(self, particles: Tensor, jets: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Features of a ragged batch: `(N, particle_dim)` and `(B, jet_dim)`; `counts` is the multiplicity `(B,)`."""
        kinematics = jets[:, :2].repeat_interleave(counts, dim=0, output_size=len(particles))
        return self.particle_features(particles, kinematics[:, 0], kinematics[:, 1]), self.jet_features(jets)

    @torch.no_grad()
    def fit(self, dataset: CloudDataset, jets: int = 20_000, seed: int = 0) -> None:
        """Set the constants to the mean and the standard deviation over (at most) `jets` jets of `dataset`."""
        sample = dataset.select(sample_rows(len(dataset), jets, seed))
        columns = torch.from_numpy(np.array(sample.jets))
        counts = torch.from_numpy(np.diff(sample.ptr))
        kinematics = columns[:, :2].repeat_interleave(counts, dim=0)
        particles = torch.from_numpy(np.array(sample.particles))
        raw = self.raw_particle_features(particles, kinematics[:, 0], kinematics[:, 1])
        continuous = torch.tensor([name not in _FLAGS for name in PARTICLE_FEATURES[self.features]])
        _set(self.particle_mean, self.particle_scale, raw, continuous)
        raw = self.raw_jet_features(columns)
        _set(self.jet_mean, self.jet_scale, raw, torch.ones(self.jet_dim, dtype=torch.bool))


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

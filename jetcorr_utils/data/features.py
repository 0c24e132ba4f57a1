"""The columns that a network is given: raw, in physical units (GeV, radians).

Every transformation (logarithms, one-hot codes, standardisation) happens inside the model, so that a served model takes
what a detector measures. The columns are those of the paper and the ones it left unused: candidate ids, fromPV, mass,
whether a candidate is clustered in the jet, rho, the number of vertices, the raw pt. The azimuth of a jet is not among
them: a detector of a collider looks the same from all sides.
"""

from __future__ import annotations

from typing import Literal

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

__all__ = ["JET_COLUMNS", "PARTICLE_COLUMNS", "POINT_COLUMNS", "TABLE_COLUMNS", "Features", "jet_matrix",
           "particle_matrix", "regression_target", "table"]  # fmt: skip

Features = Literal["open", "rich"]

POINT_COLUMNS = ("PF_dEta", "PF_dPhi")
"""Where a particle lies relative to the jet axis; these span the space of the neighbour search."""

_OPEN = ("PF_pT", "PF_mass", "PF_id", "PF_fromPV", "PF_fromAK4Jet")
PARTICLE_COLUMNS: dict[str, tuple[str, ...]] = {"open": _OPEN, "rich": (*_OPEN, "PF_caloFraction", "PF_hcalFraction")}
"""Columns of a particle after the points: what the open data has, and with the calorimeter fractions."""

JET_COLUMNS = ("jetPt", "jetEta", "jetMass", "jetArea", "jetRawPt", "rhoAll", "PV_npvsGood", "QG_ptD", "QG_axis2",
               "QG_mult")  # fmt: skip
"""Columns of a jet."""

TABLE_COLUMNS: dict[str, np.dtype] = {
    **dict.fromkeys(("run", "lumi"), np.dtype(np.int64)),
    "event": np.dtype(np.uint64),
    "jetPtOrder": np.dtype(np.int32),
    **dict.fromkeys(("jetPt", "jetEta", "jetRawPt", "genJetPt", "genJetEta"), np.dtype(np.float32)),
    **dict.fromkeys(("hadronFlav", "partonFlav"), np.dtype(np.int32)),
    "rhoAll": np.dtype(np.float32),
    "PV_npvsGood": np.dtype(np.int32),
    "eventWeight": np.dtype(np.float32),
}
"""What is kept of a jet besides the inputs of a network: identifiers, truth and what the physics is binned in."""


def _matrix(columns: list[NDArray]) -> NDArray[np.float32]:
    matrix = np.empty((len(columns[0]), len(columns)), dtype=np.float32)
    for i, column in enumerate(columns):
        matrix[:, i] = column
    return matrix


def particle_matrix(jets: ak.Array, features: Features = "open") -> NDArray[np.float32]:
    """The particles of all jets, one row each, jet after jet.

    Parameters
    ----------
    jets
        Jets with their `particles`, `(B,)`.
    features
        Which columns of `PARTICLE_COLUMNS` follow the points.

    Returns
    -------
    `(N, 2 + F)`; `ak.num(jets.particles)` tells how many rows belong to each jet.

    Raises
    ------
    InputError
        If the particles lack a column.
    """
    particles = ak.flatten(jets["particles"], axis=1)
    names = POINT_COLUMNS + PARTICLE_COLUMNS[features]
    missing = [name for name in names if name not in particles.fields]
    if missing:
        raise InputError(
            f"features {features!r} need {', '.join(missing)}, which these jets do not have"
            + ("; use features: open" if set(missing) <= set(names[-2:]) and features == "rich" else "")
        )
    return _matrix([ak.to_numpy(particles[name]) for name in names])


def jet_matrix(jets: ak.Array) -> NDArray[np.float32]:
    """The columns `JET_COLUMNS` of the jets, `(B, 10)`."""
    return _matrix([ak.to_numpy(jets[name]) for name in JET_COLUMNS])


def regression_target(jets: ak.Array) -> NDArray[np.float32]:
    """log(genJetPt/jetPt), `(B,)`; NaN for a jet without a generator jet."""
    if "genJetPt" not in jets.fields:
        return np.full(len(jets), np.nan, dtype=np.float32)
    gen, reco = (ak.to_numpy(jets[name]).astype(np.float64) for name in ("genJetPt", "jetPt"))
    target = np.full(len(jets), np.nan)
    known = (gen > 0) & (reco > 0)
    target[known] = np.log(gen[known] / reco[known])
    return target.astype(np.float32)


def table(jets: ak.Array) -> dict[str, NDArray]:
    """The columns `TABLE_COLUMNS` of the jets, each `(B,)`; data without a generator has gen pt 0 and flavour 0."""
    empty = np.zeros(len(jets))
    return {
        name: (ak.to_numpy(jets[name]) if name in jets.fields else empty).astype(dtype)
        for name, dtype in TABLE_COLUMNS.items()
    }

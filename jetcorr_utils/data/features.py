"""The matrices that a network is given, raw and in physical units, and what else is kept of a jet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import awkward as ak
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..jets.columns import (
    JETS,
    PARTICLES,
    Features,
    candidates_of,
    jet_columns,
    particle_columns,
    with_vertices,
)

__all__ = [
    "FILE_PT", "START_PT", "TABLE_COLUMNS", "as_seen", "jet_matrix", "particle_matrix", "points_of",
    "regression_target", "start_pt", "table",
]  # fmt: skip

_KEPT = ("run", "lumi", "event", "jetPtOrder", "jetPt", "jetEta", "jetPhi", "jetMass", "jetRawPt", "genJetPt",
         "genJetEta", "hadronFlav", "partonFlav", "rhoAll", "PV_npvsGood", "eventWeight", "jetArea",
         "QG_mult")  # fmt: skip
_VERTEX_ID = 99  # in the place of a particle's PDG number: none of them, and no class
TABLE_COLUMNS = {name: np.dtype(JETS[name].dtype) for name in _KEPT} | dict.fromkeys(
    ("run", "lumi"), np.dtype(np.int64)
)
"""What is kept of a jet besides the inputs of a network: identifiers, truth and what the physics is binned in."""
FILE_PT = "jetFilePt"
"""Further column of a table: the pt that the file has, GeV, where jets are corrected anew (`data.corrections`)."""
START_PT = "jetStartPt"
"""Further column of a table: the pt that a network corrects, GeV, where it is not jetPt (`data.target`)."""


def _matrix(record: ak.Array, names: tuple[str, ...], features: Features) -> NDArray[np.float32]:
    if missing := [name for name in names if name not in record.fields]:
        hint = "; use features: open" if not set(missing) & {*particle_columns("open"), *jet_columns("open")} else ""
        raise InputError(f"features {features!r} need {', '.join(missing)}, which these jets do not have{hint}")
    matrix = np.empty((len(record), len(names)), dtype=np.float32)
    for i, name in enumerate(names):
        matrix[:, i] = ak.to_numpy(record[name])
    return matrix


def points_of(jets: ak.Array, features: Features) -> ak.Array:
    """The jets with the particles that a cloud of these features has.

    They are the first ones, where there is a limit, and behind them the jets' secondary ``vertices``, where the
    features have these. Whether only clustered particles are among them is for whoever read them, see `candidates_of`.

    Raises
    ------
    InputError
        If the features need vertices and the jets have none.
    """
    most = candidates_of(features, "jet")[1]
    if most is not None:
        jets = ak.with_field(jets, jets["particles"][:, :most], "particles")
    if not with_vertices(features):
        return jets
    if "vertices" not in jets.fields:
        hint = "read them with the columns of these features"
        raise InputError(f"features {features!r} need secondary vertices, which these jets do not have; {hint}")
    names = particle_columns(features)
    points = [jets["particles"][list(names)], _vertices_as_particles(jets, names)]
    return ak.with_field(jets, ak.concatenate(points, axis=1), "particles")


def _vertices_as_particles(jets: ak.Array, names: tuple[str, ...]) -> ak.Array:
    """The secondary vertices of the jets `(B, var)` in columns of particles; what a vertex does not have is 0."""
    found = jets["vertices"]
    found = found[np.isfinite(found["SV_eta"] + found["SV_mass"] + found["SV_dlenSig"]) & (found["SV_pt"] > 0)]
    phi = found["SV_phi"] - jets["jetPhi"]
    known = {
        "PF_pT": found["SV_pt"], "PF_mass": found["SV_mass"], "PF_dEta": found["SV_eta"] - jets["jetEta"],
        "PF_dPhi": (phi + np.pi) % (2 * np.pi) - np.pi, "PF_vertex": found["SV_ntracks"] * 0 + 1,
        "PF_vertexSig": found["SV_dlenSig"], "PF_vertexTracks": found["SV_ntracks"],
    }  # fmt: skip
    known |= {"PF_id": found["SV_ntracks"] * 0 + _VERTEX_ID}
    known["PF_dR"] = np.hypot(known["PF_dEta"], known["PF_dPhi"])
    known["PF_dTheta"] = np.arctan2(known["PF_dPhi"], known["PF_dEta"])
    return ak.zip({
        name: ak.values_astype(known.get(name, found["SV_pt"] * 0), PARTICLES[name].dtype) for name in names
    })  # fmt: skip


def particle_matrix(jets: ak.Array, features: Features = "open") -> NDArray[np.float32]:
    """The particles of all jets, one row each, jet after jet.

    Parameters
    ----------
    jets
        Jets with their `particles`, `(B,)`.
    features
        Which columns, see `particle_columns`.

    Returns
    -------
    `(N, 2 + F)`; `ak.num(jets.particles)` tells how many rows belong to each jet.

    Raises
    ------
    InputError
        If the particles lack a column.
    """
    return _matrix(ak.flatten(jets["particles"], axis=1), particle_columns(features), features)


def jet_matrix(jets: ak.Array, features: Features = "open") -> NDArray[np.float32]:
    """The columns of the jets, `(B, J)`, see `jet_columns`; errors as of `particle_matrix`."""
    return _matrix(jets, jet_columns(features), features)


def regression_target(jets: ak.Array) -> NDArray[np.float32]:
    """log(genJetPt/jetPt), `(B,)`; NaN for a jet without a generator jet."""
    if "genJetPt" not in jets.fields:
        return np.full(len(jets), np.nan, dtype=np.float32)
    gen, reco = (ak.to_numpy(jets[name]).astype(np.float64) for name in ("genJetPt", "jetPt"))
    target = np.full(len(jets), np.nan)
    known = (gen > 0) & (reco > 0)
    target[known] = np.log(gen[known] / reco[known])
    return target.astype(np.float32)


def table(jets: ak.Array, further: Sequence[str] = ()) -> dict[str, NDArray]:
    """The columns `TABLE_COLUMNS` of the jets, each `(B,)`; data without a generator has gen pt 0 and flavour 0.

    `further` columns come after these, as float32.
    """
    empty = np.zeros(len(jets))
    known = {
        name: (ak.to_numpy(jets[name]) if name in jets.fields else empty).astype(dtype)
        for name, dtype in TABLE_COLUMNS.items()
    }
    return known | {name: ak.to_numpy(jets[name]).astype(np.float32) for name in further}


def as_seen(jets: ak.Array, target: str) -> ak.Array:
    """The jets as a network is given them: one that corrects the raw pt (target ``raw``) knows no other correction."""
    if target != "raw":
        return jets
    for name, raw in (("jetPt", "jetRawPt"), ("jetMass", "jetRawMass")):
        jets = ak.with_field(jets, jets[raw], name)
    return jets


def start_pt(table: Mapping[str, ArrayLike]) -> NDArray:
    """The pt, GeV `(B,)`, that a network's factor multiplies."""
    return np.asarray(table[START_PT] if START_PT in table else table["jetPt"])

"""The matrices that a network is given, raw and in physical units, and what else is kept of a jet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import awkward as ak
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..jets.columns import JETS, Features, jet_columns, particle_columns

__all__ = [
    "FILE_PT", "START_PT", "TABLE_COLUMNS", "as_seen", "jet_matrix", "particle_matrix", "regression_target", "start_pt",
    "table",
]  # fmt: skip

_KEPT = ("run", "lumi", "event", "jetPtOrder", "jetPt", "jetEta", "jetMass", "jetRawPt", "genJetPt", "genJetEta",
         "hadronFlav", "partonFlav", "rhoAll", "PV_npvsGood", "eventWeight", "jetArea", "QG_mult")  # fmt: skip
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

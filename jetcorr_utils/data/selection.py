"""Which jets enter a study, and why the others do not."""

from __future__ import annotations

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from ..config import SelectionSettings
from .features import JET_COLUMNS

__all__ = ["LARGEST_RATIO", "MISMATCHED", "UNUSABLE", "own_particles", "reasons", "select_jets"]

UNUSABLE = "values that are not finite or not possible, or a negative pt"
EMPTY = "no particles"
LARGEST_RATIO = 10.0
"""Of genJetPt to jetPt, or the other way round, in jets that a network is trained on."""
MISMATCHED = f"genJetPt more than {LARGEST_RATIO:g} times jetPt, or less than a {LARGEST_RATIO:g}th of it"

_ENERGY = 14_000.0
"""GeV: no jet and no particle has more than the collisions of the LHC."""
_POSSIBLE = {
    **dict.fromkeys(("jetPt", "jetRawPt", "genJetPt", "jetMass", "PF_pT", "PF_mass"), _ENERGY),
    **dict.fromkeys(("jetEta", "jetPhi", "PF_dEta", "PF_dPhi", "jetArea", "QG_ptD", "QG_axis2"), 10.0),
    **dict.fromkeys(("rhoAll", "PV_npvsGood", "PF_caloFraction", "PF_hcalFraction"), 1_000.0),
    "QG_mult": 10_000.0,
}
"""The largest magnitude that a value can have: generous, far beyond what is likely. Beyond it a file is damaged, or in
other units. Any finite number is possible of what is not named here."""
_SIGNED = ("jetEta", "jetPhi", "PF_dEta", "PF_dPhi")
_BELOW_ZERO = 0.1
"""What others cannot be below, but for this, the rounding of a mass."""


def _possible(columns: dict[str, NDArray], size: int) -> NDArray[np.bool_]:
    """Whether the values of all columns are finite and possible, `(size,)`."""
    good = np.ones(size, dtype=bool)
    for name, column in columns.items():
        if column.dtype.kind == "f" or name in _POSSIBLE:
            good &= np.abs(column) <= _POSSIBLE.get(name, np.finfo(np.float32).max)  # false for NaN
            if name in _POSSIBLE and name not in _SIGNED:
                good &= column > -_BELOW_ZERO
    return good


def _usable(jets: ak.Array) -> NDArray[np.bool_]:
    """Whether all numbers of a jet and of its particles are possible and its pt and theirs are positive, `(B,)`."""
    names = [name for name in (*JET_COLUMNS, "jetPhi", "genJetPt", "genJetEta", "eventWeight") if name in jets.fields]
    good = _possible({name: ak.to_numpy(jets[name]) for name in names}, len(jets))
    for name in ("jetPt", "jetRawPt"):
        with np.errstate(invalid="ignore"):
            good &= ak.to_numpy(jets[name]) > 0
    particles = ak.flatten(jets["particles"], axis=1)
    bad = ~_possible({name: ak.to_numpy(particles[name]) for name in particles.fields}, len(particles))
    with np.errstate(invalid="ignore"):
        bad |= ak.to_numpy(particles["PF_pT"]) < 0
    if bad.any():
        owner = np.repeat(np.arange(len(jets)), ak.to_numpy(ak.num(jets["particles"])))
        good[owner[bad]] = False
    return good


def own_particles(jets: ak.Array) -> ak.Array:
    """The jets with only those particles that were clustered into them (PF_fromAK4Jet)."""
    # the same as particles[particles.PF_fromAK4Jet > 0], which takes ten times as long
    layout = ak.to_layout(jets["particles"]).to_ListOffsetArray64(True)
    offsets = np.asarray(layout.offsets.data)
    content = layout.content[: offsets[-1]]
    inside = np.asarray(ak.to_numpy(content["PF_fromAK4Jet"])) > 0
    before = np.zeros(len(inside) + 1, dtype=np.int64)
    np.cumsum(inside, out=before[1:])
    particles = ak.contents.ListOffsetArray(ak.index.Index64(before[offsets]), content[np.flatnonzero(inside)])
    return ak.with_field(jets, ak.Array(particles), "particles")


def reasons(jets: ak.Array, settings: SelectionSettings | None = None) -> dict[str, NDArray[np.bool_]]:
    """The jets that cannot be used, each under the first reason that holds.

    Parameters
    ----------
    jets
        Jets with particles, `(B,)`.
    settings
        Cuts; without them only jets that no network could take are named.

    Returns
    -------
    Masks `(B,)` by reason; no jet is in two of them.
    """
    pt, eta = (ak.to_numpy(jets[name]) for name in ("jetPt", "jetEta"))
    found = {UNUSABLE: ~_usable(jets), EMPTY: ak.to_numpy(ak.num(jets["particles"])) == 0}
    if settings is not None:
        gen_pt, gen_eta = (ak.to_numpy(jets[name]) for name in ("genJetPt", "genJetEta"))
        found[f"jetPt below {settings.min_pt:g} GeV"] = pt < settings.min_pt
        found[f"abs(jetEta) above {settings.max_abs_eta:g}"] = np.abs(eta) > settings.max_abs_eta
        if settings.min_gen_pt > 0:
            found["no generator jet"] = gen_pt <= 0
            found[f"genJetPt below {settings.min_gen_pt:g} GeV"] = gen_pt <= settings.min_gen_pt
        found[f"abs(genJetEta) above {settings.max_abs_gen_eta:g}"] = np.abs(gen_eta) > settings.max_abs_gen_eta
        if settings.min_gen_pt > 0:  # else they are not selected for a training, and need no generator jet
            with np.errstate(invalid="ignore", over="ignore"):
                found[MISMATCHED] = ~((gen_pt <= LARGEST_RATIO * pt) & (pt <= LARGEST_RATIO * gen_pt))
    left = np.ones(len(jets), dtype=bool)
    for mask in found.values():
        mask &= left
        left &= ~mask
    return found


def select_jets(
    jets: ak.Array, settings: SelectionSettings, candidates: str = "jet"
) -> tuple[ak.Array, dict[str, int]]:
    """The jets of a study with the particles of their clouds.

    Parameters
    ----------
    jets
        Jets with all stored particles.
    settings
        The cuts. With ``min_gen_pt`` 0, jets without a generator jet stay.
    candidates
        ``"jet"``: only the particles clustered into the jet; ``"window"``: all stored ones.

    Returns
    -------
    The jets that stay, and how many were left out for each reason.
    """
    jets = own_particles(jets) if candidates == "jet" else jets
    found = reasons(jets, settings)
    out = np.logical_or.reduce(list(found.values()))
    return jets[~out] if out.any() else jets, {reason: int(mask.sum()) for reason, mask in found.items()}

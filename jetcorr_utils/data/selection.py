"""Which jets enter a study, and why the others do not."""

from __future__ import annotations

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from ..config import SelectionSettings
from ..jets.columns import ANY, JETS, PARTICLES, Column
from ..jets.ragged import offsets_of, owners

__all__ = ["LARGEST_RATIO", "MISMATCHED", "UNUSABLE", "clustered", "own_particles", "reasons", "select_jets"]

UNUSABLE = "values that are not finite or not possible, or a negative pt"
EMPTY = "no particles"
LARGEST_RATIO = 10.0
"""Of genJetPt to jetPt, or the other way round, in jets that a network is trained on."""
MISMATCHED = f"genJetPt more than {LARGEST_RATIO:g} times jetPt, or less than a {LARGEST_RATIO:g}th of it"


def _possible(records: ak.Array, table: dict[str, Column]) -> NDArray[np.bool_]:
    """Whether the inputs and what else has limits are finite and possible, `(N,)`; beyond, a file is damaged."""
    good = np.ones(len(records), dtype=bool)
    for name in records.fields:
        known = table.get(name)
        if known is None or not (known.group or known.limits):
            continue
        values, (low, high) = ak.to_numpy(records[name]), known.limits or ANY
        if values.dtype.kind == "f" or known.limits:
            good &= (values >= low) & (values <= high)  # false for NaN
    return good


@np.errstate(invalid="ignore")
def _usable(jets: ak.Array) -> NDArray[np.bool_]:
    """Whether all numbers of a jet and of its particles are possible and its pt and theirs are positive, `(B,)`."""
    good = _possible(jets, JETS)
    for name in ("jetPt", "jetRawPt"):
        good &= ak.to_numpy(jets[name]) > 0
    particles = ak.flatten(jets["particles"], axis=1)
    bad = ~_possible(particles, PARTICLES) | (ak.to_numpy(particles["PF_pT"]) < 0)
    if bad.any():
        good[owners(offsets_of(ak.to_numpy(ak.num(jets["particles"]))))[bad]] = False
    return good


def clustered(particles: ak.Array) -> ak.Array:
    """The particles of each jet that were clustered into it, `(B, var)`."""
    # the same as particles[particles.PF_fromAK4Jet > 0], which takes ten times as long
    layout = ak.to_layout(particles)
    if layout.is_indexed:  # jets that were selected
        layout = layout.project()
    layout = layout.to_ListOffsetArray64(True)
    offsets = np.asarray(layout.offsets.data)
    content = layout.content[: offsets[-1]]
    inside = np.asarray(ak.to_numpy(content["PF_fromAK4Jet"])) > 0
    before = offsets_of(inside)
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(before[offsets]), content[np.flatnonzero(inside)]))


def own_particles(jets: ak.Array) -> ak.Array:
    """The jets with only those particles that were clustered into them (PF_fromAK4Jet)."""
    return ak.with_field(jets, clustered(jets["particles"]), "particles")


@np.errstate(invalid="ignore", over="ignore")  # damaged values, and cuts beyond all numbers of a jet
def reasons(
    jets: ak.Array, settings: SelectionSettings | None = None, *, without: bool = False
) -> dict[str, NDArray[np.bool_]]:
    """The jets that cannot be used, each under the first reason that holds.

    Parameters
    ----------
    jets
        Jets with particles, `(B,)`.
    settings
        Cuts; without them only jets that no network could take are named.
    without
        Whether no particles are expected, and jets that have none can be used all the same.

    Returns
    -------
    Masks `(B,)` by reason; no jet is in two of them.
    """
    pt, eta = (ak.to_numpy(jets[name]) for name in ("jetPt", "jetEta"))
    found = {UNUSABLE: ~_usable(jets), EMPTY: ak.to_numpy(ak.num(jets["particles"])) == 0}
    if without:
        del found[EMPTY]
    if settings is not None:
        gen_pt, gen_eta = (ak.to_numpy(jets[name]) for name in ("genJetPt", "genJetEta"))
        found[f"jetPt below {settings.min_pt:g} GeV"] = pt < settings.min_pt
        found[f"abs(jetEta) above {settings.max_abs_eta:g}"] = np.abs(eta) > settings.max_abs_eta
        if settings.min_gen_pt > 0:
            found["no generator jet"] = gen_pt <= 0
            found[f"genJetPt below {settings.min_gen_pt:g} GeV"] = gen_pt <= settings.min_gen_pt
        found[f"abs(genJetEta) above {settings.max_abs_gen_eta:g}"] = np.abs(gen_eta) > settings.max_abs_gen_eta
        if settings.min_gen_pt > 0:  # else they are not selected for a training, and need no generator jet
            found[MISMATCHED] = ~((gen_pt <= LARGEST_RATIO * pt) & (pt <= LARGEST_RATIO * gen_pt))
    left = np.ones(len(jets), dtype=bool)
    for mask in found.values():
        mask &= left
        left &= ~mask
    return found


def select_jets(
    jets: ak.Array, settings: SelectionSettings, candidates: str = "jet", *, without: bool = False
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
    without
        Whether the file has no candidates at all, and jets without particles stay.

    Returns
    -------
    The jets that stay, and how many were left out for each reason.
    """
    jets = own_particles(jets) if candidates == "jet" else jets
    found = reasons(jets, settings, without=without)
    out = np.logical_or.reduce(list(found.values()))
    return jets[~out] if out.any() else jets, {reason: int(mask.sum()) for reason, mask in found.items()}

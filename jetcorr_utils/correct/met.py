"""Missing transverse momentum that follows the jets: Type-1 corrected for the pt that jets have now.

Type-1 MET has the corrections of jets in it (CMS, JINST 14 (2019) P07004, section 5): what a jet gains in pt, MET loses
along the jet. MET that was made with one correction is turned into that of another by the difference of both, for the
jets that CMS takes: those above 15 GeV whose energy is not that of electrons and photons for more than 90 %.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import awkward as ak
import numpy as np

from ..errors import InputError
from ..jerc import is_variation

__all__ = ["correct_met"]

log = logging.getLogger(__name__)

MIN_PT = 15.0
"""GeV, in either of the two pt."""
MAX_EM = 0.9
"""Share of the jet's energy in electrons and photons."""
_EM = ("neEmEF", "chEmEF")


def correct_met(met: ak.Array, jets: ak.Array) -> ak.Array:
    """The MET that belongs to the jets.

    Parameters
    ----------
    met
        Type-1 corrected MET as NanoAOD has it, with ``pt`` and ``phi``, `(E,)`, GeV.
    jets
        Jets of `JetCorrector`, `(E, var)`: ``pt`` is that of now, ``pt_orig`` the one which this MET was made with.

    Returns
    -------
    `(E,)`: the MET with new ``pt`` and ``phi``, the old ones in ``pt_orig`` and ``phi_orig``, and, for each variation
    that the jets have, such as ``JES_Total``, a record with ``up`` and ``down`` of both.

    Without ``neEmEF`` and ``chEmEF`` of the jets, the cut on electrons and photons is left out, and a warning says so.

    Raises
    ------
    InputError
        If the jets are not corrected ones.
    """
    if "pt_orig" not in jets.fields:
        raise InputError("the jets: have no pt_orig; give those of JetCorrector")
    before = jets["pt_orig"]
    pt, phi = _shifted(met, jets, jets["pt"], before)
    _say_without_cut(tuple(name for name in _EM if name not in jets.fields))
    columns: dict[str, Any] = {"pt_orig": met["pt"], "phi_orig": met["phi"], "pt": pt, "phi": phi}
    for name in jets.fields:
        if is_variation(name):
            shifted = {side: _shifted(met, jets, jets[name][side]["pt"], before) for side in ("up", "down")}
            sides = {side: ak.zip({"pt": pt, "phi": phi}) for side, (pt, phi) in shifted.items()}
            columns[name] = ak.zip(sides, depth_limit=1)
    for name, values in columns.items():
        met = ak.with_field(met, values, name)
    return met


@functools.cache  # once in a process
def _say_without_cut(missing: tuple[str, ...]) -> None:
    if missing:
        log.warning(
            "the jets: have no %s: MET follows also jets that are electrons or photons for more than %g %%",
            " and no ".join(missing), 100 * MAX_EM,
        )  # fmt: skip


@np.errstate(invalid="ignore")  # where a pt is none
def _shifted(met: ak.Array, jets: ak.Array, now: ak.Array, before: ak.Array) -> tuple[ak.Array, ak.Array]:
    """pt and phi of the MET, in which the pt of the jets is `now` and was `before`."""
    used = ((now > MIN_PT) | (before > MIN_PT)) & np.isfinite(now)
    shares = [jets[name] for name in _EM if name in jets.fields]
    if shares:
        used = used & (sum(shares) < MAX_EM)
    change = ak.where(used, now - before, 0.0)
    x, y = (
        met["pt"] * function(met["phi"]) - ak.sum(ak.fill_none(change * function(jets["phi"]), 0.0), axis=1)
        for function in (np.cos, np.sin)
    )
    return np.hypot(x, y), np.arctan2(y, x)

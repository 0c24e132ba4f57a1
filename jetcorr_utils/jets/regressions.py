"""CMS's own regressions of the jet pt, as NanoAOD has them since version 12: the ones to beat.

They are relative to the raw pt, and come without and with the energy of neutrinos in the target. The two have different
conventions: ParticleNet's factor with neutrinos is ``RawCorr * RawCorrNeutrino``, of UParT ``RawCorrNeutrino`` is the
whole factor (`PhysicsTools/NanoAOD/python/jetsAK4_Puppi_cff.py` of CMSSW). Generator jets of NanoAOD have no neutrinos.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["REGRESSIONS", "Regression", "regressed", "regressions_in"]


@dataclass(frozen=True)
class Regression:
    """A regression of CMS.

    Attributes
    ----------
    title
        For figures and tables.
    prefix
        Of its columns, which end with Corr, CorrNeutrino and Res.
    whole
        Whether CorrNeutrino is the whole factor, or a factor on top of Corr.
    """

    title: str
    prefix: str
    whole: bool

    @property
    def columns(self) -> tuple[str, str, str]:
        """The factor without neutrinos, what makes it one with neutrinos, and the resolution."""
        return f"{self.prefix}Corr", f"{self.prefix}CorrNeutrino", f"{self.prefix}Res"


REGRESSIONS = {
    "pnet": Regression("ParticleNet of CMS", "PNetRegPtRaw", whole=False),
    "upart": Regression("UParT of CMS", "UParTAK4RegPtRaw", whole=True),
}
"""By the name that the models have in all tables."""


def regressions_in(columns: Collection[str]) -> tuple[str, ...]:
    """The names of the regressions whose columns are all there."""
    return tuple(name for name, known in REGRESSIONS.items() if set(known.columns) <= set(columns))


def regressed(jets: Any, name: str, *, neutrinos: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a regression makes of jets.

    Parameters
    ----------
    jets
        Columns ``jetPt``, ``jetRawPt`` and those of the regression, `(B,)`.
    name
        One of `REGRESSIONS`.
    neutrinos
        Whether the target has the energy of neutrinos.

    Returns
    -------
    factor, sigma
        `(B,)`: the pt over jetPt, and its relative resolution. A jet without a regression (CMS writes 0 or less) keeps
        its pt, and its resolution is not a number.
    """
    import awkward as ak  # as in `columns`: the settings of a study need only the names

    known = REGRESSIONS[name]
    corr, with_neutrinos, res, pt, raw = (
        ak.to_numpy(jets[column]).astype(np.float64) for column in (*known.columns, "jetPt", "jetRawPt")
    )
    whole = corr if not neutrinos else with_neutrinos if known.whole else corr * with_neutrinos
    there = (whole > 0) & np.isfinite(whole) & (pt > 0)
    factor, sigma = np.ones(len(pt)), np.full(len(pt), np.nan)
    factor[there] = whole[there] * raw[there] / pt[there]
    known_res = there & (corr > 0) & (res > 0)
    sigma[known_res] = res[known_res] / corr[known_res]
    return factor, sigma

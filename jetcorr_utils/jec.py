"""The official CMS jet energy corrections: text files of the JEC group, evaluated by coffea.

Our own standard corrections (`baseline`) belong to the simulated detector. Jets of CMS carry corrections from the text
files at <https://github.com/cms-jet/JECDatabase>, for example
``Summer16_07Aug2017_V11_MC_L2Relative_AK4PFchs.jec.txt``. Any of their levels can be applied in their order, to any of
the formats that `jetcorr_utils.data` reads, particles or not.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import awkward as ak
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError

__all__ = ["OfficialCorrection", "correct_jets", "load_official"]

log = logging.getLogger(__name__)

_SUFFIXES = (".jec.txt.gz", ".jec.txt")


class OfficialCorrection:
    """Levels of an official correction, applied to raw jets in their order.

    Attributes
    ----------
    levels
        Their names in the order of their application, for example ``["L1FastJet", "L2Relative", "L3Absolute"]``.
    """

    def __init__(self, corrector, levels: Sequence[str]) -> None:
        self._corrector = corrector
        self.levels = sorted(levels)

    def __call__(self, raw_pt: ArrayLike, eta: ArrayLike, area: ArrayLike, rho: ArrayLike) -> NDArray[np.float64]:
        """Corrected over raw pt.

        Parameters
        ----------
        raw_pt, eta, area, rho
            Of the jets, `(B,)`, and of their events; GeV.
        """
        known = {"JetPt": raw_pt, "JetEta": eta, "JetA": area, "Rho": rho}
        if unknown := [name for name in self._corrector.signature if name not in known]:
            raise InputError(f"the correction depends on {', '.join(unknown)}, which jets do not have here")
        arguments = {name: np.asarray(known[name], dtype=np.float64) for name in self._corrector.signature}
        factor = np.asarray(self._corrector.getCorrection(**arguments), dtype=np.float64)
        return np.broadcast_to(factor, np.shape(raw_pt)).copy()


def load_official(files: Sequence[str | Path]) -> OfficialCorrection:
    """Read text files of one campaign, one a level, in any order.

    Raises
    ------
    InputError
        If a file is missing, is not a text file of a correction, or does not belong to the others.
    """
    from coffea.jetmet_tools import FactorizedJetCorrector  # takes seconds to import
    from coffea.lookup_tools import extractor

    if not files:
        raise InputError("official corrections: name at least one text file")
    reader = extractor()
    names = []
    for file in map(Path, files):
        if not file.is_file():
            raise InputError(f"correction {file}: there is no such file")
        if not file.name.endswith(_SUFFIXES):
            raise InputError(f"correction {file}: expected a name that ends with {' or '.join(_SUFFIXES)}")
        name = file.name.removesuffix(next(suffix for suffix in _SUFFIXES if file.name.endswith(suffix)))
        names.append(_short(name))
        try:
            with warnings.catch_warnings(record=True) as remarks:  # some official files have gaps between their bins
                warnings.simplefilter("always")
                reader.add_weight_sets([f"{names[-1]} {name} {file}"])
            for text in {str(remark.message) for remark in remarks}:
                log.info("%s: %s", file, text)
        except Exception as error:  # the parser raises whatever a line that it does not expect leads to
            raise InputError(f"correction {file}: not a text file of a jet energy correction ({error})") from error
    reader.finalize()
    evaluator = reader.make_evaluator()
    try:
        levels = [name.split("_")[-2] for name in names]
        return OfficialCorrection(FactorizedJetCorrector(**{name: evaluator[name] for name in names}), levels)
    except Exception as error:  # coffea raises plain Exception for files that do not fit together
        raise InputError(f"corrections {', '.join(names)}: {error}") from error


def _short(name: str) -> str:
    """The name of a file in the five parts that coffea knows: campaign, era, data or MC, level, jets."""
    parts = name.split("_")
    if len(parts) < 5:
        raise InputError(f"correction {name}: expected a name such as Summer16_07Aug2017_V11_MC_L2Relative_AK4PFchs")
    return "_".join([parts[0], "".join(parts[1:-3]), *parts[-3:]])


def correct_jets(jets: ak.Array, correction: OfficialCorrection) -> ak.Array:
    """The jets with jetPt and jetMass from their raw values by an official correction.

    Parameters
    ----------
    jets
        Jets of any format, `(B,)`, with jetRawPt, jetRawMass, jetEta, jetArea and rhoAll.
    correction
        Of `load_official`.
    """
    factor = correction(*(ak.to_numpy(jets[name]) for name in ("jetRawPt", "jetEta", "jetArea", "rhoAll")))
    for corrected, raw in (("jetPt", "jetRawPt"), ("jetMass", "jetRawMass")):
        jets = ak.with_field(jets, (ak.to_numpy(jets[raw]) * factor).astype(np.float32), corrected)
    return jets

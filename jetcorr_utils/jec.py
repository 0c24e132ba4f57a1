"""The official CMS jet energy corrections: text files of the JEC group, evaluated by coffea.

Our own standard corrections (`baseline`) belong to the simulated detector. Jets of CMS carry corrections from the text
files at <https://github.com/cms-jet/JECDatabase>, for example
``Summer16_07Aug2017_V11_MC_L2Relative_AK4PFchs.jec.txt``. Any of their levels can be applied in their order, to any of
the formats that `jetcorr_utils.data` reads, particles or not.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .correction_files import say_if_mixed_up, unpacked
from .errors import InputError
from .files import readable_file

__all__ = ["OfficialCorrection", "correct_jets", "load_official"]

log = logging.getLogger(__name__)

_SUFFIXES = (".jec.txt.gz", ".jec.txt")
_NAME = re.compile(r"(?P<campaign>[^_]+)_(?P<era>.+)_(?P<kind>[^_]+)_(?P<level>L[1-7][^_]*)_(?P<jets>[^_]+)")
_FORMULA = re.compile(
    r"(?:(?:TMath::(?:Max|Min|Log|Exp|Power|Sqrt|Abs|Erf)|max|min|log10|log|exp|pow|sqrt|abs|erf)(?=\()"
    r"|[xyztws](?!\w)|\[\d+\]|(?:\d++\.?\d*+|\.\d++)(?:[eE][-+]?\d++)?+|\*(?!\*)|[-+/(),<>=!&|^])++"
)
"""Functions, variables, parameters and numbers: coffea hands the formula of a text file to Python as it stands.

A number can be read in one way only, or a long one would be tried in all its parts.
"""
_LARGEST = 1 << 26
"""Bytes of a text file, unpacked; CMS's have less than one million."""
_INPUTS = {"JetPt": "pt", "JetEta": "eta", "JetPhi": "phi", "JetA": "area", "Rho": "rho"}


class OfficialCorrection:
    """Levels of an official correction, applied to raw jets in their order.

    Parameters
    ----------
    functions
        coffea's function of each level, in the order of their application.

    Attributes
    ----------
    levels
        Their names in this order, for example ``["L1FastJet", "L2Relative", "L3Absolute", "L2L3Residual"]``.
    """

    def __init__(self, functions: dict[str, Callable[..., Any]]) -> None:
        self._functions = functions
        self.levels = list(functions)

    def __call__(
        self, raw_pt: ArrayLike, eta: ArrayLike, area: ArrayLike, rho: ArrayLike, phi: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Corrected over raw pt; not a number where something that it depends on is none.

        Parameters
        ----------
        raw_pt, eta, area, rho
            Of the jets, `(B,)`, and of their events; GeV.
        phi
            Of the jets, `(B,)`, for corrections that depend on it, as some of 2023 do.

        Raises
        ------
        InputError
            If the correction depends on something else.
        """
        known = {"pt": raw_pt, "eta": eta, "phi": phi, "area": area, "rho": rho}
        values = {name: np.asarray(value, dtype=np.float64) for name, value in known.items() if value is not None}
        total = np.ones(np.shape(raw_pt))
        for level, function in self._functions.items():
            here = values | {"pt": values["pt"] * total}
            if not _depends_on_phi(function):
                here.setdefault("phi", np.zeros_like(total))
            unknown = [name for name in function.signature if _INPUTS.get(name) not in here]
            if unknown:
                hint = "give phi" if unknown == ["JetPhi"] else "which jets do not have here"
                raise InputError(f"the correction {level} depends on {', '.join(unknown)}: {hint}")
            given = np.broadcast_arrays(*(here[_INPUTS[name]] for name in function.signature))
            # coffea takes what is not a number for a value in the last bin
            total = total * np.where(np.isnan(given).any(axis=0), np.nan, np.asarray(function(*given)))
        return total


def load_official(files: str | Path | Sequence[str | Path], *, simulation: bool | None = None) -> OfficialCorrection:
    """Read text files of one campaign, one a level, in any order.

    The order of the levels is that of their numbers, the residual ones, which are derived on top of these, after L3.

    Parameters
    ----------
    files
        The files.
    simulation
        Whether the jets are simulated, where that is known: files of the other kind are warned of.

    Raises
    ------
    InputError
        If a file is missing, is not a text file of a correction, or does not belong to the others.
    """
    files = [files] if isinstance(files, str | Path) else files
    if not files:
        raise InputError("official corrections: name at least one text file")
    found: dict[tuple, tuple[str, str, Callable[..., Any]]] = {}
    origins: dict[tuple, list[str]] = {}
    for file in [readable_file(file, "correction") for file in files]:
        name = _name(file)
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise InputError(
                f"correction {name}: expected a name such as Summer16_07Aug2017_V11_MC_L2Relative_AK4PFchs"
            )
        level = parts["level"]
        place = _place(level)
        if place in found:
            raise InputError(f"corrections {found[place][0]}, {name}: two of one level; give one")
        found[place] = name, level, _function(file)
        origins.setdefault(parts.group("campaign", "era", "kind", "jets"), []).append(name)
    if len(origins) > 1:
        raise InputError(
            f"corrections {', '.join(name for name, _, _ in found.values())}: "
            "they must have campaign, era, data or MC, and jets in common"
        )
    if simulation is not None:
        ((_, _, kind, _), names), *_ = origins.items()
        say_if_mixed_up(names[0], kind, simulation=simulation)
    return OfficialCorrection({level: function for _, (_, level, function) in sorted(found.items())})


def _name(file: Path) -> str:
    """The name of a text file, without what every such name ends with."""
    suffix = next((suffix for suffix in _SUFFIXES if file.name.endswith(suffix)), None)
    if suffix is None:
        raise InputError(f"correction {file}: expected a name that ends with {' or '.join(_SUFFIXES)}")
    return file.name.removesuffix(suffix)


def _place(level: str) -> tuple[int, str]:
    """Where a level stands: L1, L2, L3, the residual ones, L4 and above."""
    number = re.match(r"L\d(?:L\d)*", level)[0]
    return (1 if "Residual" in level else 2 if number >= "L4" else 0), number


def _function(file: Path) -> Callable[..., Any]:
    """coffea's function of a text file."""
    from coffea.lookup_tools.jme_standard_function import jme_standard_function  # takes seconds to import
    from coffea.lookup_tools.txt_converters import convert_jec_txt_file

    try:
        _check(file)
        with warnings.catch_warnings(record=True) as remarks:  # some official files have gaps between their bins
            warnings.simplefilter("always")
            (table,) = convert_jec_txt_file(str(file)).values()  # not by coffea's extractor, which splits the path
            function = jme_standard_function(*table)
    except MemoryError:
        raise
    except Exception as error:  # the parser raises whatever a line that it does not expect leads to
        raise InputError(f"correction {file}: not a text file of a jet energy correction ({error})") from error
    for text in {str(remark.message) for remark in remarks}:
        log.info("%s: %s", file, text)
    return function


def _check(file: Path) -> None:
    """Raise unless the first line is that of a correction and all others are whole and in the order that coffea takes.

    The first line has numbers, names of variables, and a plain formula. coffea sorts the bins, but not their
    parameters, and knows no file that ends too early.
    """
    text = io.StringIO(unpacked(file, _LARGEST).decode())
    fields = text.readline().strip().strip("{}").split()
    rows = np.loadtxt(text, ndmin=2)
    bins = int(fields[0])
    variables = int(fields[bins + 1])
    formula = fields[bins + variables + 2]
    names = [*fields[1 : bins + 1], *fields[bins + 2 : bins + variables + 2]]
    if not all(name.isidentifier() for name in names) or not _FORMULA.fullmatch(formula):
        raise ValueError(f"its formula is not one: {formula}")
    parameters = {int(number) for number in re.findall(r"\[(\d+)\]", formula)}
    if parameters != set(range(len(parameters))):
        raise ValueError(f"its formula leaves out parameters: {formula}")
    values = 2 * variables + len(parameters)
    if rows.shape[1] != 2 * bins + 1 + values or (rows[:, 2 * bins] != values).any():
        raise ValueError(f"its formula needs {values} numbers after the bins of a row: limits and parameters")
    if not np.isfinite(rows).all():
        raise ValueError("has numbers that are not finite")
    _check_bins(rows[:, : 2 * bins], names[:bins])


def _check_bins(rows: NDArray[np.float64], names: Sequence[str], gap: float = 0.0) -> NDArray[np.float64]:
    """Raise unless the bins of the first variable, and within each those of the next, ascend and adjoin.

    Parameters
    ----------
    rows
        Lower and upper edge for each variable, `(R, 2 V)`.
    names
        Of the variables.
    gap
        Share of an edge that may be left out: an official file has 0.7 % in pt, none has any in eta.

    Returns
    -------
    The last edge of each variable.
    """
    name, (low, high) = names[0], rows[:, :2].T
    begins = np.flatnonzero(np.append(True, (np.diff(low) != 0) | (np.diff(high) != 0)))
    first, last = low[begins], high[begins]
    if (first >= last).any() or (np.diff(first) <= 0).any():
        raise ValueError(f"the bins of {name} do not ascend")
    apart = np.abs(first[1:] - last[:-1]) > gap * np.abs(first[1:])
    if apart.any():
        raise ValueError(f"the bins of {name} do not adjoin at {last[:-1][apart][0]:g}; is the file whole?")
    if name == "JetEta" and first[0] < 0 < last[-1] and not np.isclose(first[0], -last[-1]):
        raise ValueError(f"the bins of {name} go from {first[0]:g} to {last[-1]:g}; is the file whole?")
    if len(names) == 1:
        if len(begins) != len(rows):
            raise ValueError(f"two rows of the same bin of {name}")
        return last[-1:]
    ends = [_check_bins(part, names[1:], 0.01) for part in np.split(rows[:, 2:], begins[1:])]
    if len(ends) > 1 and (ends[-1] != ends[-2]).any():
        raise ValueError(f"the last bin of {name} has fewer rows than the one before; is the file whole?")
    return np.append(last[-1:], ends[-1])


def _depends_on_phi(function: Any) -> bool:
    """Whether a function has more than one bin in phi, or one that does not go round."""
    edges = [] if "JetPhi" not in function.signature else function._bins.get("JetPhi", [[0.0]])
    return any(len(each) != 2 or each[0] > -3.14 or each[1] < 3.14 for each in edges)


def correct_jets(jets: ak.Array, correction: OfficialCorrection) -> ak.Array:
    """The jets with jetPt and jetMass from their raw values by an official correction.

    Parameters
    ----------
    jets
        Jets of any format, `(B,)`, with jetRawPt, jetRawMass, jetEta, jetPhi, jetArea and rhoAll.
    correction
        Of `load_official`.
    """
    factor = correction(*(ak.to_numpy(jets[name]) for name in ("jetRawPt", "jetEta", "jetArea", "rhoAll", "jetPhi")))
    for corrected, raw in (("jetPt", "jetRawPt"), ("jetMass", "jetRawMass")):
        jets = ak.with_field(jets, (ak.to_numpy(jets[raw]) * factor).astype(np.float32), corrected)
    return jets

"""CMS's official corrections as correctionlib (``jet_jerc.json.gz``): energy scale, resolution, uncertainties.

Files of the JSON POG hold, under names such as ``Summer20UL18NanoV15_V1_MC_L2Relative_AK4PFPuppi``, the levels of the
corrections, compounds of them (``…_L1L2L3Res_…``), the sources of their uncertainty, the resolution of pt in simulation
(``…_PtResolution_…``) and its ratio to that of data (``…_ScaleFactor_…``). All is evaluated by correctionlib. The text
files of the same corrections are read by `jec`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from .correction_files import read_corrections, say_if_mixed_up
from .errors import InputError
from .files import readable_file, version_of
from .jets.splitmix import event_hash, mix

__all__ = [
    "JER", "Corrections", "CorrectionsChoice", "is_variation", "short_name", "smearing", "standard_normal",
]  # fmt: skip

JER = "JER"
"""The name of the resolution's uncertainty, among those of the energy scale."""

Values = Mapping[str, NDArray[Any]]

_NAME = re.compile(r"(?P<tag>[\w.+-]+)_(?P<kind>MC|DATA)_(?P<part>[\w.+-]+)_(?P<jets>AK[A-Za-z0-9]+)")
"""Its parts become names of columns."""
_LEVEL = re.compile(r"L\d.*")
_RESOLUTION, _SCALE_FACTOR = "PtResolution", "ScaleFactor"
_INPUTS = {"JetPt": "jetPt", "JetEta": "jetEta", "JetPhi": "jetPhi", "JetA": "jetArea", "Rho": "rhoAll", "run": "run"}
_FURTHEST = 5.191
"""In abs(eta): the end of the calorimeters, and of the corrections."""
_SEED = 2019
_CLOSE = 3.0
"""Of the resolution: a generator jet that is further off in pt is not taken for the jet's own."""
_SOFTEST = 1e-2
"""GeV, the least energy that smearing leaves a jet."""


@dataclass(frozen=True)
class CorrectionsChoice:
    """What of a file is asked for; it can be sent to other processes.

    Attributes
    ----------
    path
        The file.
    compound
        A compound or a level, by its whole name or as ``L1L2L3Res``.
    uncertainties
        Sources of uncertainty by the middle of their name (``Total``, ``Regrouped_FlavorQCD``), `JER`, or ``all``.
    """

    path: str
    compound: str = "L1L2L3Res"
    uncertainties: tuple[str, ...] = ()

    def load(self, *, simulation: bool = True) -> Corrections:
        """The corrections, opened once in each process as long as the file stays the same."""
        return _load(self, simulation, version_of(self.path))


@functools.cache
def _load(choice: CorrectionsChoice, simulation: bool, version: object) -> Corrections:
    return Corrections(choice, simulation=simulation)


class Corrections:
    """The official corrections of a file, ready to be evaluated.

    Parameters
    ----------
    choice
        What of which file.
    simulation
        Whether a short name of a compound means that of simulation or that of data.

    Attributes
    ----------
    name
        The whole name of the compound.
    sources
        The names of the uncertainties, `JER` the last.

    Raises
    ------
    InputError
        If the file cannot be read, or lacks what was asked for; the message says what it has.
    """

    def __init__(self, choice: CorrectionsChoice, *, simulation: bool = True) -> None:
        path = readable_file(choice.path, "corrections")
        self._set = read_corrections(path)
        self.path = str(path)
        known: dict[str, Any] = {**dict(self._set.compound), **dict(self._set)}
        kind = "MC" if simulation else "DATA"
        self.name = self._find(choice.compound, known, kind)
        self._compound = known[self.name]
        _check_inputs(self.name, self._compound)
        parts = _NAME.fullmatch(self.name)
        self._parts = parts.groupdict() if parts else {}
        say_if_mixed_up(self.name, self._parts.get("kind"), simulation=simulation)
        there = self._sources(known)
        wanted = list(dict.fromkeys(choice.uncertainties))
        if "all" in wanted:
            wanted = list(there)
        if missing := [source for source in wanted if source not in there]:
            what = f"no uncertainty {missing[0]} for {self.name}"
            raise InputError(f"corrections {path}: {what}; there are {', '.join(there) or 'none'}")
        self.sources = tuple(source for source in wanted if source != JER) + ((JER,) if JER in wanted else ())
        self._uncertainties = {source: there[source] for source in self.sources}
        for source, given in self._uncertainties.items():
            for each in given if source == JER else (given,):
                _check_inputs(each.name, each, systematic=source == JER)

    def _find(self, wanted: str, known: Mapping[str, Any], kind: str) -> str:
        if wanted in known:
            return wanted
        found = [
            name for name in known
            if (parts := _NAME.fullmatch(name)) and parts["part"] == wanted and parts["kind"] == kind
        ]  # fmt: skip
        if len(found) != 1:
            levels = [name for name in known if (parts := _NAME.fullmatch(name)) and _LEVEL.fullmatch(parts["part"])]
            what = f"{len(found)} corrections" if found else "no correction"
            choice = ", ".join(found or levels) or "none"
            raise InputError(f"corrections {self.path}: {what} {wanted} for {kind}; name one of {choice}")
        return found[0]

    def _sources(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """The sources of uncertainty of the compound's campaign, and the pair of the resolution's, by name."""
        parts = {name: match.groupdict() for name in known if (match := _NAME.fullmatch(name))}
        own = {key: self._parts.get(key) for key in ("tag", "kind", "jets")}
        found = {
            each["part"]: known[name]
            for name, each in parts.items()
            if {key: each[key] for key in own} == own
            and not _LEVEL.fullmatch(each["part"])
            and each["part"] not in (_RESOLUTION, _SCALE_FACTOR, JER)
        }
        pair = [
            [known[name] for name, each in parts.items()
             if each["part"] == part and each["kind"] == "MC" == own["kind"] and each["jets"] == own["jets"]]
            for part in (_RESOLUTION, _SCALE_FACTOR)
        ]  # fmt: skip
        if len(pair[0]) == len(pair[1]) == 1:
            found[JER] = (pair[0][0], pair[1][0])
        return found

    def factor(self, jets: Values) -> NDArray[np.float64]:
        """Corrected over raw pt, `(B,)`; not a number for a jet beyond the calorimeters or without a pt.

        Parameters
        ----------
        jets
            Columns ``jetRawPt``, ``jetEta``, ``jetPhi``, ``jetArea``, ``rhoAll`` and ``run``, `(B,)` each; GeV.
        """
        return _evaluate(self._compound, {**jets, "jetPt": jets["jetRawPt"]})

    def shift(self, source: str, jets: Values) -> NDArray[np.float64]:
        """The uncertainty of pt from a source, relative, one standard deviation, with its sign, `(B,)`.

        Parameters
        ----------
        source
            One of `sources`, not `JER`.
        jets
            Columns as of `factor`, with the corrected pt as ``jetPt``.
        """
        return _evaluate(self._uncertainties[source], jets)

    def resolution(self, jets: Values) -> NDArray[np.float64]:
        """The relative resolution of pt in simulation, `(B,)`; needs `JER` among the `sources`."""
        return _evaluate(self._uncertainties[JER][0], jets)

    def scale_factor(self, jets: Values, systematic: str = "nom") -> NDArray[np.float64]:
        """The resolution in data over that in simulation, `(B,)`; systematic: nom, up or down."""
        return _evaluate(self._uncertainties[JER][1], jets, systematic)

    def variations(self, jets: Values) -> dict[str, NDArray[np.float64]]:
        """Factors of pt and mass, `(B,)` each, by the name of their column.

        ``JES_<source>_up`` and ``JES_<source>_down`` for each source of the energy scale; ``JER``, ``JER_up`` and
        ``JER_down`` for the smearing of simulated jets to the resolution of data.

        Parameters
        ----------
        jets
            Columns as of `factor`, with the corrected pt as ``jetPt``; for the smearing also ``genJetPt``, ``lumi``,
            ``event`` and ``jetPtOrder``.
        """
        found = {}
        for source in self.sources:
            if source == JER:
                resolution = self.resolution(jets)
                normal = standard_normal(*(jets[name] for name in ("run", "lumi", "event", "jetPtOrder")))
                for systematic, name in (("nom", JER), ("up", f"{JER}_up"), ("down", f"{JER}_down")):
                    scale = self.scale_factor(jets, systematic)
                    found[name] = smearing(jets["jetPt"], jets["jetEta"], jets["genJetPt"], resolution, scale, normal)
            else:
                shift = self.shift(source, jets)
                found |= {f"JES_{source}_up": 1 + shift, f"JES_{source}_down": 1 - shift}
        return found

    def apply(self, jets: ak.Array) -> ak.Array:
        """The jets with jetPt and jetMass from their raw values, and the variations as further columns.

        Parameters
        ----------
        jets
            Jets of any format, `(B,)`, see `data.read_jets`.
        """
        columns = {name: ak.to_numpy(jets[name]) for name in jets.fields if jets[name].ndim == 1}
        factor = self.factor(columns)
        columns["jetPt"] = columns["jetRawPt"] * factor
        new = {"jetPt": columns["jetPt"], "jetMass": columns["jetRawMass"] * factor, **self.variations(columns)}
        for name, values in new.items():
            jets = ak.with_field(jets, values.astype(np.float32), name)
        return jets

    def renew(self, jets: ak.Array) -> ak.Array:
        """As `apply`; a jet that has no correction keeps the one of its file, without variations."""
        new = self.apply(jets)
        known = np.isfinite(ak.to_numpy(new["jetPt"]))
        kept = {name: jets[name] for name in ("jetPt", "jetMass")}
        kept |= {name: np.float32(1) for name in filter(is_variation, new.fields)}
        for name, values in kept.items():
            new = ak.with_field(new, ak.where(known, new[name], values), name)
        return new


def short_name(compound: str) -> str:
    """A compound or level without the campaign and the kind of jets, such as ``L1L2L3Res``."""
    parts = _NAME.fullmatch(compound)
    return parts["part"] if parts else compound


def is_variation(column: str) -> bool:
    """Whether a column is one of `Corrections.variations`."""
    return column.startswith(("JES_", f"{JER}_")) or column == JER


def _evaluate(correction: Any, jets: Values, systematic: str = "") -> NDArray[np.float64]:
    """A correction where all that it depends on is a number and possible, not a number elsewhere."""
    names = [entry.name for entry in correction.inputs if entry.name != "systematic"]
    given = [np.asarray(jets[_INPUTS[name]], dtype=np.float64) for name in names]
    pt, eta = (np.asarray(jets[name], dtype=np.float64) for name in ("jetPt", "jetEta"))
    good = (pt > 0) & (np.abs(eta) < _FURTHEST) & np.isfinite(given).all(axis=0)
    result = np.full(len(pt), np.nan)
    arguments = iter(values[good] for values in given)
    ordered = [systematic if entry.name == "systematic" else next(arguments) for entry in correction.inputs]
    if good.any():
        try:
            result[good] = correction.evaluate(*ordered)
        except (IndexError, RuntimeError, ValueError) as error:  # it says where a jet is that it has no value for
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"corrections {correction.name}: cannot be evaluated for the jets: {reason}") from None
    return result


def _check_inputs(name: str, correction: Any, *, systematic: bool = False) -> None:
    """Raise where jets do not have what a correction depends on."""
    numbers = [entry for entry in correction.inputs if not (systematic and entry.name == "systematic")]
    if unknown := [entry.name for entry in numbers if entry.name not in _INPUTS or entry.type == "string"]:
        raise InputError(f"corrections {name}: depends on {', '.join(unknown)}, which jets do not have here")


def standard_normal(
    run: NDArray[Any], lumi: NDArray[Any], event: NDArray[Any], place: NDArray[Any]
) -> NDArray[np.float64]:
    """A normally distributed number for each jet, `(B,)`, that is the same wherever and whenever it is asked for.

    It depends on the numbers of the event and on the jet's place in it alone (Box and Muller, Ann. Math. Stat. 29
    (1958) 610, of two hashes).
    """
    first = mix(event_hash(run, lumi, event, _SEED) ^ np.asarray(place).astype(np.uint64))
    uniform = [((state >> np.uint64(11)) + 0.5) * 2.0**-53 for state in (first, mix(first))]
    return np.sqrt(-2 * np.log(uniform[0])) * np.cos(2 * np.pi * uniform[1])


def smearing(
    pt: NDArray[Any],
    eta: NDArray[Any],
    gen_pt: NDArray[Any],
    resolution: NDArray[np.float64],
    scale_factor: NDArray[np.float64],
    normal: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Factors that give simulated jets the resolution of data, by CMS's hybrid method, `(B,)`.

    The difference from the generator jet's pt is scaled where there is one within three times the resolution; the pt of
    the others is smeared (CMS, JINST 12 (2017) P02014; `SmearedJetProducerT` of CMSSW).

    Parameters
    ----------
    pt, eta, gen_pt
        Of the jets, `(B,)`, GeV; 0 without a generator jet.
    resolution, scale_factor
        Relative resolution in simulation, and that of data over it.
    normal
        Normally distributed numbers, see `standard_normal`.
    """
    pt, gen_pt = np.asarray(pt, dtype=np.float64), np.asarray(gen_pt, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = (pt - gen_pt) / pt
        matched = (gen_pt > 0) & (np.abs(difference) < _CLOSE * resolution)
        scaled = 1 + (scale_factor - 1) * difference
        smeared = 1 + np.sqrt(np.maximum(scale_factor**2 - 1, 0)) * resolution * normal
        factor = np.where(matched, scaled, smeared)
        least = _SOFTEST / np.cosh(np.asarray(eta, dtype=np.float64)) / pt
        return np.where(factor < least, least, factor)

"""Every number of the simulated detector in one table: value, unit, meaning and source.

The detector imitates the particle-flow reconstruction of CMS in Run 2. Its parameters come from CMS's own descriptions
of its detector and algorithms. The few that no paper gives have the source `FIXED_BY_COMPARISON`: they were set by
`jetcorr compare-cms` and by CMS's official corrections; none was chosen by looking at what a network gains with it.
`parameter_table()` gives them all as text.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from ..errors import InputError

__all__ = [
    "FIXED_BY_COMPARISON", "SIMULATION_VERSION", "Detector", "Generator", "Parameters", "Pileup", "Tracking",
    "parameter_table",
]  # fmt: skip

#: Part of the identity of simulated files: raised when the same seed gives other jets than before.
SIMULATION_VERSION = 4

_PF = "CMS particle flow, arXiv:1706.04965"
_TRACKER = "CMS tracking, arXiv:1405.6569"
_DETECTOR = "The CMS experiment, JINST 3 S08004"
_ROUGHLY = "roughly as in arXiv:1405.6569"
_PFALGO = "CMSSW RecoParticleFlow/PFProducer, PFAlgo"
_TEST_BEAM = "test beam of ECAL and HCAL, Eur. Phys. J. C 60 (2009) 359"
_GROOM = "Groom, Nucl. Instrum. Meth. A 572 (2007) 633"

#: Source of the parameters that were set by the comparison with CMS.
FIXED_BY_COMPARISON = "set by the comparison with CMS"


def _value(default: Any, unit: str, meaning: str, source: str) -> Any:
    return field(default=default, metadata={"unit": unit, "meaning": meaning, "source": source})


@dataclass(frozen=True)
class Generator:
    """The hard collisions."""

    energy: float = _value(13_000.0, "GeV", "energy of the proton pair", "LHC Run 2")
    tune: int = _value(
        18, "", "Pythia's Tune:pp; 18 is CUETP8M1, that of the open data's sample (14: Monash 2013)", "arXiv:1512.00815"
    )
    min_pthat: float = _value(20.0, "GeV", "smallest transverse momentum of the hard process", "below the jets' 30 GeV")
    bias_power: float = _value(
        5.0, "", "events are enhanced by pthat to this power, which makes the spectrum flat",
        "as CMS's flat QCD samples",
    )  # fmt: skip
    leading_jets: int = _value(0, "", "jets of an event that are written, those of highest pt; 0: all", "the open data")
    events_per_block: int = _value(200, "", "collisions that share one seed", "a few seconds of work")
    reuse: int = _value(1, "", "events of each collision, each with another pileup and detector", "the time of Pythia")


@dataclass(frozen=True)
class Pileup:
    """Further proton collisions in the same bunch crossing, and what charged-hadron subtraction makes of them."""

    mean: float = _value(23.0, "", "mean number of interactions", "CMS 2016, PileupHistogram of the luminosity group")
    spread: float = _value(6.0, "", "spread of the mean between events", "CMS 2016")
    pool_events: int = _value(2000, "", "inelastic collisions to draw from, each turned and mirrored", "statistics")
    kept: float = _value(0.15, "", "share of charged particles of pileup that subtraction leaves", "arXiv:2003.00503")
    vertex_efficiency: float = _value(0.7, "", "share of interactions with a good reconstructed vertex", _TRACKER)


@dataclass(frozen=True)
class Detector:
    """Tracker, calorimeters and particle-flow linking."""

    field: float = _value(3.8, "T", "magnetic field", _DETECTOR)
    ecal_radius: float = _value(1.29, "m", "inner radius of the barrel ECAL", _DETECTOR)
    ecal_z: float = _value(3.17, "m", "distance of the endcap ECAL", _DETECTOR)
    hcal_radius: float = _value(1.81, "m", "inner radius of the barrel HCAL", _DETECTOR)
    hcal_z: float = _value(3.88, "m", "distance of the endcap HCAL", _DETECTOR)
    max_abs_eta: float = _value(3.0, "", "particles beyond are not simulated", "jets reach 2.5 + 0.4")
    tracker_radius: float = _value(1.1, "m", "outer radius of the tracker", _DETECTOR)
    tracker_eta: float = _value(2.5, "", "acceptance of the tracker", _DETECTOR)

    material_eta: tuple[float, ...] = _value(
        (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0), "", "abs(eta) of the next row", _TRACKER
    )
    material: tuple[float, ...] = _value(
        (0.4, 0.55, 1.0, 1.9, 1.6, 1.2, 1.2), "X0", "material of the tracker", _ROUGHLY
    )
    material_nuclear: float = _value(0.28, "", "interaction lengths of the tracker's material, per X0", _ROUGHLY)
    nuclear_loss: float = _value(
        1.0, "GeV", "mean energy that an interaction in the tracker leaves in the nucleus", FIXED_BY_COMPARISON
    )
    secondaries: float = _value(
        1.0, "", "mean number of secondaries of an interaction beyond the first, per decade of energy above 1 GeV",
        FIXED_BY_COMPARISON,
    )  # fmt: skip
    secondary_kinds: tuple[float, float, float] = _value(
        (0.15, 0.68, 0.17), "", "shares of photons, charged pions and neutral hadrons among them",
        "roughly those of inelastic collisions, where neutral pions carry the photons' share",
    )  # fmt: skip
    secondary_kt: float = _value(
        0.45, "GeV", "their transverse momentum, in each of two directions", FIXED_BY_COMPARISON
    )

    track_min_pt: float = _value(0.3, "GeV", "softest track", _TRACKER)
    track_efficiency: float = _value(0.99, "", "for prompt charged hadrons above 1 GeV that do not interact", _TRACKER)
    track_material: float = _value(
        0.30, "", "share of the material where an interaction loses the track; both together give the efficiencies "
        "0.94 and 0.86 below and above abs(eta) 0.9", _TRACKER,
    )  # fmt: skip
    track_soft_loss: float = _value(
        0.20, "", "efficiency lost at the softest track, linear in log pt to 1 GeV", _ROUGHLY
    )
    track_core_loss: float = _value(
        0.02, "", "efficiency lost for each further track in an ECAL cell", FIXED_BY_COMPARISON
    )
    track_decay_length: float = _value(0.6, "m", "radius of production where the efficiency reaches 0", _ROUGHLY)
    track_resolution: tuple[float, float] = _value(
        (0.008, 0.018), "", "relative, abs(eta) below and above 1.4", _TRACKER
    )
    track_resolution_pt: tuple[float, float] = _value(
        (1.5e-4, 3.0e-4), "1/GeV", "grows with pt, same regions", _TRACKER
    )
    electron_efficiency: float = _value(0.85, "", "electrons in jets found as such", _PF)
    conversion_efficiency: float = _value(
        0.3, "", "electrons of converted photons that leave a track, over pions made there", FIXED_BY_COMPARISON
    )
    muon_efficiency: float = _value(0.98, "", "muons found as such", _PF)

    ecal_cell: int = _value(4, "", "ECAL cells a side of an HCAL cell: nearer maxima merge into one cluster", _PF)
    hcal_cells_phi: int = _value(72, "", "HCAL cells in phi (0.087); twice as wide beyond coarse_eta", _DETECTOR)
    coarse_eta: float = _value(1.74, "", "cells are twice as wide beyond", _DETECTOR)
    ecal_stochastic: float = _value(0.028, "√GeV", "ECAL resolution for photons", _DETECTOR)
    ecal_constant: tuple[float, float] = _value((0.015, 0.03), "", "with the tracker in front, barrel and endcap",
                                                "arXiv:1306.2016")  # fmt: skip
    ecal_threshold: tuple[float, float] = _value(
        (0.42, 1.0), "GeV", "softest photon, barrel and endcap",
        "nearly twice the seeds of 0.23 and 0.60 GeV of arXiv:1706.04965: they hold half or more of a soft cluster",
    )  # fmt: skip
    ecal_shower_start: float = _value(
        0.35, "", "share of hadrons that leave more than a track of energy in the ECAL", FIXED_BY_COMPARISON
    )
    ecal_hadron_response: float = _value(0.6, "", "ECAL response to hadrons over that to photons", "arXiv:0710.4120")
    hcal_stochastic: tuple[float, float] = _value(
        (1.02, 1.20), "√GeV", "resolution that linking assumes, barrel and endcap", _PFALGO
    )
    hcal_constant: tuple[float, float] = _value(
        (0.065, 0.028), "", "resolution that linking assumes, barrel and endcap", _PFALGO
    )
    hadron_stochastic: tuple[float, float] = _value(
        (1.10, 1.40), "√GeV", "resolution that hadrons really have, barrel and endcap",
        f"barrel: {_PF}; endcap: {FIXED_BY_COMPARISON}",
    )  # fmt: skip
    hadron_constant: tuple[float, float] = _value(
        (0.09, 0.12), "", "the same", f"barrel: {_PF}; endcap: {FIXED_BY_COMPARISON}"
    )
    hadron_response: tuple[float, float, float] = _value(
        (0.98, 0.4, 0.6), "", "mean response to hadrons a - b E^-c",
        "the raw jet response of CMS's official L2Relative of 2016",
    )  # fmt: skip
    hadronic_power: float = _value(
        0.82, "", "k in: the part of a shower that is not electromagnetic falls as E^(k - 1)", _GROOM
    )
    shower_parts: float = _value(
        1.0, "", "mean number of parts of a shower that lie apart, beyond the first, per decade of energy above 1 GeV",
        "as secondaries",
    )  # fmt: skip
    ecal_spread: tuple[float, float, float, float] = _value(
        (1.0, 0.4, 0.06, 0.08), "", "of hadrons' showers in the ECAL: least energy that spreads (GeV), mean share of "
        "1 GeV that lies apart, its mean distance in barrel and endcap (m)", FIXED_BY_COMPARISON,
    )  # fmt: skip
    hcal_spread: tuple[float, float, float, float] = _value(
        (2.0, 0.8, 0.18, 0.32), "", "the same in the HCAL", FIXED_BY_COMPARISON
    )
    hcal_cell_threshold: float = _value(0.8, "GeV", "energy below which a cell does not enter clusters", _PF)
    hcal_threshold: tuple[float, float] = _value(
        (2.0, 2.0), "GeV", "softest neutral hadron, barrel and endcap",
        f"seeds of 1.0 and 1.1 GeV (CMSSW PFClusterProducer) at half the response to photons ({_TEST_BEAM})",
    )  # fmt: skip
    excess_sigma: float = _value(
        1.0, "", "n in: neutral where calorimeter - tracks > n (1 + exp(-p/100)) sigma", _PFALGO
    )
    from_pv_tight: float = _value(0.95, "", "tracks of the primary vertex used in its fit (fromPV 3)", "CMS MiniAOD")


@dataclass(frozen=True)
class Tracking:
    """What is measured of tracks besides their momentum, secondary vertices, and the PUPPI weight."""

    luminous_length: float = _value(0.036, "m", "spread of the collisions along the beam", "LHC 2016")
    d0_resolution: tuple[float, float] = _value(
        (10.0, 80.0), "µm", "of hard tracks, and of tracks of 1 GeV at eta 0 by scattering, which falls as pt^-0.6 and "
        "grows as cosh(eta)^0.5", f"{_TRACKER}: 10 µm at 100 GeV, 25 to 90 µm from 10 to 1 GeV",
    )  # fmt: skip
    dz_resolution: tuple[float, float] = _value(
        (30.0, 90.0), "µm", "the same along the beam, which grows as cosh(eta)^1.5",
        f"{_TRACKER}: 30 µm at 100 GeV, 45 to 150 µm from 10 to 1 GeV",
    )  # fmt: skip
    details_min_pt: float = _value(0.5, "GeV", "softer tracks are stored without them, as -1", "CMS MiniAOD")

    vertex_seed: tuple[float, float] = _value(
        (1.2, 0.3), "", "a track can begin a secondary vertex from this d0 over its error on, up to this d0 (cm)",
        "arXiv:1102.3194; CMSSW InclusiveVertexFinder",
    )  # fmt: skip
    vertex_significance: float = _value(
        3.0, "", "least distance of a secondary vertex over its error", "CMS NanoAOD, SV_dlenSig"
    )

    puppi_radius: tuple[float, float] = _value(
        (0.02, 0.4), "", "nearest and farthest candidates that count", "arXiv:1407.6013; CMSSW CommonTools/PileupAlgos"
    )
    puppi_min_weight: float = _value(0.01, "", "smaller weights are 0", "CMSSW CommonTools/PileupAlgos")
    puppi_cut: tuple[float, float] = _value(
        (0.2, 0.015), "GeV", "least weighted pt of a neutral candidate a + b n for n vertices, abs(eta) below 2.5",
        "CMSSW CommonTools/PileupAlgos",
    )  # fmt: skip
    puppi_cut_forward: tuple[float, float] = _value(
        (1.7, 0.08), "GeV", "the same beyond", "CMSSW CommonTools/PileupAlgos"
    )


@dataclass(frozen=True)
class Parameters:
    """All parameters of the simulation."""

    generator: Generator = Generator()
    pileup: Pileup = Pileup()
    detector: Detector = Detector()
    tracking: Tracking = Tracking()

    def varied(self, overrides: Mapping[str, Any], setting: str) -> Parameters:
        """With some of them changed, by dotted name (``generator.tune``); `setting` of a study says so.

        Raises
        ------
        InputError
            If there is no parameter of a name, or its value is one of several numbers, or should be.
        """
        parameters: Any = self
        known = {
            f"{group.name}.{item.name}"
            for group in dataclasses.fields(self)
            for item in dataclasses.fields(getattr(self, group.name))
        }
        for dotted, value in overrides.items():
            if dotted not in known:
                raise InputError(f"{setting}: the simulation has no parameter {dotted!r}, see data/README.md")
            group, name = dotted.split(".")
            settings = getattr(parameters, group)
            before = getattr(settings, name)
            if np.shape(value) != np.shape(before):
                raise InputError(f"{setting}: {dotted} is {value!r}, where the simulation has {before!r}")
            numbers, whole = np.ravel(value), isinstance(before, int)
            if not np.all(np.isfinite(numbers) & (numbers >= (1 if whole and before else 0))) or (
                whole and not isinstance(value, int)
            ):
                kind = "a whole number" if whole else "finite and not negative"
                raise InputError(f"{setting}: {dotted} is {value!r}, must be {kind}, like {before!r}")
            parameters = dataclasses.replace(parameters, **{group: dataclasses.replace(settings, **{name: value})})
        return cast("Parameters", parameters)

    def key(self) -> str:
        """A short text that is equal for equal parameters and version of the simulation."""
        values = dataclasses.asdict(self)
        for name, default in (("leading_jets", 0), ("reuse", 1)):
            if values["generator"][name] == default:
                del values["generator"][name]  # younger than the samples and corrections that have such a key
        if self.tracking == Tracking():
            del values["tracking"]  # as well, and no jet depends on it
        text = json.dumps([SIMULATION_VERSION, values], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def parameter_table(parameters: Parameters | None = None) -> str:
    """All parameters as a Markdown table: name, value, unit, meaning, source."""
    parameters = parameters or Parameters()
    rows = ["| parameter | value | unit | meaning | source |", "|---|---|---|---|---|"]
    for group in dataclasses.fields(parameters):
        settings = getattr(parameters, group.name)
        for item in dataclasses.fields(settings):
            value = getattr(settings, item.name)
            text = " / ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else f"{value:g}"
            about = item.metadata
            rows.append(
                f"| {group.name}.{item.name} | {text} | {about['unit']} | {about['meaning']} | {about['source']} |"
            )
    return "\n".join(rows)

"""The record of a jet that all readers return, and the branches of a JetNTuple that it comes from.

Names and types are those of CERN Open Data record 12100 (cms-opendata-analyses/JetNtupleProducerTool). Every jet has
the core columns and its `particles`; further scalars of the format are passed on where a file has them.
"""

from __future__ import annotations

from typing import Literal

from .features import PARTICLE_COLUMNS, POINT_COLUMNS

__all__ = ["CORE", "DEFAULTS", "GENERATOR", "JET_TYPES", "NECESSARY", "PARTICLES", "PARTICLE_TYPES", "RICH",
           "Candidates"]  # fmt: skip

Candidates = Literal["jet", "window"]
"""Which candidates a jet is given: those clustered in it (PF_fromAK4Jet), or all that are stored."""

_FLOATS = """jetPt jetEta jetPhi jetMass jetGirth jetArea jetRawPt jetRawMass jetQGl QG_ptD QG_axis2 genJetPt genJetEta
genJetPhi genJetMass dPhiJetsLO dEtaJetsLO alpha pthat eventWeight rhoAll rhoCentral rhoCentralNeutral
rhoCentralChargedPileUp Pileup_nTrueInt"""
_INTEGERS = """jetLooseID jetTightID jetGenMatch QG_mult partonFlav hadronFlav physFlav isPhysUDS isPhysG isPhysOther
isPartonUDS isPartonG isPartonOther jetChargedHadronMult jetNeutralHadronMult jetChargedMult jetNeutralMult jetMult
eventJetMult jetPtOrder run lumi PV_npvsGood Pileup_nPU"""

JET_TYPES: dict[str, str] = {
    **dict.fromkeys(_FLOATS.split(), "float32"),
    **dict.fromkeys(_INTEGERS.split(), "int32"),
    "event": "uint64",
}
"""Scalars of a jet and their types; run and lumi of data fit 32 bits."""

RICH = ("PF_caloFraction", "PF_hcalFraction")
"""Particle columns that the open data lacks: without them there are no `rich` features."""

PARTICLES = POINT_COLUMNS + PARTICLE_COLUMNS["open"]
"""Particle columns that every jet has."""

PARTICLE_TYPES: dict[str, str] = {
    name: "int32" if name in ("PF_id", "PF_fromPV", "PF_fromAK4Jet") else "float32" for name in PARTICLES + RICH
}
"""Columns of a particle and their types."""

NECESSARY = ("run", "lumi", "event", "jetPt", "jetEta", "jetPhi", "jetMass", "jetArea", "jetRawPt", "rhoAll",
             "PV_npvsGood")  # fmt: skip
"""Scalars that nothing can replace."""

GENERATOR = ("genJetPt", "genJetEta", "genJetPhi", "genJetMass", "hadronFlav", "partonFlav")
"""What the simulation knows of a jet; 0 in data, and where no generator jet matches."""

DEFAULTS: dict[str, str] = {
    "jetRawMass": "jetMass · jetRawPt / jetPt",
    "jetPtOrder": "the place of the jet in its event",
    "eventWeight": "1",
    "QG_ptD": "computed from the jet's candidates",
    "QG_axis2": "computed from the jet's candidates",
    "QG_mult": "computed from the jet's candidates",
    **dict.fromkeys(GENERATOR, "0, no generator information"),
}
"""How an absent scalar is filled."""

CORE = NECESSARY + tuple(DEFAULTS)
"""Scalars that every jet has, whatever the format."""

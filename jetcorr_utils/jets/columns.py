"""The columns of jets and of their particles: one table for each, from which everything else comes.

Readers, cache, network inputs, ranges, drift, the attention figure and the simulation's files look a column up here by
its name; nothing is found by its position. Names and types are those of CERN Open Data record 12100
(cms-opendata-analyses/JetNtupleProducerTool). What a network is given is raw, in physical units (GeV, radians): a
column's features are computed inside the model, so that a served model takes what a detector measures. The azimuth of a
jet is in no group: a detector of a collider looks the same from all sides.

A study chooses its inputs by groups of columns (``features: [kinematics, class, pileup]``), by columns (``[PF_pT,
PF_dEta, jetPt, jetEta]``), or by the name of a set of both (``open``). One column more is one call from an extension of
the study::

    add_column("particle", Column("PF_trkChi2", group="tracks", title="fit of the track"))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..errors import InputError
from .particle_classes import CLASSES
from .quark_gluon import quark_gluon
from .ragged import owners
from .regressions import REGRESSIONS

__all__ = [
    "ANY", "BRANCHES", "FEATURE_SETS", "GENERATOR", "JETS", "OF_VERTICES", "PARTICLES", "POINTS", "TREE", "VERTICES",
    "WITH_NEUTRINOS", "Candidates", "Column", "Features", "Fill", "add_column", "candidates_of", "core", "counter_name",
    "features_of",
    "groups", "groups_of", "inputs", "jet_columns", "log", "log1p", "necessary", "particle_columns", "together",
    "with_vertices",
]  # fmt: skip

Features = str | tuple[str, ...]
"""What a network is given: the name of a set, of a group of columns or of a column, or several of them."""
Candidates = Literal["jet", "window"]
"""Which candidates a jet is given: those clustered in it (PF_fromAK4Jet), or all that are stored."""
Values = Mapping[str, Any]
"""Columns by name, as arrays or as tensors."""
Transforms = Mapping[str, Callable[[Values], Any]]
"""Features by name: functions of the raw columns."""

TREE = "AK4jets/jetTree"
"""The tree of a JetNTuple."""
POINTS = ("PF_dEta", "PF_dPhi")
"""Where a particle lies relative to the jet axis; these span the space of the neighbour search."""

GROUPS = ("kinematics", "class", "vertex", "clustering", "pileup", "quark_gluon", "calorimeter", "impact", "puppi",
          "kind", "secondary_vertices")  # fmt: skip
"""Groups of the package, whose columns stand in this order."""
STORED = "stored_100"
"""Among features: a cloud has the first 100 stored candidates, whether they were clustered into the jet or not."""

_JET_AXIS = ("PF_pT", "PF_dEta", "PF_dPhi", "jetPt", "jetEta")
FEATURE_SETS: dict[str, tuple[str, ...]] = {
    "open": GROUPS[:6],
    "rich": GROUPS[:7],
    "full": (*GROUPS[:9], "secondary_vertices"),
    "paper": (STORED, *_JET_AXIS, "PF_dTheta", "PF_dR",
              "jetPhi", "jetMass", "jetArea", "QG_ptD", "QG_axis2", "QG_mult"),
    "thesis": (*_JET_AXIS, "kind", "PF_vertex", "jetPhi"),
}  # fmt: skip
"""Names of lists of groups and columns: what the open data has; with the calorimeter fractions; with all that the
simulation has; what the networks of arXiv:2308.12724 were given (github.com/deinal/jec-inference); and those of the
thesis before it (github.com/deinal/jec-gnn): charged and neutral candidates and secondary vertices."""

_MOST_STORED = 100

ANY = (-3.4e38, 3.4e38)
"""The limits of a column of which every finite value is possible."""
_ENERGY = (-0.1, 14_000.0)  # GeV: no jet has more than the collisions of the LHC; a mass may be rounded to below 0
_ANGLE, _SHARE, _DENSITY = (-10.0, 10.0), (-0.1, 10.0), (-0.1, 1_000.0)
_FLAG = (-0.1, 1.1)
_DISTANCE = (-10_000.0, 10_000.0)  # cm
_MICROMETRES = 1e4  # in a cm
_HIGH_PURITY = 4  # the bit of CMS's track quality
_TINY = 1e-3  # where logarithms stop: 1 MeV for pt and mass, 0.001 for fractions and widths


@dataclass(frozen=True)
class Fill:
    """How a column is made that a file does not have.

    Attributes
    ----------
    rule
        In words, for the log.
    make
        From the columns that it needs, arrays by name, `(B,)` of jets and `(B, var)` of particles, the filled ones.
    needs
        Their names.
    """

    rule: str
    make: Callable[[Values], Values]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """One number of each jet, or of each particle.

    Attributes
    ----------
    name
        In all of jetcorr; the branch of a JetNTuple.
    dtype
        As NumPy names it.
    group
        The inputs of a network that it belongs to; without one it is no input.
    title, symbol, unit
        For figures; the symbol, by default the title, may be mathtext.
    sources
        By format, the branch that it is read from where that is not `name`: of NanoAOD ``Jet_btagPNetB``, or ``dz`` of
        the table of candidates.
    necessary
        Whether a file without it cannot be used at all.
    fill
        How it is made where a file lacks it; without this, such a file serves studies that do not ask for it.
    features
        What a network sees of it: by name, functions of raw columns as tensors. They are given those of the jet, and
        for a particle its own with ``jetPt`` and ``jetEta``. Default: the value itself. They are standardised.
    flags
        The same, for features that are true or false.
    limits
        Lowest and highest value that is possible, generously; beyond, a file is damaged or in other units. An input has
        to be finite in any case.
    symmetric
        Whether the range of the training is one of magnitudes: detectors are symmetric, and antiparticles like
        particles.
    drift
        Whether what is corrected is compared with the training.
    """

    name: str
    dtype: str = "float32"
    group: str = ""
    title: str = ""
    symbol: str = ""
    unit: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    necessary: bool = False
    fill: Fill | None = None
    features: Transforms | None = None
    flags: Transforms = field(default_factory=dict)
    limits: tuple[float, float] | None = None
    symmetric: bool = False
    drift: bool = True

    @property
    def label(self) -> str:
        """What figures call it."""
        return self.symbol or self.title or self.name

    @property
    def range_name(self) -> str:
        """What the range of its values in training is called."""
        return f"abs({self.name})" if self.symmetric else self.name

    @property
    def continuous(self) -> Transforms:
        """The features that are standardised."""
        return _as_it_is(self.name, self.name) if self.features is None else self.features


def log(values: Any) -> Any:
    """The logarithm of a tensor, from 0.001 on."""
    return values.clamp(min=_TINY).log()


def log1p(values: Any) -> Any:
    """The logarithm of 1 plus a tensor, from 0 on."""
    return values.clamp(min=0).log1p()


def _nano(branch: str) -> dict[str, str]:
    return {"NanoAOD": branch}


def _as_it_is(feature: str, name: str) -> Transforms:
    return {feature: lambda c: c[name]}


def _position(columns: Values) -> Any:
    return (columns["PF_dEta"].square() + columns["PF_dPhi"].square()).sqrt()


def _is_class(number: int) -> Callable[[Values], Any]:
    return lambda c: c["PF_id"].abs() == number


def _has_vertex_code(code: int) -> Callable[[Values], Any]:
    return lambda c: c["PF_fromPV"] == code


_OF_THE_VERTEX = Fill(
    "3, the primary vertex, as CMS has it for neutral candidates and most that charged-hadron subtraction leaves",
    lambda c: {"PF_fromPV": c["PF_id"] * 0 + 3}, ("PF_id",),
)  # fmt: skip

_POLAR = Fill(
    "from PF_dEta and PF_dPhi",
    lambda c: {"PF_dR": np.hypot(c["PF_dEta"], c["PF_dPhi"]), "PF_dTheta": np.arctan2(c["PF_dPhi"], c["PF_dEta"])},
    ("PF_dEta", "PF_dPhi"),
)


def _charged(columns: Values) -> Values:
    kind = abs(columns["PF_id"])
    return {"PF_charged": (kind == 211) | (kind == 11) | (kind == 13)}


_CHARGED = Fill("from PF_id", _charged, ("PF_id",))
_NO_VERTEX = Fill(
    "0 for candidates", lambda c: dict.fromkeys(("PF_vertex", "PF_vertexSig", "PF_vertexTracks"), c["PF_pT"] * 0),
    ("PF_pT",),
)  # fmt: skip

_MADE = (_CHARGED, _NO_VERTEX)  # never written

_PARTICLES = (
    Column("PF_pT", group="kinematics", title="pt", unit="GeV", necessary=True, limits=_ENERGY,
           features={"log_pt": lambda c: log(c["PF_pT"]),
                     "log_pt_over_jet": lambda c: log(c["PF_pT"]) - log(c["jetPt"])}),
    Column("PF_dR", title="distance to the jet axis", fill=_POLAR, limits=_ANGLE, drift=False),
    Column("PF_dTheta", title="angle around the jet axis", fill=_POLAR, limits=_ANGLE, drift=False),
    Column("PF_dPhi", group="kinematics", necessary=True, limits=_ANGLE, features={}),
    Column("PF_dEta", group="kinematics", title="Δη, Δϕ to the jet axis", necessary=True, limits=_ANGLE,
           features={**_as_it_is("d_eta", "PF_dEta"), **_as_it_is("d_phi", "PF_dPhi"), "d_r": _position,
                     "abs_eta": lambda c: (c["PF_dEta"] + c["jetEta"]).abs()}),
    Column("PF_mass", group="kinematics", title="mass", unit="GeV", necessary=True, limits=_ENERGY, drift=False,
           features=_as_it_is("mass", "PF_mass")),
    Column("PF_id", "int32", group="class", title="class", necessary=True, symmetric=True, drift=False,
           features={}, flags={**{name[:-1].replace(" ", "_"): _is_class(number)
                                  for name, (number,) in CLASSES.items()},
                               "forward": lambda c: c["PF_id"].abs() <= 2}),
    # 3: used in the fit of the primary vertex … 0: used in another vertex
    Column("PF_fromPV", "int32", group="vertex", title="vertex", fill=_OF_THE_VERTEX,
           features={}, flags={f"from_pv_{code}": _has_vertex_code(code) for code in range(4)}),
    Column("PF_fromAK4Jet", "int32", group="clustering", title="in the jet", necessary=True, drift=False,
           features={}, flags={"from_jet": lambda c: c["PF_fromAK4Jet"] > 0}),
    Column("PF_caloFraction", group="calorimeter", title="calorimeter / momentum", limits=_DENSITY,
           features={"calo_fraction": lambda c: log1p(c["PF_caloFraction"])}),
    Column("PF_hcalFraction", group="calorimeter", title="hadronic share", limits=_DENSITY,
           features={"hcal_fraction": lambda c: log1p(c["PF_hcalFraction"])}),
    # -1 without a track, or for a soft one of which CMS stores no more than the momentum
    Column("PF_d0", group="impact", title="distance to the vertex", unit="cm", sources=_nano("d0"), limits=_DISTANCE,
           symmetric=True, features={"log_d0": lambda c: log1p(_MICROMETRES * c["PF_d0"].abs())}),
    Column("PF_d0Err", group="impact", title="its error", unit="cm", sources=_nano("d0Err"), limits=_DISTANCE,
           features={"log_d0_error": lambda c: log1p(_MICROMETRES * c["PF_d0Err"])}),
    Column("PF_dz", group="impact", title="distance along the beam", unit="cm", sources=_nano("dz"), limits=_DISTANCE,
           symmetric=True, features={"log_dz": lambda c: log1p(_MICROMETRES * c["PF_dz"].abs())}),
    Column("PF_dzErr", group="impact", title="its error, along the beam", unit="cm", sources=_nano("dzErr"),
           limits=_DISTANCE, features={"log_dz_error": lambda c: log1p(_MICROMETRES * c["PF_dzErr"])}),
    Column("PF_trkQuality", "int32", group="impact", title="quality of the track", sources=_nano("trkQuality"),
           features={}, flags={"high_purity": lambda c: c["PF_trkQuality"] >= _HIGH_PURITY}),
    Column("PF_charged", "int32", group="kind", title="charged", fill=_CHARGED, limits=_FLAG, drift=False,
           features={}, flags={"charged": lambda c: c["PF_charged"] > 0}),
    # Of the further points of a cloud that are vertices, see `data.features.points_of`; 0 for candidates
    Column("PF_vertex", "int32", group="secondary_vertices", title="secondary vertex", fill=_NO_VERTEX, limits=_FLAG,
           drift=False, features={}, flags={"secondary_vertex": lambda c: c["PF_vertex"] > 0}),
    Column("PF_vertexSig", group="secondary_vertices", title="distance of the vertex / error", fill=_NO_VERTEX,
           limits=_DISTANCE, features={"log_vertex_significance": lambda c: log1p(c["PF_vertexSig"])}),
    Column("PF_vertexTracks", "int32", group="secondary_vertices", title="tracks of the vertex", fill=_NO_VERTEX,
           limits=_DENSITY, features={"log_vertex_tracks": lambda c: log1p(c["PF_vertexTracks"])}),
    Column("PF_puppiWeight", group="puppi", title="PUPPI weight", sources=_nano("puppiWeight"), limits=_SHARE),
)  # fmt: skip
PARTICLES = {column.name: column for column in _PARTICLES}
"""Columns of a particle. The two of its position are one input, whose features stand with ``PF_dEta``."""


def _constant(name: str, value: int, rule: str) -> Fill:
    return Fill(rule, lambda c: {name: np.full(len(c["jetPt"]), value)}, ("jetPt",))


def _raw_mass(columns: Values) -> Values:
    mass, raw, pt = (columns[name] for name in ("jetMass", "jetRawPt", "jetPt"))
    return {"jetRawMass": mass * np.divide(raw, pt, out=np.zeros(len(pt), np.float32), where=pt > 0)}


_CONSTITUENTS = ("PF_pT", "PF_dEta", "PF_dPhi", "PF_id", "PF_fromPV", "PF_fromAK4Jet")


def _quark_gluon(columns: Values) -> Values:
    """The three variables at once, from the candidates that were clustered into the jets."""
    import awkward as ak  # a second that settings of a study need not take

    ptr = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(columns["PF_pT"])))])
    pt, d_eta, d_phi, pdg, from_pv, inside = (ak.to_numpy(ak.flatten(columns[name])) for name in _CONSTITUENTS)
    own = inside > 0
    return quark_gluon(owners(ptr)[own], len(ptr) - 1, *(values[own] for values in (pt, d_eta, d_phi, pdg, from_pv)))


_FROM_CANDIDATES = Fill("computed from the jet's candidates", _quark_gluon, _CONSTITUENTS)


def _generator(name: str, dtype: str = "float32", **more: Any) -> Column:
    """What the simulation knows of a jet; 0 in data, and where no generator jet matches."""
    return Column(name, dtype, fill=_constant(name, 0, "0, no generator information"), **more)


_JETS = (
    Column("jetPt", group="kinematics", title="pt", symbol=r"$p_\mathrm{T}$", unit="GeV", sources=_nano("Jet_pt"),
           necessary=True, limits=_ENERGY, features={"log_pt": lambda c: log(c["jetPt"])}),
    Column("jetEta", group="kinematics", title="η", symbol=r"$\eta$", sources=_nano("Jet_eta"),
           necessary=True, limits=_ANGLE, symmetric=True, features={"abs_eta": lambda c: c["jetEta"].abs()}),
    Column("jetPhi", title="ϕ", sources=_nano("Jet_phi"), necessary=True, limits=_ANGLE),
    Column("jetMass", group="kinematics", title="mass", unit="GeV", sources=_nano("Jet_mass"), necessary=True,
           limits=_ENERGY, features={"log_mass_over_pt": lambda c: log(c["jetMass"]) - log(c["jetPt"])}),
    Column("jetGirth"),
    Column("jetArea", group="kinematics", title="area", sources=_nano("Jet_area"), necessary=True, limits=_SHARE,
           features=_as_it_is("area", "jetArea")),
    Column("jetRawPt", group="kinematics", title="raw pt / pt", symbol=r"raw $p_\mathrm{T}$", unit="GeV",
           necessary=True, limits=_ENERGY,
           features={"log_pt_over_raw": lambda c: log(c["jetPt"]) - log(c["jetRawPt"])}),
    Column("jetRawMass", title="raw mass", unit="GeV",
           fill=Fill("jetMass · jetRawPt / jetPt", _raw_mass, ("jetMass", "jetRawPt", "jetPt"))),
    Column("jetQGl"),
    Column("QG_ptD", group="quark_gluon", title="ptD", symbol=r"$p_\mathrm{T}D$", fill=_FROM_CANDIDATES,
           limits=_SHARE, features=_as_it_is("qg_ptd", "QG_ptD")),
    Column("QG_axis2", group="quark_gluon", title="minor axis", symbol=r"$\sigma_2$", fill=_FROM_CANDIDATES,
           limits=_SHARE, features={"log_qg_axis2": lambda c: log(c["QG_axis2"])}),
    _generator("genJetPt", title="pt of the generator jet", unit="GeV", limits=_ENERGY),
    _generator("genJetEta", title="η of the generator jet", limits=ANY),
    _generator("genJetPhi", title="ϕ of the generator jet"),
    _generator("genJetMass", title="mass of the generator jet", unit="GeV"),
    *map(Column, ("dPhiJetsLO", "dEtaJetsLO", "alpha", "pthat")),
    Column("eventWeight", title="weight of the event", sources=_nano("genWeight"),
           fill=_constant("eventWeight", 1, "1"), limits=ANY),
    Column("rhoAll", group="pileup", title="ρ", symbol=r"$\rho$", unit="GeV", necessary=True, limits=_DENSITY,
           features=_as_it_is("rho", "rhoAll")),
    *map(Column, ("rhoCentral", "rhoCentralNeutral", "rhoCentralChargedPileUp", "Pileup_nTrueInt")),
    *(Column(name, "int32") for name in ("jetLooseID", "jetTightID", "jetGenMatch")),
    Column("QG_mult", "int32", group="quark_gluon", title="multiplicity", fill=_FROM_CANDIDATES,
           limits=(-0.1, 10_000.0), features={"log_qg_mult": lambda c: log1p(c["QG_mult"])}),
    _generator("partonFlav", "int32", title="flavour by partons", sources=_nano("Jet_partonFlavour")),
    _generator("hadronFlav", "int32", title="flavour by hadrons", sources=_nano("Jet_hadronFlavour")),
    *(Column(name, "int32") for name in ("physFlav", "isPhysUDS", "isPhysG", "isPhysOther", "isPartonUDS", "isPartonG",
                                         "isPartonOther", "jetChargedHadronMult", "jetNeutralHadronMult",
                                         "jetChargedMult", "jetNeutralMult", "jetMult", "eventJetMult")),
    # counted by the readers, who know where an event ends
    Column("jetPtOrder", "int32", fill=Fill("the place of the jet in its event", dict, ("run", "lumi", "event"))),
    Column("run", "int32", sources=_nano("run"), necessary=True),  # run and lumi of data fit 32 bits
    Column("lumi", "int32", sources=_nano("luminosityBlock"), necessary=True),
    Column("PV_npvsGood", "int32", group="pileup", title="vertices", symbol=r"$N_\mathrm{PV}$", necessary=True,
           sources=_nano("PV_npvsGood"), limits=_DENSITY, features=_as_it_is("vertices", "PV_npvsGood")),
    Column("Pileup_nPU", "int32"),
    Column("event", "uint64", sources=_nano("event"), necessary=True),
)  # fmt: skip
JETS = {column.name: column for column in _JETS}
"""Columns of a jet, in the order of a JetNTuple's branches."""

GENERATOR = ("genJetPt", "genJetEta", "genJetPhi", "genJetMass", "hadronFlav", "partonFlav")
"""What only a simulation knows."""

OF_VERTICES = "PF_vertex"
"""What columns of a particle begin with that are of secondary vertices, among the points of a cloud."""
VERTICES = {
    **dict.fromkeys((f"SV_{name}" for name in ("pt", "eta", "phi", "mass", "dlenSig")), "float32"),
    "SV_ntracks": "int32",
}  # fmt: skip
"""Branches of the secondary vertices in a jet, as CMS's NanoAOD names them: GeV, distance over its error, tracks."""

BRANCHES = {
    **{column.name: column.dtype for column in _JETS},
    **{column.name: f"var * {column.dtype}" for column in _PARTICLES if column.fill not in _MADE},
    # the particles of the generator jet, which only `physics.limits` reads
    **{name: f"var * {dtype}" for name, dtype in VERTICES.items()},
    **{f"genJetPF_{name}": f"var * {'int32' if name == 'id' else 'float32'}"
       for name in ("pT", "dR", "dTheta", "mass", "id")},
}  # fmt: skip
"""The branches of a JetNTuple and their types, arrays counted by nPF, nSV and nGenJetPF: what the simulation writes.
PF_caloFraction and PF_hcalFraction are not in the open data; CMS stores them in MiniAOD. Nor are those from PF_d0 on,
whose names are those of NanoAOD (PFCands_d0), and secondary vertices."""

JETS |= {
    name: Column(name, sources=_nano(f"Jet_{name}"))
    for name in (*(name for known in REGRESSIONS.values() for name in known.columns), "chEmEF", "muEF")
}
"""Columns of NanoAOD alone: CMS's own regressions, and the shares of electrons and muons."""

WITH_NEUTRINOS = "genJetNuPt"
"""The pt of the generator jet with the neutrinos in it, which those of NanoAOD and of JetNTuple are without."""
JETS[WITH_NEUTRINOS] = Column(WITH_NEUTRINOS, title="genJetPt with the neutrinos", unit="GeV", limits=_ENERGY)

_TABLES = {"particle": PARTICLES, "jet": JETS}


def add_column(of: Literal["particle", "jet"], column: Column) -> None:
    """Make a column known, from an extension of a study: it goes wherever the group goes that studies name.

    Raises
    ------
    InputError
        If there is one of this name, or one with a feature of the same name, or if its group is one of the package,
        whose models would get another input by it.
    """
    if column.group in GROUPS:
        raise InputError(f"column {column.name}: the group {column.group} is that of trained models; name one of yours")
    if column.name in PARTICLES or column.name in JETS:
        raise InputError(f"column {column.name}: there is one of this name; choose another")
    taken = {feature for known in _TABLES[of].values() for feature in (*known.continuous, *known.flags)}
    if twice := taken.intersection((*column.continuous, *column.flags)):
        raise InputError(
            f"column {column.name}: there is a feature {min(twice)} of a {of} already; choose another name"
        )
    _TABLES[of][column.name] = column


def necessary(table: Mapping[str, Column]) -> list[str]:
    """The columns that nothing can replace."""
    return [column.name for column in table.values() if column.necessary]


def core() -> list[str]:
    """The columns of a jet that every jet has, whatever the format: necessary ones, and those that can be filled."""
    return [column.name for column in JETS.values() if column.necessary or column.fill]


def groups() -> tuple[str, ...]:
    """All groups of columns there are."""
    named = [column.group for table in _TABLES.values() for column in table.values() if column.group]
    return tuple(dict.fromkeys([*GROUPS, *named]))


def _chosen(features: Features) -> list[str]:
    """The groups, columns and `STORED` that features name, sets replaced by what they hold."""
    names = (features,) if isinstance(features, str) else features
    return [entry for name in names for entry in FEATURE_SETS.get(name, (name,))]


def groups_of(features: Features) -> list[str]:
    """The groups that a study's `features` stand for, and the columns besides, in the order of their columns.

    Raises
    ------
    InputError
        If there is no such set, group or column, or if what a network needs in any case is not among them.
    """
    chosen, known = _chosen(features), groups()
    columns = {name: column.group for table in _TABLES.values() for name, column in table.items()}
    if unknown := [name for name in chosen if name not in known and name not in columns and name != STORED]:
        there = f"there are the sets {', '.join(FEATURE_SETS)}, the groups {', '.join(known)}, and columns by name"
        raise InputError(f"features {unknown[0]!r}: {there}")
    if missing := [name for name in _JET_AXIS if name not in chosen and columns[name] not in chosen]:
        raise InputError(
            f"features: {missing[0]} is missing, which all others are relative to; add it, or the group kinematics"
        )
    alone = [name for name, group in columns.items() if name in chosen and group not in chosen]
    return [*(group for group in known if group in chosen), *alone]


def candidates_of(features: Features, default: Candidates) -> tuple[Candidates, int | None]:
    """Which candidates a cloud of these features has, and how many at most: the study's, unless features name some."""
    return ("window", _MOST_STORED) if STORED in _chosen(features) else (default, None)


def with_vertices(features: Features) -> bool:
    """Whether secondary vertices are points of a cloud beside the candidates."""
    return any(name.startswith(OF_VERTICES) for name in particle_columns(features))


def together(several: Iterable[Features]) -> Features:
    """Features with the columns of all of several, by the name of the set where they are one.

    Raises
    ------
    InputError
        If they are of other candidates, so that no cloud has all of them.
    """
    several = list(several)
    if len({candidates_of(features, "jet") for features in several}) > 1:
        raise InputError(
            f"features: models with and without {STORED} see other particles; give each a study of its own"
        )
    chosen = tuple(entry for features in several for entry in _chosen(features))
    content = groups_of(chosen), candidates_of(chosen, "jet")
    names = [name for name in FEATURE_SETS if (groups_of(name), candidates_of(name, "jet")) == content]
    return names[0] if names else tuple(name for name in (STORED, *content[0]) if name in chosen)


def inputs(table: Mapping[str, Column], features: Features) -> list[Column]:
    """The columns of a table that features stand for, group after group, as a network sees what becomes of them."""
    return [column for name in groups_of(features) for column in table.values() if name in (column.group, column.name)]


def particle_columns(features: Features) -> tuple[str, ...]:
    """The columns of a particle that a network is given, in their order: the points come first."""
    return POINTS + tuple(column.name for column in inputs(PARTICLES, features) if column.name not in POINTS)


def jet_columns(features: Features) -> tuple[str, ...]:
    """The columns of a jet that a network is given, in their order."""
    return tuple(column.name for column in inputs(JETS, features))


def counter_name(branch: str) -> str:
    """The branch of a JetNTuple that counts the entries of an array, as uproot asks for it."""
    return {"genJetPF": "nGenJetPF", "SV": "nSV"}.get(branch.partition("_")[0], "nPF")


def features_of(metadata: Mapping[str, str]) -> Features:
    """The features that an exported model notes; ``open`` where it says nothing."""
    noted = metadata.get("features", "open")
    if not noted.startswith("["):
        return noted
    try:
        return tuple(map(str, json.loads(noted)))
    except (ValueError, RecursionError):
        raise InputError(f"features {noted!r} cannot be read") from None

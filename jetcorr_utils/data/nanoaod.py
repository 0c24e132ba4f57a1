"""Reader of CMS NanoAOD with particle-flow candidates (PFNano, BTVNano, JMENano, CMSSW's own): one entry an event.

Candidates are attached to their jets by the stored indices. The tree is a TTree or an RNTuple.
The names of Run 2 and of Run 3 are known. Jets of Run 2 are clustered after charged-hadron subtraction, those of Run 3,
and those of radius 0.8, from candidates scaled by their PUPPI weight; with this, the candidates of a jet sum up to its
raw momentum. What a branch gives as it is stands in the table of columns, as their source of the format NanoAOD.

What only some forms have is optional: the association of the candidates to vertices (CMSSW's form has none), their
PUPPI weights (there, they are in the momenta already), and what the generator knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from ..errors import InputError
from ..jets.columns import (
    GENERATOR,
    JETS,
    OF_VERTICES,
    PARTICLES,
    VERTICES,
    WITH_NEUTRINOS,
    Candidates,
    Column,
    necessary,
    particle_columns,
)
from ..jets.ragged import offsets_of, owners
from .event_reader import EventReader, cloud_of, flat

__all__ = ["AK4", "AK8", "TREE", "NanoAOD", "raw_share"]

TREE = "Events"
AK4, AK8 = "Jet", "FatJet"
"""Collections of jets; files of the JME group have more."""

_GEN_JETS = {AK8: ("GenJetAK8", "genJetAK8Idx")}
"""The table of generator jets and the index of a jet's own, where it is not that of the AK4 jets."""
_RADIUS = {AK8: 0.8}
"""Of jets, where it is not 0.4."""
_GEN_PARTICLES = tuple(f"GenPart_{name}" for name in ("pt", "eta", "phi", "pdgId", "status"))
_BEAMS = ("LHEPart_incomingpz", "Generator_x1")
"""What tells the energy of the beams: the momentum of a parton, and its share of that of the proton."""
_RHO = ("fixedGridRhoFastjetAll", "Rho_fixedGridRhoFastjetAll")
_LINKS = (("{}PFCands", "PFCands"), ("{}PFCand", "PFCand"))
"""Tables that link jets to candidates, and the tables of candidates: PFNano and BTVNano, CMSSW."""
_LINKS_BEFORE = {AK4: ("JetPFCandsAK4", "PFCands"), AK8: ("JetPFCandsAK8", "PFCands")}
"""Those of the first versions of PFNano."""
_INDEX = re.compile(r"(pf)?cands?idx", re.IGNORECASE)
"""The index of the candidate in the tables of links: pFCandsIdx, pfCandIdx, pfCandsIdx, candIdx."""
_MOMENTUM = ("pt", "eta", "phi", "mass")
_CANDIDATE = (*_MOMENTUM, "pdgId")
_CANDIDATES = particle_columns("open")
_COMPUTED = ("jetRawPt", "jetRawMass", "rhoAll", "jetPtOrder")


class NanoAOD(EventReader):
    """An open NanoAOD file.

    Parameters
    ----------
    path
        For messages.
    tree
        Its tree `TREE`.
    collection
        Which of its jets: `AK4`, `AK8`, or another of the file's.

    Raises
    ------
    InputError
        If a necessary branch is missing.
    """

    format = "NanoAOD"

    def __init__(self, path: str, tree: uproot.TTree, collection: str = AK4) -> None:
        self.path, self.tree, self.entries, self.collection = path, tree, tree.num_entries, collection
        self._look_for(set(tree.keys(recursive=False)))

    @classmethod
    def of_events(cls, events: ak.Array, collection: str = AK4) -> NanoAOD:
        """A reader of events that coffea has loaded already, for `convert`; it has no file.

        Raises
        ------
        InputError
            If a necessary column is missing.
        """
        self = cls.__new__(cls)
        self.path, self.tree, self.entries, self.collection = "the events", None, len(events), collection
        names = set(events.fields)
        sources = {column.sources.get(cls.format, "").partition("_")[0] for column in JETS.values()}
        tables = [table for link in self._links() for table in link]
        for name in names & {self._generator_jets()[0], "Rho", "SV", collection, *tables, *sources}:
            columns = ak.fields(events[name])
            names |= {f"n{name}"} | {f"{name}_{column}" for column in columns}
        self._look_for(names)
        return self

    def _links(self) -> list[tuple[str, str]]:
        """Where the candidates of the jets may be: tables of links and of candidates."""
        links = [(link.format(self.collection), table) for link, table in _LINKS]
        return links + [before for name, before in _LINKS_BEFORE.items() if name == self.collection]

    @property
    def radius(self) -> float:
        """Of the jets, within which generated particles and secondary vertices are theirs."""
        return _RADIUS.get(self.collection, 0.4)

    def _generator_jets(self) -> tuple[str, str]:
        return _GEN_JETS.get(self.collection, ("GenJet", "genJetIdx"))

    def _source(self, column: Column) -> str:
        """The branch that gives a column of the jets as it is; the table of columns names those of `AK4`."""
        source = column.sources.get(self.format, "")
        return f"{self.collection}_{source.removeprefix(f'{AK4}_')}" if source.startswith(f"{AK4}_") else source

    def _look_for(self, names: set[str]) -> None:
        """Find out from the branches which of the known forms this is."""
        jet = self.collection
        rho = [name for name in _RHO if name in names]
        present = names | ({f"{jet}_rawFactor"} if f"{jet}_pt_raw" in names else set())
        needed = [source for name in necessary(JETS) if (source := self._source(JETS[name]))]
        needed += [f"n{jet}", f"{jet}_rawFactor"]
        missing = [name for name in needed if name not in present] + ([] if rho else [" or ".join(_RHO)])
        if missing:
            raise InputError(f"{self.path}: tree {TREE} lacks the necessary branches {', '.join(missing)}")
        self.rho = rho[0]
        self.link = self._find_link(names)
        table, index = self._generator_jets()
        generator = [f"{jet}_{index}", *(f"{table}_{name}" for name in _MOMENTUM)]
        with_generator = set(generator) <= names
        self.sources = {
            name: source
            for name, column in JETS.items()
            if (source := self._source(column)) in names and (with_generator or name not in GENERATOR)
        }
        self.particle_sources: dict[str, str] = {}
        columns = {*self.sources, *_COMPUTED, *_CANDIDATES}
        columns |= {f"genJet{name.capitalize()}" for name in _MOMENTUM} if with_generator else set()
        columns |= {WITH_NEUTRINOS} if with_generator and set(_GEN_PARTICLES) <= names else set()
        self.vertex, self.weighted = "", False
        candidate = (*_CANDIDATE, "fromPV", "pvAssocQuality", "puppiWeight")
        self.branches = names & {*needed, *generator, *self.sources.values(), f"{jet}_pt_raw", f"n{table}", self.rho}
        if self.link is not None:
            link, table, index = self.link
            self._check_candidates(names)
            if not self.vertex:
                columns.remove("PF_fromPV")
            self.particle_sources = {
                name: source
                for name, column in PARTICLES.items()
                if f"{table}_{(source := column.sources.get(self.format))}" in names
            }
            candidate += tuple(self.particle_sources.values())
            self.branches |= names & {
                f"n{link}", f"n{table}", f"{link}_jetIdx", f"{link}_{index}", *(f"{table}_{name}" for name in candidate)
            }  # fmt: skip
        self.columns = frozenset(columns | set(self.particle_sources))
        self.has_vertices = self.link is not None and names >= set(VERTICES)
        self.branches |= set(VERTICES) if self.has_vertices else set()
        self.beams = set(_BEAMS) <= names

    def _find_link(self, names: set[str]) -> tuple[str, str, str] | None:
        """The table that links jets to candidates, the table of these, and the index of a candidate."""
        for link, table in self._links():
            if f"{link}_jetIdx" in names:
                columns = [name.removeprefix(f"{link}_") for name in names if name.startswith(f"{link}_")]
                found = [name for name in columns if _INDEX.fullmatch(name)]
                if not found:
                    raise InputError(f"{self.path}: has {link}_jetIdx, but not the index of the candidates, pfCandIdx")
                return link, table, min(found)
        return None

    def _check_candidates(self, names: set[str]) -> None:
        link, table, _ = self.link
        missing = [name for name in (f"n{link}", *(f"{table}_{name}" for name in _CANDIDATE)) if name not in names]
        if missing:
            raise InputError(f"{self.path}: has {link}_jetIdx, but lacks the necessary branches {', '.join(missing)}")
        self.vertex = next((name for name in ("fromPV", "pvAssocQuality") if f"{table}_{name}" in names), "")
        # Run 3 names go with PUPPI jets; files without the weight have it in the candidates' pt and mass already
        lower = self.collection.lower()
        self.puppi_jets = "chs" not in lower and (self.rho == _RHO[1] or self.collection == AK8 or "puppi" in lower)
        self.weighted = self.puppi_jets and f"{table}_puppiWeight" in names

    @property
    def remarks(self) -> tuple[str, ...]:
        """That the momenta are taken to have the PUPPI weights in them, where the file has none."""
        if self.link is None or self.weighted or not self.puppi_jets:
            return ()
        return ("puppiWeight not in the file: the candidates' pt and mass are taken to have it in them",)

    def columns_of(self, events: ak.Array) -> dict[tuple[str, ...], ak.Array]:
        """The columns that `convert` reads, by collection and name, those of the event by their name."""
        found = {}
        for branch in sorted(self.branches):
            collection, _, name = branch.partition("_")
            if branch in events.fields:
                found[(branch,)] = events[branch]
            elif collection in events.fields and name in events[collection].fields:
                found[collection, name] = events[collection][name]
        return found

    @property
    def made_by(self) -> str:
        """What made the jets, for figures."""
        return f"CMS {'Simulation' if self.has_generator else 'data'} (NanoAOD)"

    @property
    def energy(self) -> str:
        """The energy of the collisions, where the generator's partons tell it."""
        if not (self.beams and self.entries):
            return ""
        momentum, share = (self.tree[name].array(entry_stop=100) for name in _BEAMS)
        known = ak.num(momentum) > 0
        if not ak.any(known):
            return ""
        energy = 2 * np.median(np.abs(ak.to_numpy(momentum[known][:, 0])) / ak.to_numpy(share[known]))
        return f"{round(energy / 100) / 10:g} TeV"

    @cached_property
    def jets(self) -> int:
        """The number of jets."""
        return int(np.sum(self.tree[f"n{self.collection}"].array(library="np"), dtype=np.int64))

    @property
    def has_candidates(self) -> bool:
        """Whether the jets have particles."""
        return self.link is not None

    def chunks(
        self, step: int | str, names: Sequence[str], particles: Sequence[str], candidates: Candidates, start: int,
        stop: int,
    ) -> Iterator[tuple[dict[str, NDArray], ak.Array]]:  # fmt: skip
        """See `JetReader.chunks`; only candidates that were clustered into a jet are linked to it."""
        size = self.entries_of(step)
        for first in range(start, stop, size):
            also = _GEN_PARTICLES if WITH_NEUTRINOS in names else ()
            events = self._load(first, min(first + size, stop), also)
            yield self._record(events, vertices="vertices" in names)

    def convert(
        self, events: ak.Array, scalars: Sequence[str] | None = None, particles: Sequence[str] | None = None
    ) -> ak.Array:
        """The jets of some events, flat over the events, `(B,)`; columns as in `iterate`."""
        wanted = self._wanted(scalars, particles)
        vertices = self.has_vertices and any(name.startswith(OF_VERTICES) for name in wanted[1])
        return self.complete(*self._record(events, vertices=vertices), *wanted)

    def _load(self, start: int, stop: int, also: Sequence[str] = ()) -> ak.Array:
        """Events with their collections, as coffea's NanoEvents gives them."""
        names = [name for name in sorted({*self.branches, *also}) if not name.startswith("n")]
        if isinstance(self.tree, uproot.behaviors.RNTuple.RNTuple):  # together they take seconds to be found
            events = {name: self.tree[name].array(entry_start=start, entry_stop=stop) for name in names}
        else:
            events = self.tree.arrays(names, entry_start=start, entry_stop=stop)
        fields: dict[str, ak.Array] = {}
        collections: dict[str, dict[str, ak.Array]] = {}
        for branch in names:
            collection, mark, name = branch.partition("_")
            if mark:
                collections.setdefault(collection, {})[name] = events[branch]
            else:
                fields[branch] = events[branch]
        return ak.zip({name: ak.zip(columns) for name, columns in collections.items()} | fields, depth_limit=1)

    @np.errstate(invalid="ignore", over="ignore")  # damaged values are named by `selection`
    def _record(self, events: ak.Array, *, vertices: bool = False) -> tuple[dict[str, NDArray], ak.Array]:
        """The columns of the jets, flat over the events, with their ``vertices`` if asked for; and their candidates."""
        jets = events[self.collection]
        event = owners(offsets_of(ak.to_numpy(ak.num(jets["pt"]))))

        def column(branch: str) -> NDArray:
            collection, _, name = branch.partition("_")
            if collection == self.collection:
                return flat(jets[name])
            return ak.to_numpy(events[branch] if branch in events.fields else events[collection][name])[event]

        record = {name: column(branch) for name, branch in self.sources.items()}
        raw = flat(raw_share(jets))
        record |= {
            "rhoAll": column(self.rho), "jetRawPt": record["jetPt"] * raw, "jetRawMass": record["jetMass"] * raw,
            "jetPtOrder": flat(ak.argsort(ak.argsort(jets["pt"], ascending=False))),
        }  # fmt: skip
        if self.has_generator:
            record |= self._generator(events, jets)
        if vertices:
            record["vertices"] = self._vertices(events, jets)
        return record, self._particles(events, record)

    def _vertices(self, events: ak.Array, jets: ak.Array) -> ak.Array:
        """The secondary vertices within the radius of each jet, `(B, var)`, as files of the simulation have them."""
        found = ak.zip({name: events["SV"][name.removeprefix("SV_")] for name in VERTICES})
        near, mine = ak.unzip(ak.cartesian({"jet": jets[["eta", "phi"]], "vertex": found}, nested=True))
        turn = (near["phi"] - mine["SV_phi"] + np.pi) % (2 * np.pi) - np.pi
        inside = ak.flatten(mine[np.hypot(near["eta"] - mine["SV_eta"], turn) < self.radius], axis=1)
        return ak.zip({name: ak.values_astype(inside[name], dtype) for name, dtype in VERTICES.items()})

    def _generator(self, events: ak.Array, jets: ak.Array) -> dict[str, NDArray]:
        """The matched generator jets; zeros without a match, as in a JetNTuple."""
        table, own = self._generator_jets()
        gen = events[table]
        counts = ak.to_numpy(ak.num(gen["pt"]))
        first = np.repeat(np.cumsum(counts) - counts, ak.to_numpy(ak.num(jets["pt"])))
        index = flat(jets[own]).astype(np.int64)
        limit = np.repeat(counts, ak.to_numpy(ak.num(jets["pt"])))
        matched = (index >= 0) & (index < limit)  # a generator jet below the file's threshold is not stored
        place = np.where(matched, first + index, -1)
        columns = {f"genJet{name.capitalize()}": flat(gen[name]) for name in _MOMENTUM}
        if "GenPart" in events.fields:
            columns[WITH_NEUTRINOS] = flat(_with_neutrinos(gen, events["GenPart"], self.radius))
        return {name: np.where(matched, np.append(values, 0)[place], 0) for name, values in columns.items()}

    def _particles(self, events: ak.Array, record: dict[str, NDArray]) -> ak.Array:
        """The candidates of each jet, attached by index, in the columns of a JetNTuple."""
        if self.link is None:
            owner, columns = np.zeros(0, np.int64), {name: np.zeros(0) for name in _CANDIDATES}
        else:
            owner, rows = self._attach(events)
            columns = self._columns(events[self.link[1]], owner, rows, record)
        return cloud_of(columns, owner, len(record["jetPt"]))

    def _attach(self, events: ak.Array) -> tuple[NDArray, NDArray]:
        """The jet and the candidate of each link, `(n,)`, counted over all events of the chunk, sorted by jet."""
        link, table, index = self.link
        counts = {name: ak.to_numpy(ak.num(events[name][column])) for name, column in
                  ((self.collection, "pt"), (table, "pt"), (link, "jetIdx"))}  # fmt: skip
        event = np.repeat(np.arange(len(events)), counts[link])
        place = {}
        for name, column in ((self.collection, "jetIdx"), (table, index)):
            local = flat(events[link][column]).astype(np.int64)
            if (local >= counts[name][event]).any():
                hint = "" if self.tree else "; give all jets of an event in the order of its file"
                raise InputError(f"{self.path}: {link}_{column} points beyond the last entry of {name}{hint}")
            place[name] = np.where(local < 0, -1, local + (np.cumsum(counts[name]) - counts[name])[event])
        linked = (place[self.collection] >= 0) & (place[table] >= 0)
        owner, rows = place[self.collection][linked], place[table][linked]
        order = np.argsort(owner, kind="stable")
        return owner[order], rows[order]

    def _columns(self, table: ak.Array, owner: NDArray, rows: NDArray, record: dict[str, NDArray]) -> dict:
        candidate = {name: flat(table[name])[rows] for name in _CANDIDATE}
        weight = flat(table["puppiWeight"])[rows] if self.weighted else np.ones(len(rows), dtype=np.float32)
        phi = candidate["phi"] - record["jetPhi"][owner]
        vertex = {self.vertex: flat(table[self.vertex])[rows]} if self.vertex else {}
        if "pvAssocQuality" in vertex:
            vertex = {"fromPV": _from_pv(vertex["pvAssocQuality"], candidate["pdgId"])}
        return {
            "PF_pT": candidate["pt"] * weight, "PF_dEta": candidate["eta"] - record["jetEta"][owner],
            "PF_dPhi": (phi + np.pi) % (2 * np.pi) - np.pi, "PF_mass": candidate["mass"] * weight,
            "PF_id": candidate["pdgId"],
            **{f"PF_{name}": values for name, values in vertex.items()},
            "PF_fromAK4Jet": np.ones(len(rows)),
            **{name: flat(table[source])[rows] for name, source in self.particle_sources.items()},
        }  # fmt: skip


def raw_share(jets: ak.Array) -> ak.Array:
    """Raw over corrected pt: from ``pt_raw`` where jets have it, else from ``rawFactor``.

    coffea's CorrectedJetsFactory gives jets a new pt and a pt_raw, and leaves them the raw factor of the old pt. The
    candidates tell whether the raw pt is true, see `belonging`.
    """
    return jets["pt_raw"] / jets["pt"] if "pt_raw" in jets.fields else 1 - jets["rawFactor"]


def _with_neutrinos(jets: ak.Array, particles: ak.Array, radius: float) -> ak.Array:
    """The pt of generator jets `(E, var)` together with the stable neutrinos that are within their radius."""
    kind = abs(particles["pdgId"])
    neutrinos = particles[(particles["status"] == 1) & ((kind == 12) | (kind == 14) | (kind == 16))]
    pairs = ak.cartesian({"jet": jets[["eta", "phi"]], "nu": neutrinos[["pt", "eta", "phi"]]}, nested=True)
    phi = (pairs["jet", "phi"] - pairs["nu", "phi"] + np.pi) % (2 * np.pi) - np.pi
    near = np.hypot(pairs["jet", "eta"] - pairs["nu", "eta"], phi) < radius
    added = {
        name: ak.sum(ak.where(near, pairs["nu", "pt"] * function(pairs["nu", "phi"]), 0), axis=-1)
        for name, function in (("x", np.cos), ("y", np.sin))
    }
    return np.hypot(jets["pt"] * np.cos(jets["phi"]) + added["x"], jets["pt"] * np.sin(jets["phi"]) + added["y"])


def _from_pv(quality: NDArray, pdg: NDArray) -> NDArray[np.int32]:
    """CMS's fromPV from the quality of the vertex association.

    `pat::PackedCandidate::fromPV` gives 3 for candidates used in the fit of the primary vertex (quality 7), 2 for
    others of this vertex and for leptons, 1 for those that are only close to another one (quality below 4 here).
    NanoAOD does not tell to which vertex a quality belongs; candidates in jets after charged-hadron subtraction were
    not used in the fit of another one.
    """
    lepton = np.isin(np.abs(pdg), (11, 13))
    return np.where(quality == 7, 3, np.where((quality >= 4) | lepton, 2, 1)).astype(np.int32)

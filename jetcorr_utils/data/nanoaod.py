"""Reader of CMS NanoAOD with particle-flow candidates (PFNano, BTVNano, JMENano): one entry an event.

coffea's NanoEvents loads the columns that are asked for; candidates are attached to their jets by the stored indices.
The names of Run 2 and of Run 3 are known. Jets of Run 2 are clustered after charged-hadron subtraction, those of Run 3
from candidates scaled by their PUPPI weight; with this, the candidates of a jet sum up to its raw momentum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, cached_property

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from ..errors import InputError
from .quark_gluon import quark_gluon
from .schema import CORE, GENERATOR, JET_TYPES, PARTICLE_TYPES, PARTICLES, Candidates

__all__ = ["TREE", "NanoAOD", "raw_share"]

TREE = "Events"

_NECESSARY = ("run", "luminosityBlock", "event", "nJet", "Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass", "Jet_area",
              "Jet_rawFactor", "PV_npvsGood")  # fmt: skip
_GENERATOR = ("GenJet_pt", "GenJet_eta", "GenJet_phi", "GenJet_mass", "Jet_genJetIdx", "Jet_hadronFlavour",
              "Jet_partonFlavour")  # fmt: skip
_RHO = ("fixedGridRhoFastjetAll", "Rho_fixedGridRhoFastjetAll")
_LINKS = (("JetPFCands", "PFCands", "pFCandsIdx"), ("JetPFCand", "PFCand", "pfCandIdx"))
"""Tables that link jets to candidates, the tables of candidates, and the index of the candidate: PFNano, newer."""
_CANDIDATE = ("pt", "eta", "phi", "mass", "pdgId")
_JETS_AN_EVENT = 5


class NanoAOD:
    """An open NanoAOD file.

    Parameters
    ----------
    path
        For messages.
    tree
        Its tree `TREE`.

    Raises
    ------
    InputError
        If a necessary branch is missing.
    """

    format = "NanoAOD"

    def __init__(self, path: str, tree: uproot.TTree) -> None:
        self.path, self.tree = path, tree
        self._look_for(set(tree.keys(recursive=False)))

    @classmethod
    def of_events(cls, events: ak.Array) -> NanoAOD:
        """A reader of events that coffea has loaded already, for `convert`; it has no file.

        Raises
        ------
        InputError
            If a necessary column is missing.
        """
        self = cls.__new__(cls)
        self.path, self.tree = "the events", None
        names = set(events.fields)
        for name in names & {"Jet", "GenJet", "PV", "Rho", *_LINKS[0][:2], *_LINKS[1][:2]}:
            columns = ak.fields(events[name])
            names |= {f"n{name}"} | {f"{name}_{column}" for column in columns}
        self._look_for(names)
        return self

    def _look_for(self, names: set[str]) -> None:
        """Find out from the branches which of the known forms this is."""
        path = self.path
        rho = [name for name in _RHO if name in names]
        present = names | ({"Jet_rawFactor"} if "Jet_pt_raw" in names else set())
        missing = [name for name in _NECESSARY if name not in present] + ([] if rho else [" or ".join(_RHO)])
        if missing:
            raise InputError(f"{path}: tree {TREE} lacks the necessary branches {', '.join(missing)}")
        self.rho = rho[0]
        self.link = next((link for link in _LINKS if f"{link[0]}_jetIdx" in names), None)
        if self.link is not None:
            self._check_candidates(names)
        self.has_generator = set(_GENERATOR) <= names
        self.has_weight = "genWeight" in names
        self.filled = tuple(
            name
            for name in CORE
            if name.startswith("QG_")
            or (name == "eventWeight" and not self.has_weight)
            or (name in GENERATOR and not self.has_generator)
        )

    def _check_candidates(self, names: set[str]) -> None:
        link, table, index = self.link
        needed = [f"n{link}", f"{link}_{index}", *(f"{table}_{name}" for name in _CANDIDATE)]
        missing = [name for name in needed if name not in names]
        if not {f"{table}_fromPV", f"{table}_pvAssocQuality"} & names:
            missing.append(f"{table}_fromPV or {table}_pvAssocQuality")
        if missing:
            raise InputError(f"{self.path}: has {link}_jetIdx, but lacks the necessary branches {', '.join(missing)}")
        self.from_pv = f"{table}_fromPV" in names
        # Run 3 names go with PUPPI jets; files without the weight have it in the candidates' pt and mass already
        self.puppi = self.rho == _RHO[1] and f"{table}_puppiWeight" in names

    def columns_of(self, events: ak.Array) -> dict[tuple[str, ...], ak.Array]:
        """The columns that `convert` reads, by collection and name, those of the event by their name."""
        names = {
            "Jet": ("pt", "eta", "phi", "mass", "area", "rawFactor", "pt_raw", "genJetIdx", "hadronFlavour",
                    "partonFlavour"),
            "GenJet": ("pt", "eta", "phi", "mass") if self.has_generator else (),
            "PV": ("npvsGood",), "Rho": ("fixedGridRhoFastjetAll",),
        }  # fmt: skip
        if self.link is not None:
            link, table, index = self.link
            names |= {link: ("jetIdx", index), table: (*_CANDIDATE, "fromPV", "pvAssocQuality", "puppiWeight")}
        found = {
            (collection, name): events[collection][name]
            for collection, columns in names.items()
            if collection in events.fields
            for name in columns
            if name in events[collection].fields
        }
        own = ("run", "luminosityBlock", "event", "genWeight", self.rho)
        return found | {(name,): events[name] for name in own if name in events.fields}

    @property
    def made_by(self) -> str:
        """What made the jets, for figures."""
        return f"NanoAOD {'simulation' if self.has_generator else 'data'}"

    @cached_property
    def jets(self) -> int:
        """The number of jets."""
        return int(np.sum(self.tree["nJet"].array(library="np"), dtype=np.int64))

    @property
    def has_candidates(self) -> bool:
        """Whether the jets have particles."""
        return self.link is not None

    @property
    def has_rich(self) -> bool:
        """Whether the calorimeter fractions are there: NanoAOD never has them."""
        return False

    def iterate(
        self,
        step: int | str,
        scalars: Sequence[str] | None = None,
        particles: Sequence[str] | None = None,
        candidates: Candidates = "window",
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[ak.Array]:
        """Yield the jets in their order, those without candidates with an empty list.

        Parameters
        ----------
        step
            About so many jets at once, or a size such as "50 MB".
        scalars, particles
            Columns to give; default: all.
        candidates
            NanoAOD links only those that were clustered into a jet, so both give the same.
        start, stop
            Range of the events; default: all.
        """
        size, stop = self._events(step), self.tree.num_entries if stop is None else stop
        for first in range(start, stop, size):
            yield self.convert(self._load(first, min(first + size, stop)), scalars, particles)

    def convert(
        self, events: ak.Array, scalars: Sequence[str] | None = None, particles: Sequence[str] | None = None
    ) -> ak.Array:
        """The jets of some events, flat over the events, `(B,)`; columns as in `iterate`."""
        scalars = CORE if scalars is None else scalars
        particles = PARTICLES if particles is None else [name for name in particles if name in PARTICLES]
        unknown = [name for name in scalars if name not in CORE]
        if unknown:
            raise InputError(f"{self.path}: {', '.join(unknown)}: NanoAOD has only {', '.join(CORE)}")
        record = self._scalars(events)
        cloud = self._particles(events, record)
        record |= quark_gluon(cloud) if any(name.startswith("QG_") for name in scalars) else {}
        columns = {name: record[name].astype(JET_TYPES[name], copy=False) for name in scalars}
        return ak.zip({**columns, "particles": cloud[list(particles)]}, depth_limit=1)

    def ranges(self, step: int | str) -> list[tuple[int, int]]:
        """Ranges of events of about `step` jets that together are all, for `iterate`."""
        size, events = self._events(step), self.tree.num_entries
        return [(start, min(start + size, events)) for start in range(0, events, size)]

    def _events(self, step: int | str) -> int:
        """The number of events of about `step` jets."""
        if isinstance(step, int):
            return max(1, step // _JETS_AN_EVENT)
        return max(1, self.tree.num_entries_for(step, filter_name=self.branches))

    @cached_property
    def branches(self) -> list[str]:
        """The branches that are read."""
        link, table, index = self.link or _LINKS[0]
        columns = (*_CANDIDATE, "fromPV", "pvAssocQuality", "puppiWeight")
        wanted = {*_NECESSARY, *_GENERATOR, "Jet_pt_raw", "nGenJet", "genWeight", self.rho, f"n{link}", f"n{table}",
                  f"{link}_jetIdx", f"{link}_{index}", *(f"{table}_{name}" for name in columns)}  # fmt: skip
        return sorted(wanted & set(self.tree.keys(recursive=False)))

    def _load(self, start: int, stop: int) -> ak.Array:
        from coffea.nanoevents import NanoEventsFactory  # takes seconds to import

        return NanoEventsFactory.from_root(
            self.tree.file.root_directory, treepath=TREE, entry_start=start, entry_stop=stop,
            schemaclass=_plain_schema(), iteritems_options={"filter_name": self.branches}, mode="virtual",
        ).events()  # fmt: skip

    def _scalars(self, events: ak.Array) -> dict[str, NDArray]:
        """The columns of the jets, flat over the events."""
        jets = events["Jet"]
        counts = ak.to_numpy(ak.num(jets["pt"]))
        event = np.repeat(np.arange(len(counts)), counts)

        def of_event(values: ak.Array) -> NDArray:
            return ak.to_numpy(values)[event]

        rho = events[self.rho] if self.rho in events.fields else events["Rho"]["fixedGridRhoFastjetAll"]
        column = {name: _flat(jets[name]) for name in ("pt", "eta", "phi", "mass", "area")}
        raw = _flat(raw_share(jets))
        record = {
            "run": of_event(events["run"]), "lumi": of_event(events["luminosityBlock"]),
            "event": of_event(events["event"]), "rhoAll": of_event(rho),
            "PV_npvsGood": of_event(events["PV"]["npvsGood"]),
            "eventWeight": of_event(events["genWeight"]) if self.has_weight else np.ones(len(event)),
            "jetPt": column["pt"], "jetEta": column["eta"], "jetPhi": column["phi"], "jetMass": column["mass"],
            "jetArea": column["area"], "jetRawPt": column["pt"] * raw, "jetRawMass": column["mass"] * raw,
            "jetPtOrder": _flat(ak.argsort(ak.argsort(jets["pt"], ascending=False))),
        }  # fmt: skip
        return record | self._generator(events, jets, len(event))

    def _generator(self, events: ak.Array, jets: ak.Array, size: int) -> dict[str, NDArray]:
        """The matched generator jets and the flavours; zeros without a match, as in a JetNTuple."""
        if not self.has_generator:
            return {name: np.zeros(size) for name in GENERATOR}
        gen = events["GenJet"]
        counts = ak.to_numpy(ak.num(gen["pt"]))
        first = np.repeat(np.cumsum(counts) - counts, ak.to_numpy(ak.num(jets["pt"])))
        index = _flat(jets["genJetIdx"]).astype(np.int64)
        limit = np.repeat(counts, ak.to_numpy(ak.num(jets["pt"])))
        matched = (index >= 0) & (index < limit)  # a generator jet below the file's threshold is not stored
        place = np.where(matched, first + index, -1)
        record = {
            f"genJet{name.capitalize()}": np.where(matched, np.append(_flat(gen[name]), 0)[place], 0)
            for name in ("pt", "eta", "phi", "mass")
        }
        record["hadronFlav"], record["partonFlav"] = _flat(jets["hadronFlavour"]), _flat(jets["partonFlavour"])
        return record

    def _particles(self, events: ak.Array, record: dict[str, NDArray]) -> ak.Array:
        """The candidates of each jet, attached by index, in the columns of a JetNTuple."""
        jets = len(record["jetPt"])
        if self.link is None:
            owner, rows, columns = np.zeros(0, np.int64), np.zeros(0, np.int64), {}
            columns = {name: np.zeros(0, dtype=PARTICLE_TYPES[name]) for name in PARTICLES}
        else:
            owner, rows = self._attach(events)
            columns = self._columns(events[self.link[1]], owner, rows, record)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=jets))]).astype(np.int64)
        contents = [
            ak.contents.NumpyArray(columns[name].astype(PARTICLE_TYPES[name], copy=False)) for name in PARTICLES
        ]
        record_array = ak.contents.RecordArray(contents, list(PARTICLES))
        return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record_array))

    def _attach(self, events: ak.Array) -> tuple[NDArray, NDArray]:
        """The jet and the candidate of each link, `(n,)`, counted over all events of the chunk, sorted by jet."""
        link, table, index = self.link
        counts = {name: ak.to_numpy(ak.num(events[name][column])) for name, column in
                  (("Jet", "pt"), (table, "pt"), (link, "jetIdx"))}  # fmt: skip
        event = np.repeat(np.arange(len(events)), counts[link])
        place = {}
        for name, column in (("Jet", "jetIdx"), (table, index)):
            local = _flat(events[link][column]).astype(np.int64)
            if (local >= counts[name][event]).any():
                hint = "" if self.tree else "; give all jets of an event in the order of its file"
                raise InputError(f"{self.path}: {link}_{column} points beyond the last entry of {name}{hint}")
            place[name] = np.where(local < 0, -1, local + (np.cumsum(counts[name]) - counts[name])[event])
        linked = (place["Jet"] >= 0) & (place[table] >= 0)
        owner, rows = place["Jet"][linked], place[table][linked]
        order = np.argsort(owner, kind="stable")
        return owner[order], rows[order]

    def _columns(self, table: ak.Array, owner: NDArray, rows: NDArray, record: dict[str, NDArray]) -> dict:
        candidate = {name: _flat(table[name])[rows] for name in _CANDIDATE}
        weight = _flat(table["puppiWeight"])[rows] if self.puppi else np.ones(len(rows), dtype=np.float32)
        phi = candidate["phi"] - record["jetPhi"][owner]
        quality = None if self.from_pv else _flat(table["pvAssocQuality"])[rows]
        return {
            "PF_pT": candidate["pt"] * weight,
            "PF_dEta": candidate["eta"] - record["jetEta"][owner],
            "PF_dPhi": (phi + np.pi) % (2 * np.pi) - np.pi,
            "PF_mass": candidate["mass"] * weight,
            "PF_id": candidate["pdgId"],
            "PF_fromPV": _flat(table["fromPV"])[rows] if self.from_pv else _from_pv(quality, candidate["pdgId"]),
            "PF_fromAK4Jet": np.ones(len(rows)),
        }


def raw_share(jets: ak.Array) -> ak.Array:
    """Raw over corrected pt: from ``pt_raw`` where jets have it, else from ``rawFactor``.

    coffea's CorrectedJetsFactory gives jets a new pt and a pt_raw, and leaves them the raw factor of the old pt. The
    candidates tell whether the raw pt is true, see `belonging`.
    """
    return jets["pt_raw"] / jets["pt"] if "pt_raw" in jets.fields else 1 - jets["rawFactor"]


@cache
def _plain_schema() -> type:
    """NanoAOD as collections of columns: without cross references and methods, which need branches not used here."""
    from coffea.nanoevents import NanoAODSchema

    class PlainSchema(NanoAODSchema):
        """Collections of columns only."""

        mixins = dict.fromkeys(NanoAODSchema.mixins, "NanoCollection")
        all_cross_references: dict = {}  # noqa: RUF012
        full_like_items: dict = {}  # noqa: RUF012
        warn_missing_crossrefs = False

    return PlainSchema


def _flat(values: ak.Array) -> NDArray:
    return ak.to_numpy(ak.flatten(values, axis=None))


def _from_pv(quality: NDArray, pdg: NDArray) -> NDArray[np.int32]:
    """CMS's fromPV from the quality of the vertex association.

    `pat::PackedCandidate::fromPV` gives 3 for candidates used in the fit of the primary vertex (quality 7), 2 for
    others of this vertex and for leptons, 1 for those that are only close to another one (quality below 4 here).
    NanoAOD does not tell to which vertex a quality belongs; candidates in jets after charged-hadron subtraction were
    not used in the fit of another one.
    """
    lepton = np.isin(np.abs(pdg), (11, 13))
    return np.where(quality == 7, 3, np.where((quality >= 4) | lepton, 2, 1)).astype(np.int32)

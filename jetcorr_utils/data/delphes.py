"""Reader of Delphes trees, one entry an event: jets with the particle-flow candidates that they refer to.

Delphes (J. de Favereau et al., JHEP 02 (2014) 057, arXiv:1307.6346) is what the field outside the experiments simulates
with. Its jets hold references (TRefArray) to their constituents, which are known by their fUniqueID. Candidates are
those of the branch ParticleFlowCandidate, as the cards of CMS's upgrade write it. What Delphes does not have is made:

- jetRawPt is that of the sum of the constituents; Delphes' jets may be scaled (JetEnergyScale);
- the generator jet of a jet is the closest one within 0.2 in (eta, phi);
- rhoAll is rho in the jet's range of abs(eta), PV_npvsGood the number of vertices, run and lumi are 1;
- charged candidates are electrons, muons, or hadrons, neutral ones photons, or hadrons if they have hadronic energy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from ..errors import InputError
from ..jets.columns import Candidates
from ..jets.ragged import offsets_of, owners
from .event_reader import EventReader, cloud_of, flat

__all__ = ["TREE", "Delphes"]

TREE = "Delphes"

_DEFAULT = "Jet"
_COLLECTIONS = ("JetPUPPI", "Jet")
"""What is read if no other collection is asked for: the first that there is."""
_JET = ("PT", "Eta", "Phi", "Mass", "Constituents")
_GEN = ("PT", "Eta", "Phi", "Mass")
_CANDIDATE = ("fUniqueID", "PT", "Eta", "Phi", "Mass", "PID", "Charge", "Ehad")
_CANDIDATES, _RHO, _VERTEX, _GEN_JETS, _EVENT = "ParticleFlowCandidate", "Rho", "Vertex", "GenJet", "Event"
_MATCH = 0.2
_PAIRS, _PAIRS_A_JET = 1_000_000, 100
"""Pairs of a jet and a generator jet that a chunk may have, in all and for each jet: they are in memory at once."""


class Delphes(EventReader):
    """An open file of Delphes.

    Parameters
    ----------
    path
        For messages.
    tree
        Its tree `TREE`.
    collection
        Which of its jets; by default those of JetPUPPI, or else of Jet.

    Raises
    ------
    InputError
        If a necessary branch is missing.
    """

    format = "Delphes"

    def __init__(self, path: str, tree: uproot.TTree, collection: str = _DEFAULT) -> None:
        self.path, self.tree, self.entries = path, tree, tree.num_entries
        names = set(tree.keys(full_paths=False))
        there = [name for name in _COLLECTIONS if f"{name}.PT" in names]
        self.collection = there[0] if collection == _DEFAULT and there else collection
        needed = [
            *(f"{self.collection}.{name}" for name in _JET), *(f"{_CANDIDATES}.{name}" for name in _CANDIDATE),
            f"{_EVENT}.Number", f"{_RHO}.Rho",
        ]  # fmt: skip
        if missing := [name for name in needed if name not in names]:
            raise InputError(f"{path}: tree {TREE} lacks the necessary branches {', '.join(missing)}")
        generator = [f"{_GEN_JETS}.{name}" for name in _GEN]
        optional = {
            *generator, f"{self.collection}.Area", f"{self.collection}.Flavor", f"{_RHO}.Edges[2]", f"{_VERTEX}.Index",
            f"{_EVENT}.Weight",
        }  # fmt: skip
        self.branches = sorted({*needed, *(optional & names)})
        self.has_vertices = f"{_VERTEX}.Index" in names
        columns = {
            "jetPt", "jetEta", "jetPhi", "jetMass", "jetRawPt", "jetArea", "rhoAll", "jetPtOrder", "run",
            "lumi", "event", "PV_npvsGood", "PF_pT", "PF_dEta", "PF_dPhi", "PF_mass", "PF_id", "PF_fromAK4Jet",
        }  # fmt: skip
        if set(generator) <= names:
            columns |= {"genJetPt", "genJetEta", "genJetPhi", "genJetMass"}
        if f"{self.collection}.Flavor" in names:
            columns.add("partonFlav")
        if f"{_EVENT}.Weight" in names:
            columns.add("eventWeight")
        self.columns = frozenset(columns)

    @property
    def made_by(self) -> str:
        """What made the jets, for figures."""
        return "Delphes simulation"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is not in the file and has a value nevertheless."""
        rules = ["jetRawPt not in the file: that of the sum of the jet's constituents"]
        if self.has_generator:
            rules.append(f"genJetPt not in the file: that of the closest generator jet within {_MATCH:g} in (eta, phi)")
        if f"{self.collection}.Area" not in self.branches:
            rules.append("jetArea not in the file: 0")
        if not self.has_vertices:
            rules.append("PV_npvsGood not in the file: 1")
        return tuple(rules)

    @cached_property
    def jets(self) -> int:
        """The number of jets."""
        counts = ak.num(self.tree[f"{self.collection}.PT"].array())
        return int(ak.sum(counts))

    def chunks(
        self, step: int | str, names: Sequence[str], particles: Sequence[str], candidates: Candidates, start: int,
        stop: int,
    ) -> Iterator[tuple[dict[str, NDArray], ak.Array]]:  # fmt: skip
        """See `JetReader.chunks`; only constituents of a jet are attached to it."""
        size = self.entries_of(step)
        for first in range(start, stop, size):
            last = min(first + size, stop)
            yield self._record(
                {name: self.tree[name].array(entry_start=first, entry_stop=last) for name in self.branches}
            )

    @np.errstate(invalid="ignore", over="ignore")  # damaged values are named by `selection`
    def _record(self, events: dict[str, ak.Array]) -> tuple[dict[str, NDArray], ak.Array]:
        """The columns of the jets, flat over the events, and their candidates."""
        jets = {name: events[f"{self.collection}.{name}"] for name in _JET}
        counts = ak.to_numpy(ak.num(jets["PT"]))
        event = owners(offsets_of(counts))
        pt, eta, phi, mass = (flat(jets[name]).astype(np.float64) for name in _GEN)

        def of_event(name: str) -> NDArray:
            return ak.to_numpy(ak.firsts(events[name]))[event]

        ones = np.ones(len(pt), dtype=np.int32)
        area = events.get(f"{self.collection}.Area")
        vertices = ak.to_numpy(ak.num(events[f"{_VERTEX}.Index"]))[event] if self.has_vertices else ones
        record = {
            "jetPt": pt, "jetEta": eta, "jetPhi": phi, "jetMass": mass, "run": ones, "lumi": ones,
            "event": of_event(f"{_EVENT}.Number"), "PV_npvsGood": vertices, "rhoAll": self._rho(events, event, eta),
            "jetPtOrder": flat(ak.argsort(ak.argsort(jets["PT"], ascending=False))),
            # a four-vector, of which the transverse part is what the area takes of a soft background
            "jetArea": np.zeros(len(pt)) if area is None else np.hypot(flat(area.fP.fX), flat(area.fP.fY)),
        }  # fmt: skip
        if "partonFlav" in self.columns:
            record["partonFlav"] = flat(events[f"{self.collection}.Flavor"]).astype(np.int32)
        if "eventWeight" in self.columns:
            record["eventWeight"] = of_event(f"{_EVENT}.Weight")
        if self.has_generator:
            record |= self._generator(events, counts, eta, phi)
        owner, rows = self._attach(events, jets["Constituents"], counts)
        columns, record["jetRawPt"] = self._candidates(events, owner, rows, eta, phi)
        return record, cloud_of(columns, owner, len(pt))

    def _rho(self, events: dict[str, ak.Array], event: NDArray, eta: NDArray) -> NDArray[np.float64]:
        """Rho in the range of eta that a jet lies in, `(B,)`; without ranges the first."""
        rho, edges = events[f"{_RHO}.Rho"][event], events.get(f"{_RHO}.Edges[2]")
        if edges is None:
            return ak.to_numpy(ak.fill_none(ak.firsts(rho), 0.0)).astype(np.float64)
        low, high = edges[event][..., 0], edges[event][..., 1]
        inside = rho[(low <= eta) & (eta < high)]
        return ak.to_numpy(ak.fill_none(ak.firsts(inside), 0.0)).astype(np.float64)

    def _generator(
        self, events: dict[str, ak.Array], counts: NDArray, eta: NDArray, phi: NDArray
    ) -> dict[str, NDArray[np.float64]]:
        """The closest generator jets; zeros where none is close enough."""
        gen = {name: events[f"{_GEN_JETS}.{name}"] for name in _GEN}
        pairs = int((counts.astype(np.int64) * ak.to_numpy(ak.num(gen["PT"]))).sum())
        if pairs > _PAIRS + _PAIRS_A_JET * len(eta):
            raise InputError(
                f"{self.path}: {pairs:,} pairs of {len(eta):,} jets with {_GEN_JETS}: no events have so many"
            )
        each = np.repeat(np.arange(len(counts)), counts)
        d_eta = gen["Eta"][each] - eta
        d_phi = (gen["Phi"][each] - phi + np.pi) % (2 * np.pi) - np.pi
        distance = np.sqrt(d_eta**2 + d_phi**2)
        closest = ak.argmin(distance, axis=1, keepdims=True)
        near = ak.fill_none(ak.firsts(distance[closest]), np.inf) < _MATCH
        return {
            f"genJet{name.capitalize()}": ak.to_numpy(
                ak.where(near, ak.fill_none(ak.firsts(gen[branch][each][closest]), 0.0), 0.0)
            )
            for name, branch in zip(("pt", "eta", "phi", "mass"), _GEN, strict=True)
        }

    def _attach(
        self, events: dict[str, ak.Array], constituents: ak.Array, counts: NDArray
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The jet and the candidate of each reference, `(n,)`, counted over all events of the chunk, sorted by jet."""
        refs = ak.flatten(constituents["refs"], axis=1)
        owner = owners(offsets_of(ak.to_numpy(ak.num(refs))))
        event = np.repeat(np.arange(len(counts)), counts)[owner]
        wanted = flat(refs).astype(np.uint64)
        unique = events[f"{_CANDIDATES}.fUniqueID"]
        sizes = ak.to_numpy(ak.num(unique))
        known = flat(unique).astype(np.uint64)
        # identities are those within an event: the event in the upper bits
        keys = (np.repeat(np.arange(len(sizes)), sizes).astype(np.uint64) << np.uint64(32)) | known
        order = np.argsort(keys)
        asked = (event.astype(np.uint64) << np.uint64(32)) | wanted
        place = np.searchsorted(keys[order], asked)
        found = place < len(keys)
        found[found] = keys[order][place[found]] == asked[found]
        if not found.all():
            raise InputError(
                f"{self.path}: {self.collection}.Constituents refers to {int((~found).sum())} objects that are not in "
                f"{_CANDIDATES}; choose jets of particle-flow candidates"
            )
        return owner, order[place]

    def _candidates(
        self, events: dict[str, ak.Array], owner: NDArray, rows: NDArray, eta: NDArray, phi: NDArray
    ) -> tuple[dict[str, NDArray], NDArray[np.float64]]:
        """The columns of the candidates, and the pt of the sum of those of each jet."""
        values = {name: flat(events[f"{_CANDIDATES}.{name}"])[rows] for name in _CANDIDATE}
        pt, candidate_eta, mass = (values[name].astype(np.float64) for name in ("PT", "Eta", "Mass"))
        d_phi = (values["Phi"] - phi[owner] + np.pi) % (2 * np.pi) - np.pi
        x, y = (np.bincount(owner, weights=pt * side(d_phi), minlength=len(eta)) for side in (np.cos, np.sin))
        columns = {
            "PF_pT": pt, "PF_dEta": candidate_eta - eta[owner], "PF_dPhi": d_phi, "PF_mass": mass,
            "PF_id": _pdg_id(values["PID"], values["Charge"], values["Ehad"]), "PF_fromAK4Jet": np.ones(len(rows)),
        }  # fmt: skip
        return columns, np.hypot(x, y)


def _pdg_id(pid: NDArray, charge: NDArray, hadronic: NDArray) -> NDArray[np.int32]:
    """The class of a candidate as particle flow has it: Delphes knows which particle left a track."""
    lepton = np.isin(np.abs(pid), (11, 13))
    charged = np.where(lepton, pid, 211 * np.sign(charge))
    return np.where(charge != 0, charged, np.where(hadronic > 0, 130, 22)).astype(np.int32)

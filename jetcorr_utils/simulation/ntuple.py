"""Jets in the format of CERN Open Data record 12100 (JetNTuple): their columns, and the writer."""

from __future__ import annotations

from collections.abc import Callable

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from ..compiled import compiled
from ..jets.columns import BRANCHES, TREE, counter_name
from ..jets.quark_gluon import quark_gluon
from ..jets.ragged import offsets_of, owners
from .clustering import RADIUS, delta_phi
from .events import Events

__all__ = ["create_tree", "ntuple", "select_jets"]

#: Corrected over raw pt (j,) from raw pt, eta, area (j,) and rho (j,).
Correction = Callable[[NDArray, NDArray, NDArray, NDArray], NDArray]

_POSITION_STEP = 2.0**-13  # about the precision of positions in CMS's MiniAOD
_MANTISSA_BITS = 11  # momenta in MiniAOD are half-precision numbers, which have 11 bits


def select_jets(pt: NDArray, eta: NDArray, offsets: NDArray, leading: int = 0) -> NDArray:
    """Mask (j,) of the JetNTuple selection, for jets by falling pt in each event.

    Jets with pt above 30 GeV and abs(eta) below 2.5, of events whose two leading jets are such jets; of these all, or
    the `leading` first of each event.
    """
    good = (pt > 30) & (np.abs(eta) < 2.5)
    first = offsets[:-1]
    padded = np.append(good, [False, False])
    event_good = (np.diff(offsets) >= 2) & padded[first] & padded[first + 1]
    chosen = good & np.repeat(event_good, np.diff(offsets))
    if leading:
        count = np.cumsum(chosen)
        chosen &= count - np.repeat(np.append(0, count)[first], np.diff(offsets)) <= leading
    return chosen


def ntuple(events: Events, correct: Correction, run: int, block: int, leading: int = 0) -> ak.Array:
    """The selected jets of a block of events with all branches of `BRANCHES`, a record array.

    Parameters
    ----------
    correct
        The standard correction.
    run
        Run number, the seed of the simulation; the block is the luminosity block.
    leading
        See `select_jets`.
    """
    jets = events.jets
    event = owners(jets.offsets)
    factor = correct(jets.pt, jets.eta, events.area, events.rho["all"][event])
    pt = jets.pt * factor
    order = np.lexsort((-pt, event))  # the correction may change the order
    chosen = order[select_jets(pt[order], jets.eta[order], jets.offsets, leading)]
    columns = {
        "jetPt": pt[chosen], "jetEta": jets.eta[chosen], "jetPhi": jets.phi[chosen],
        "jetMass": (jets.mass * factor)[chosen], "jetRawPt": jets.pt[chosen], "jetRawMass": jets.mass[chosen],
        "jetArea": events.area[chosen],
        "jetQGl": np.full(len(chosen), -1.0),  # CMS's value where its likelihood was not computed
    }  # fmt: skip
    columns |= _event_columns(events, event[chosen], run, block)
    columns |= _order_columns(pt[order], jets.eta[order], jets.phi[order], jets.offsets, event[chosen])
    columns |= _flavour_columns(events, chosen)
    columns |= _composition(events, chosen, pt)
    columns |= _gen_columns(events, chosen)
    columns |= _window(events, chosen, event[chosen])
    columns |= _vertices(events, chosen, event[chosen])
    return ak.Array({name: _typed(columns[name], kind) for name, kind in BRANCHES.items()})


def _typed(values: ak.Array | NDArray, kind: str) -> ak.Array:
    return ak.values_astype(ak.Array(values), kind.removeprefix("var * "))


def _event_columns(events: Events, event: NDArray, run: int, block: int) -> dict[str, NDArray]:
    collisions = len(events.vertices) // events.copies
    number = block * collisions + event % collisions + 1  # copies of a collision share it, and their side of the split
    return {
        "run": np.full(len(event), run), "lumi": np.full(len(event), block + 1), "event": number,
        "pthat": events.collisions.pthat[event], "eventWeight": events.collisions.weight[event],
        "rhoAll": events.rho["all"][event], "rhoCentral": events.rho["central"][event],
        "rhoCentralNeutral": events.rho["neutral"][event],
        "rhoCentralChargedPileUp": events.rho["charged_pileup"][event],
        "Pileup_nTrueInt": events.pileup.mean[event], "Pileup_nPU": events.pileup.interactions[event],
        "PV_npvsGood": events.vertices[event],
    }  # fmt: skip


def _order_columns(pt: NDArray, eta: NDArray, phi: NDArray, offsets: NDArray, event: NDArray) -> dict[str, NDArray]:
    """The jets' place in their event; pt, eta, phi (j,) are those of all jets, sorted by corrected pt."""
    first = offsets[:-1][event]
    count = np.diff(offsets)[event]
    third = np.append(pt, 0.0)[np.minimum(first + 2, len(pt))]
    selected = np.bincount(event, minlength=len(offsets) - 1)
    start = np.concatenate([[0], np.cumsum(selected)])[event]
    return {
        "dPhiJetsLO": delta_phi(phi[first], phi[first + 1]), "dEtaJetsLO": eta[first] - eta[first + 1],
        "alpha": np.where(count > 2, third / (0.5 * (pt[first] + pt[first + 1])), 0.0),
        "eventJetMult": selected[event], "jetPtOrder": np.arange(len(event)) - start,
    }  # fmt: skip


def _flavour_columns(events: Events, chosen: NDArray) -> dict[str, NDArray]:
    parton, physics = events.parton_flavour[chosen], events.physics_flavour[chosen]
    columns = {"hadronFlav": events.hadron_flavour[chosen], "partonFlav": parton, "physFlav": physics}
    for name, flavour in (("Parton", np.abs(parton)), ("Phys", np.abs(physics))):
        light, gluon = (flavour >= 1) & (flavour <= 3), flavour == 21
        columns |= {f"is{name}UDS": light, f"is{name}G": gluon, f"is{name}Other": ~light & ~gluon}
    return columns


def _composition(events: Events, chosen: NDArray, corrected_pt: NDArray) -> dict[str, NDArray]:
    """Multiplicities, identification, girth and quark/gluon variables from the jets' constituents."""
    jets, cands = events.jets, events.candidates
    owner = owners(jets.bounds)
    rows = jets.constituents
    pt, eta, phi, pdg = cands.pt[rows], cands.eta[rows], cands.phi[rows], np.abs(cands.pdg[rows])

    def total(weights: NDArray) -> NDArray:
        return np.bincount(owner, weights, minlength=len(jets.pt))

    def divided(numerator: NDArray, denominator: NDArray) -> NDArray:
        return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)

    momentum = pt * np.cosh(eta)
    energy = np.hypot(momentum, cands.mass[rows])
    share = {kind: divided(total(energy * (pdg == kind)), total(energy)) for kind in (211, 130, 22, 11)}
    multiplicity = {kind: total(pdg == kind) for kind in (211, 130, 22, 11, 13)}
    charged = multiplicity[211] + multiplicity[11] + multiplicity[13]
    neutral = multiplicity[130] + multiplicity[22]
    central = np.abs(jets.eta) < 2.4
    loose = (charged + neutral > 1) & (share[130] < 0.99) & (share[22] < 0.99)
    loose &= ~central | ((share[211] > 0) & (charged > 0) & (share[11] < 0.99))

    d_phi = delta_phi(phi, jets.phi[owner])
    rapidity = np.arctanh(pt * np.sinh(eta) / energy)
    jet_momentum = jets.pt * np.sinh(jets.eta)
    jet_rapidity = np.arcsinh(jet_momentum / np.hypot(jets.pt, jets.mass))
    girth = total(np.hypot(rapidity - jet_rapidity[owner], d_phi) * pt) / corrected_pt

    quality = quark_gluon(owner, len(jets.pt), pt, eta - jets.eta[owner], d_phi, pdg, cands.from_pv[rows])
    columns = {
        "jetChargedHadronMult": multiplicity[211], "jetNeutralHadronMult": multiplicity[130],
        "jetChargedMult": charged, "jetNeutralMult": neutral, "jetMult": charged + neutral,
        "jetLooseID": loose, "jetTightID": loose & (share[130] < 0.9) & (share[22] < 0.9), "jetGirth": girth,
        **quality,
    }  # fmt: skip
    return {name: values[chosen] for name, values in columns.items()}


def _gen_columns(events: Events, chosen: NDArray) -> dict[str, ak.Array | NDArray]:
    """The matched generator jet and its particles; zeros and no particles without a match, as in the open data."""
    jets, particles = events.gen_jets, events.collisions.particles
    partner = events.partner[chosen]
    matched = partner >= 0
    columns: dict[str, ak.Array | NDArray] = {"jetGenMatch": matched}
    for name, values in (("Pt", jets.pt), ("Eta", jets.eta), ("Phi", jets.phi), ("Mass", jets.mass)):
        columns[f"genJet{name}"] = np.where(matched, np.append(values, 0.0)[partner], 0.0)
    counts = np.where(matched, np.append(np.diff(jets.bounds), 0)[partner], 0)
    start = np.where(matched, jets.bounds[partner], 0)
    offsets = offsets_of(counts)
    owner = owners(offsets)
    rows = jets.constituents[np.arange(offsets[-1]) - offsets[owner] + start[owner]]
    rows = rows[np.lexsort((-particles.pt[rows], owner))]
    d_eta = particles.eta[rows] - jets.eta[partner][owner]
    d_phi = delta_phi(particles.phi[rows], jets.phi[partner][owner])
    flat = {
        "pT": _rounded(particles.pt[rows]), **_polar(d_eta, d_phi), "mass": _rounded(particles.mass[rows]),
        "id": particles.pdg[rows],
    }  # fmt: skip
    return columns | {f"genJetPF_{name}": ak.unflatten(values, counts) for name, values in flat.items()}


def _window(events: Events, chosen: NDArray, event: NDArray) -> dict[str, ak.Array]:
    """All candidates within 1 of the jet in eta and in phi, subtracted ones too, by falling pt."""
    jets, cands = events.jets, events.candidates
    inside = np.full(len(cands.pt), -1)
    inside[jets.constituents] = owners(jets.bounds)
    counts, rows = _in_window(jets.eta[chosen], jets.phi[chosen], event, cands.eta, cands.phi, cands.offsets)
    owner = np.repeat(np.arange(len(chosen)), counts)
    d_eta = _stepped(cands.eta[rows] - jets.eta[chosen][owner])
    d_phi = _stepped(delta_phi(cands.phi[rows], jets.phi[chosen][owner]))
    flat = {
        "pT": _rounded(cands.pt[rows]), **_polar(d_eta, d_phi), "dPhi": d_phi, "dEta": d_eta,
        "mass": cands.mass[rows], "id": cands.pdg[rows], "fromPV": cands.from_pv[rows],
        "fromAK4Jet": inside[rows] == chosen[owner],
        "caloFraction": np.round(cands.calo_fraction[rows], 2), "hcalFraction": np.round(cands.hcal_fraction[rows], 2),
        **{name: _rounded(values[rows]) for name, values in events.further.items()},
    }  # fmt: skip
    return {f"PF_{name}": ak.unflatten(values, counts) for name, values in flat.items()}


def _vertices(events: Events, chosen: NDArray, event: NDArray) -> dict[str, ak.Array]:
    """The secondary vertices within the jets' radius of their axes, by falling pt."""
    eta, phi, found = events.jets.eta[chosen], events.jets.phi[chosen], events.secondary
    place = found.columns["eta"], found.columns["phi"]
    counts, rows = _in_window(eta, phi, event, *place, found.offsets)
    owner = np.repeat(np.arange(len(chosen)), counts)
    inside = np.hypot(place[0][rows] - eta[owner], delta_phi(place[1][rows], phi[owner])) < RADIUS
    counts = np.bincount(owner[inside], minlength=len(chosen))
    return {
        f"SV_{name}": ak.unflatten(_rounded(values[rows[inside]]), counts) for name, values in found.columns.items()
    }


@compiled
def _in_window(eta, phi, event, candidate_eta, candidate_phi, offsets):
    """Number of candidates around each jet, and their rows, jet after jet."""
    counts = np.zeros(len(eta), np.int64)
    size = 0
    for j in range(len(eta)):
        size += offsets[event[j] + 1] - offsets[event[j]]
    rows = np.empty(size, np.int64)
    filled = 0
    for j in range(len(eta)):
        for i in range(offsets[event[j]], offsets[event[j] + 1]):
            turn = (candidate_phi[i] - phi[j] + np.pi) % (2 * np.pi) - np.pi
            if abs(candidate_eta[i] - eta[j]) <= 1 and abs(turn) <= 1:
                rows[filled] = i
                filled += 1
                counts[j] += 1
    return counts, rows[:filled]


def _rounded(values: NDArray) -> NDArray:
    """Values with the precision of CMS's MiniAOD, which makes files half as large."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**_MANTISSA_BITS) / 2**_MANTISSA_BITS, exponent)


def _stepped(values: NDArray) -> NDArray:
    return np.round(values / _POSITION_STEP) * _POSITION_STEP


def _polar(d_eta: NDArray, d_phi: NDArray) -> dict[str, NDArray]:
    return {"dR": _rounded(np.hypot(d_eta, d_phi)), "dTheta": _stepped(np.arctan2(d_phi, d_eta))}


def create_tree(file: uproot.WritableDirectory) -> uproot.WritableTree:
    """An empty jet tree in a file opened for writing; `extend` it with the fields of `ntuple`."""
    return file.mktree(TREE, BRANCHES, counter_name=counter_name, title="Jets (JetNTuple)")

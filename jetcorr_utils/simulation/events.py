"""One block of events, from Pythia's seed to matched jets: generator, pileup, detector, clustering, flavour."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from . import clustering, flavour
from .clustering import Jets
from .detector import measure
from .generator import Collisions, generate, pythia_seed
from .material import convert_photons, interact
from .parameters import Parameters
from .particles import Particles, concatenate, to_cartesian
from .pileup import PileupDraw, overlay
from .puppi import puppi_weights
from .reconstruction import Candidates, reconstruct
from .secondary_vertices import SecondaryVertices, secondary_vertices
from .tracks import impact_parameters

__all__ = ["Events", "simulate_events"]

_MIN_JET_PT = 8.0  # GeV, raw and generated
_MAX_MATCH = 0.4  # as in CMS's matching of jets with generator jets
_PARTON_MATCH = 0.4
_ASIDE = 2**30
"""Keeps the random numbers of what no jet is made of apart, so that jets do not depend on it."""


@dataclass
class Events:
    """A block of E simulated events with j reconstructed jets.

    Attributes
    ----------
    copies
        How many events share each collision, `Generator.reuse`: event i is of collision i % (E // copies).
    collisions, pileup, candidates
        The chain's stages.
    jets, gen_jets
        Anti-kt jets of the candidates that charged-hadron subtraction leaves, and of the generator's particles.
        The constituents are rows of `candidates` and of `collisions.particles`.
    partner
        Row of each jet's generator jet, -1 without (j,).
    area
        Jet areas (j,).
    hadron_flavour, parton_flavour, physics_flavour
        Flavours of the jets (j,); the last from the hard process's parton within 0.4.
    rho
        Densities (E,) by name: all, central, neutral, charged_pileup.
    vertices
        Number of good primary vertices (E,).
    secondary
        Vertices of decays.
    further
        Columns of the candidates (c,) that the open data does not have, by their name in NanoAOD.
    pythia_seconds
        Time spent in Pythia.
    """

    copies: int
    collisions: Collisions
    pileup: PileupDraw
    candidates: Candidates
    jets: Jets
    gen_jets: Jets
    partner: NDArray
    area: NDArray
    hadron_flavour: NDArray
    parton_flavour: NDArray
    physics_flavour: NDArray
    rho: dict[str, NDArray]
    vertices: NDArray
    secondary: SecondaryVertices
    further: dict[str, NDArray]
    pythia_seconds: float


def simulate_events(pythia: Any, pool: Particles, parameters: Parameters, seed: int, block: int) -> Events:
    """Simulate the block number `block` of the simulation with this seed; it depends on nothing else.

    Parameters
    ----------
    pythia
        From `make_pythia`.
    pool
        The pileup pool of this seed.
    """
    sequence = np.random.SeedSequence([seed, block])
    rng = np.random.default_rng(sequence)
    start = time.perf_counter()
    settings = parameters.generator
    collisions = generate(pythia, pythia_seed(sequence), settings.events_per_block)
    pythia_seconds = time.perf_counter() - start
    collisions = collisions.repeated(settings.reuse)
    draw = overlay(pool, collisions.particles.events, parameters.pileup, rng)
    visible = collisions.particles.select(np.abs(collisions.particles.eta) < parameters.detector.max_abs_eta)
    everything = convert_photons(concatenate(visible, draw.particles), parameters.detector, rng)
    everything, end = interact(everything, parameters.detector, rng)
    signals = measure(everything, end, parameters.detector, rng)
    candidates = reconstruct(everything, signals, parameters.detector, parameters.pileup, rng)

    gen = collisions.particles
    gen_jets = clustering.cluster(to_cartesian(gen.pt, gen.eta, gen.phi, gen.mass, gen.offsets), _MIN_JET_PT)
    jets, ghost_jet = _cluster_with_ghosts(candidates, collisions.ghosts)
    count = len(jets.pt)
    partner = clustering.match(
        jets.eta, jets.phi, jets.offsets, gen_jets.eta, gen_jets.phi, gen_jets.offsets, _MAX_MATCH
    )
    out = collisions.outgoing
    parton = clustering.match(jets.eta, jets.phi, jets.offsets, out.eta, out.phi, out.offsets, _PARTON_MATCH)
    area = clustering.areas(jets.pt, jets.eta, jets.phi, jets.offsets, parameters.detector.max_abs_eta, rng)
    vertices = 1 + rng.binomial(draw.interactions, parameters.pileup.vertex_efficiency)
    aside = np.random.default_rng([seed, block, _ASIDE])
    further = impact_parameters(everything, candidates, parameters.detector, parameters.tracking, aside)
    secondary = secondary_vertices(everything, candidates, further, parameters.tracking, aside)
    further["puppiWeight"] = puppi_weights(candidates, vertices, parameters.tracking)
    return Events(
        settings.reuse, collisions, draw, candidates, jets, gen_jets, partner, area=area,
        hadron_flavour=flavour.hadron_flavour(ghost_jet, collisions.ghosts, count),
        parton_flavour=flavour.parton_flavour(ghost_jet, collisions.ghosts, count),
        physics_flavour=np.where(parton >= 0, np.append(out.pdg, 0)[parton], 0).astype(np.int32),
        rho=_densities(candidates, parameters.detector.max_abs_eta),
        vertices=vertices, secondary=secondary, further=further,
        pythia_seconds=pythia_seconds,
    )  # fmt: skip


def _cluster_with_ghosts(candidates: Candidates, ghosts: Particles) -> tuple[Jets, NDArray]:
    """Jets of the candidates that charged-hadron subtraction leaves, and the jet of each ghost (g,), -1 for none."""
    momenta = to_cartesian(candidates.pt, candidates.eta, candidates.phi, candidates.mass, candidates.offsets)
    rows = ak.local_index(momenta, axis=1) + candidates.offsets[:-1]
    kept = ak.unflatten(candidates.from_pv > 0, np.diff(candidates.offsets))
    momenta, rows = momenta[kept], rows[kept]
    scale = flavour.GHOST_SCALE
    ghost_momenta = to_cartesian(ghosts.pt * scale, ghosts.eta, ghosts.phi, ghosts.mass * scale, ghosts.offsets)
    ghost_rows = ak.local_index(ghost_momenta, axis=1) + ghosts.offsets[:-1] + len(candidates.pt)
    jets = clustering.cluster(ak.concatenate([momenta, ghost_momenta], axis=1), _MIN_JET_PT)

    source = ak.to_numpy(ak.flatten(ak.concatenate([rows, ghost_rows], axis=1)))[jets.constituents]
    owner = np.repeat(np.arange(len(jets.pt)), np.diff(jets.bounds))
    is_ghost = source >= len(candidates.pt)
    ghost_jet = np.full(len(ghosts), -1)
    ghost_jet[source[is_ghost] - len(candidates.pt)] = owner[is_ghost]
    jets.constituents = source[~is_ghost]
    jets.bounds = np.concatenate([[0], np.cumsum(np.bincount(owner[~is_ghost], minlength=len(jets.pt)))])
    return jets, ghost_jet


def _densities(candidates: Candidates, max_abs_eta: float) -> dict[str, NDArray]:
    """rho of each event (E,) from several kinds of candidates, as CMS's fixedGridRhoFastjet collections."""
    pdg = np.abs(candidates.pdg)
    neutral = (pdg == 22) | (pdg == 130)
    everything = np.ones(len(pdg), bool)
    return {
        "all": clustering.rho(candidates, everything, max_abs_eta),
        "central": clustering.rho(candidates, everything, 2.5),
        "neutral": clustering.rho(candidates, neutral, 2.5),
        "charged_pileup": clustering.rho(candidates, ~neutral & (candidates.from_pv == 0), 2.5),
    }

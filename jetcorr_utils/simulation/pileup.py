"""Pileup: a pool of inelastic collisions, drawn from, turned around the beam and mirrored for every event.

The pool is made of parts that depend on the simulation's seed only, so that several processes can share the work.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..jets.ragged import offsets_of
from .generator import particles_of
from .parameters import Detector, Pileup
from .particles import Particles

__all__ = ["PileupDraw", "join_pool", "make_pool_part", "overlay"]


@dataclass
class PileupDraw:
    """What pileup was added to E events: the particles, the true mean and the number of interactions (E,)."""

    particles: Particles
    mean: NDArray
    interactions: NDArray


def make_pool_part(pythia: Any, seed: int, events: int, detector: Detector) -> Particles:
    """Generate `events` inelastic collisions; particles that can leave no trace are dropped.

    These are neutrinos, and charged particles that are too soft for a track and do not reach the calorimeters.
    """
    pythia.rndm.init(seed)
    record = pythia.nextBatch(events).prt
    particles = particles_of(pythia, record[record.status > 0], detector.max_abs_eta)
    invisible = np.isin(np.abs(particles.pdg), (12, 14, 16))
    too_soft = np.where(particles.charge != 0, particles.pt < detector.track_min_pt, particles.pt < 0.05)
    pool = particles.select(~invisible & ~too_soft)
    for column in ("pt", "eta", "phi", "mass", "radius"):
        setattr(pool, column, getattr(pool, column).astype(np.float32))
    return pool


def join_pool(parts: list[Particles]) -> Particles:
    """One pool from its parts, in their order."""
    columns = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(Particles)
        if f.name != "offsets"
    }
    return Particles(**columns, offsets=offsets_of(np.concatenate([np.diff(part.offsets) for part in parts])))


def overlay(pool: Particles, events: int, settings: Pileup, rng: np.random.Generator) -> PileupDraw:
    """Draw the pileup of `events` events from the pool.

    The number of interactions is Poisson distributed around a mean that varies from event to event, as in CMS's
    simulated samples.
    """
    mean = np.maximum(rng.normal(settings.mean, settings.spread, events), 0.0)
    interactions = rng.poisson(mean)
    total = int(interactions.sum())
    chosen = rng.integers(pool.events, size=total)
    turn, mirror = rng.uniform(-np.pi, np.pi, total), rng.choice([-1.0, 1.0], total)
    counts = np.diff(pool.offsets)[chosen]
    collision = np.repeat(np.arange(total), counts)
    start = offsets_of(counts)
    rows = np.arange(start[-1]) - start[collision] + pool.offsets[chosen][collision]
    first = offsets_of(interactions)
    number = np.arange(total) - np.repeat(first[:-1], interactions)
    particles = Particles(
        pt=pool.pt[rows].astype(float), eta=pool.eta[rows] * mirror[collision],
        phi=(pool.phi[rows] + turn[collision] + np.pi) % (2 * np.pi) - np.pi,
        mass=pool.mass[rows].astype(float), pdg=pool.pdg[rows], charge=pool.charge[rows],
        radius=pool.radius[rows].astype(float), vertex=(1 + number[collision]).astype(np.int32), offsets=start[first],
        d0=pool.d0[rows], dz=pool.dz[rows] * mirror[collision],
    )  # fmt: skip
    return PileupDraw(particles, mean, interactions)

"""A small simulation that the tests of this folder share: real Pythia, real detector, few events."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from jetcorr_utils.simulation.events import Events, simulate_events
from jetcorr_utils.simulation.generator import make_pythia
from jetcorr_utils.simulation.parameters import Detector, Generator, Parameters, Pileup
from jetcorr_utils.simulation.particles import Particles
from jetcorr_utils.simulation.pileup import make_pool_part

EVENTS = 60


@pytest.fixture(scope="session")
def small() -> Parameters:
    """Few events a block and a small pool, else the real detector."""
    return Parameters(generator=Generator(events_per_block=20), pileup=Pileup(pool_events=60))


@pytest.fixture(scope="session")
def hard(small: Parameters) -> Any:
    return make_pythia(small.generator, small.detector)


@pytest.fixture(scope="session")
def pool(small: Parameters) -> Particles:
    pythia = make_pythia(small.generator, small.detector, "SoftQCD:inelastic")
    return make_pool_part(pythia, 11, 60, small.detector)


@pytest.fixture(scope="session")
def events(small: Parameters, hard: Any, pool: Particles) -> Events:
    """Simulated events."""
    parameters = dataclasses.replace(small, generator=Generator(events_per_block=EVENTS))
    return simulate_events(hard, pool, parameters, seed=3, block=0)


@pytest.fixture(scope="session")
def perfect() -> Detector:
    """A detector without material, fluctuations, thresholds and losses."""
    return Detector(
        material=(0.0,) * 7, track_efficiency=1.0, track_soft_loss=0.0, track_core_loss=0.0, track_decay_length=1e9,
        track_resolution=(0.0, 0.0), track_resolution_pt=(0.0, 0.0), electron_efficiency=1.0, muon_efficiency=1.0,
        ecal_stochastic=0.0, ecal_constant=(0.0, 0.0), ecal_threshold=(0.0, 0.0), ecal_shower_start=0.0,
        hadron_stochastic=(1e-4, 1e-4), hadron_constant=(1e-4, 1e-4), hadron_response=(1.0, 0.0, 1.0),
        ecal_spread=(0.0, 0.0, 0.0, 0.0), hcal_spread=(0.0, 0.0, 0.0, 0.0),
        hcal_cell_threshold=0.0, hcal_threshold=(0.0, 0.0), field=1e-6,
    )  # fmt: skip


def particles(*rows: tuple[float, float, float, int, float, int], offsets: list[int] | None = None) -> Particles:
    """Massless particles from rows pt, eta, phi, pdg, charge, vertex; all in one event unless offsets are given."""
    pt, eta, phi, pdg, charge, vertex = (np.array(column) for column in zip(*rows, strict=True))
    return Particles(
        pt.astype(float), eta.astype(float), phi.astype(float), np.zeros(len(pt)), pdg, charge.astype(float),
        np.zeros(len(pt)), vertex, np.array([0, len(pt)] if offsets is None else offsets),
    )  # fmt: skip


@pytest.fixture
def make_particles():
    return particles

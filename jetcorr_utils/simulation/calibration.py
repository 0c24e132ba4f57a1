"""The standard corrections of the simulated detector, from a sample of their own.

`derive_corrections` made the file `corrections.json.gz` beside this module. It has to be made again whenever a
parameter of the simulation changes: `python -m jetcorr_utils.simulation`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..baseline import StandardCorrection, derive, load_correction, write_correction
from ..processes import cores
from .event_blocks import Blocks
from .events import Events
from .parameters import SIMULATION_VERSION, Parameters

__all__ = ["CORRECTIONS", "calibration_jets", "derive_corrections", "simulation_correction"]

#: The corrections of the current simulation.
CORRECTIONS = Path(__file__).with_name("corrections.json.gz")
_SEED = 20161  # apart from the seeds that users take
_EVENTS = 14_000
_MAX_DISTANCE = 0.2  # between a jet and its generator jet, for a clean response


def simulation_correction() -> StandardCorrection:
    """The standard correction of simulated jets, as stored with the package."""
    return load_correction(CORRECTIONS)


def calibration_jets(
    events: int, seed: int, workers: int | None = None, parameters: Parameters | None = None, progress: bool = True
) -> dict[str, NDArray]:
    """Simulate `events` events and return all their matched jets, unselected.

    Columns raw_pt, eta, area, rho, gen_pt, each (j,), in the units of `baseline.derive`.
    """
    parameters = parameters or Parameters()
    blocks = -(-events // parameters.generator.events_per_block)
    parts: list[Mapping[str, NDArray]] = []
    with Blocks(parameters, seed, workers or cores()) as source:
        results = source.run(_matched_jets, 0, blocks)
        for _ in tqdm(range(blocks), desc="calibration", unit="block", disable=not progress):
            parts.append(next(results))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _matched_jets(events: Events, seed: int, block: int) -> dict[str, NDArray]:
    jets, gen, partner = events.jets, events.gen_jets, events.partner
    turn = (jets.phi - gen.phi[partner] + np.pi) % (2 * np.pi) - np.pi
    matched = (partner >= 0) & (np.hypot(jets.eta - gen.eta[partner], turn) < _MAX_DISTANCE)
    event = np.repeat(np.arange(len(jets.offsets) - 1), np.diff(jets.offsets))
    return {
        "raw_pt": jets.pt[matched], "eta": jets.eta[matched], "area": events.area[matched],
        "rho": events.rho["all"][event][matched], "gen_pt": gen.pt[partner][matched],
    }  # fmt: skip


def _mean_rho(events: Events, seed: int, block: int) -> float:
    return float(np.mean(events.rho["all"]))


def derive_corrections(
    out: Path = CORRECTIONS, events: int = _EVENTS, seed: int = _SEED, workers: int | None = None,
    parameters: Parameters | None = None, progress: bool = True,
) -> Path:  # fmt: skip
    """Simulate a calibration sample, derive the standard corrections and write them to `out`."""
    parameters = parameters or Parameters()
    jets = calibration_jets(events, seed, workers, parameters, progress)
    no_pileup = dataclasses.replace(parameters, pileup=dataclasses.replace(parameters.pileup, mean=0.0, spread=0.0))
    with Blocks(no_pileup, seed, 1) as source:
        rho = next(source.run(_mean_rho, 0, 1))
    description = (
        f"Standard jet corrections of jetcorr's simulated detector, version {SIMULATION_VERSION}, "
        f"parameters {parameters.key()}, "
        f"from {len(jets['raw_pt'])} jets of {events} events, seed {seed}"
    )
    return write_correction(derive(jets, rho, description), out)

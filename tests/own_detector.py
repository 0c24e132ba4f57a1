"""Simulations with few collisions of pileup and few in a block: what a study would have of both takes half a minute."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from jetcorr_utils.config import DataSettings
from jetcorr_utils.data.locations import base_parameters
from jetcorr_utils.simulation import SIMULATION_VERSION
from jetcorr_utils.simulation.calibration import CORRECTIONS

ALL = {"min_pt": 0, "min_gen_pt": 0}


def few(collisions: int = 20, pileup: int = 60, **others: Any) -> dict[str, Any]:
    """Parameters of the simulation by dotted name."""
    return {"generator.events_per_block": collisions, "pileup.pool_events": pileup, **others}


def place_of_corrections(settings: DataSettings) -> Path:
    """Where those of a study's detector are kept once they are derived, which takes minutes."""
    key = base_parameters(settings.simulation).key()
    folder = Path(settings.directory) / "simulated" / f"corrections-{key}-v{SIMULATION_VERSION}"
    folder.mkdir(parents=True)
    return folder / CORRECTIONS.name


def with_known_corrections(settings: DataSettings) -> DataSettings:
    """The settings of a detector that the corrections of the package are right for, which lie there then."""
    shutil.copy(CORRECTIONS, place_of_corrections(settings))
    return settings

"""The trainings of a study, one after the other, each done once however often the process is killed in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ModelSettings
from ..run import RunFolder
from .checkpoint import STATE
from .distributed import rank
from .loop import train
from .result import TrainingResult

if TYPE_CHECKING:
    from ..data.clouds import CloudDataset

__all__ = ["train_models"]


def train_models(
    models: Mapping[str, ModelSettings],
    clouds: Mapping[str, CloudDataset],
    run: RunFolder,
    *,
    log_dir: str | Path | None = None,
    watch: Callable[[str], Callable[[int, dict[str, float]], None]] | None = None,
    progress: bool = True,
    device: str | None = None,
) -> dict[str, TrainingResult]:
    """Train all models of a study.

    Parameters
    ----------
    models
        Settings by name.
    clouds
        For each name the jets, with the features that the model takes.
    run
        Gets each model in its folder.
    log_dir
        Folder or URL of the TensorBoard logs, one of each model; default: that of the run.
    watch
        Makes the callback of a training, by the name of its model: see `train`.
    device
        Where to train; default: the GPU, where there is one.

    Returns
    -------
    How each training went. Called again after an interruption, it goes on where it was: the trainings that were done
    are not repeated, since their states are kept until all are.
    """
    results = {}
    for name, settings in models.items():
        parts = clouds[name].split("train"), clouds[name].split("validation")
        results[name] = train(
            settings, *parts, run.model(name), log_dir=f"{log_dir or run.tensorboard}/{name}", progress=progress,
            callback=watch(name) if watch else None, keep_state=True, device=device,
        )  # fmt: skip
    for name in models if rank() == 0 else ():
        (run.model(name) / STATE).unlink()
    return results

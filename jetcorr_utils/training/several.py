"""The trainings of a study, one after the other, each done once however often the process is killed in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..config import ModelSettings
from ..run import RunFolder
from .checkpoint import STATE
from .loop import TrainingResult, train

if TYPE_CHECKING:
    from ..data.clouds import CloudDataset

__all__ = ["train_models"]


def train_models(
    models: Mapping[str, ModelSettings], clouds: Mapping[str, CloudDataset], run: RunFolder, *, progress: bool = True
) -> dict[str, TrainingResult]:
    """Train all models of a study.

    Parameters
    ----------
    models
        Settings by name.
    clouds
        For each name the jets, with the features that the model takes.
    run
        Gets each model in its folder, and its TensorBoard log.

    Returns
    -------
    How each training went. Called again after an interruption, it goes on where it was: the trainings that were done
    are not repeated, since their states are kept until all are.
    """
    results = {}
    for name, settings in models.items():
        parts = clouds[name].split("train"), clouds[name].split("validation")
        log = run.tensorboard / name
        results[name] = train(settings, *parts, run.model(name), log_dir=log, progress=progress, keep_state=True)
    for name in models:
        (run.model(name) / STATE).unlink()
    return results

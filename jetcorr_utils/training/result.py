"""How a training went: what it returns, and what lies beside the checkpoint for who did not wait for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from ..errors import InputError
from ..files import atomic_path, known_shape, read_json, write_json

__all__ = ["TrainingResult", "load_result", "save_result"]

HISTORY, SUMMARY = "history.csv", "result.json"


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a training went.

    Attributes
    ----------
    history
        One row an epoch: epoch, train_loss, train_mae, validation_loss, validation_mae, validation_quantiles,
        learning_rate, seconds; validation_flavour if the flavour term is switched on.
    best_epoch, validation_mae
        The epoch of the checkpoint, counted from 1, and its mean absolute error of log(pt_gen/pt).
    constant_mae
        The same for the best constant, which a network has to beat.
    seconds
        Wall time of all epochs, validation included.
    jets_per_s
        Training jets a second, validation excluded.
    parameters
        Number of trained parameters.
    """

    history: pd.DataFrame
    best_epoch: int
    validation_mae: float
    constant_mae: float
    seconds: float
    jets_per_s: float
    parameters: int


def save_result(result: TrainingResult, folder: Path) -> None:
    """Write the history as `history.csv` and the rest as `result.json`."""
    with atomic_path(folder / HISTORY) as path:
        result.history.to_csv(path, index=False)
    write_json(folder / SUMMARY, {f.name: getattr(result, f.name) for f in dataclasses.fields(result)[1:]})


def load_result(folder: str | Path) -> TrainingResult:
    """How the training in `folder` went.

    Raises
    ------
    InputError
        If no training has ended there, or what it left is damaged.
    """
    folder = Path(folder)
    if not (folder / SUMMARY).is_file() or not (folder / HISTORY).is_file():
        raise InputError(f"{folder}: no training has ended here; train a model first (notebook 02 or `jetcorr train`)")
    summary = read_json(folder / SUMMARY)
    with known_shape(folder / SUMMARY):
        return TrainingResult(history=pd.read_csv(folder / HISTORY), **summary)

"""How a training went: what it returns, and what lies beside the checkpoint for who did not wait for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..files import (
    atomic_path,
    changed_files,
    fingerprint,
    known_shape,
    read_json,
    read_with_digest,
    write_with_digest,
)

__all__ = ["TrainingResult", "finished_result", "load_result", "read_history", "save_result"]

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

    @property
    def summary(self) -> dict[str, float]:
        """What metrics.json has of it."""
        names = ("validation_mae", "constant_mae", "best_epoch", "parameters", "jets_per_s")
        return {name: getattr(self, name) for name in names}

    def plain(self) -> dict[str, Any]:
        """All of it in lists and numbers; `from_plain` reads it."""
        return vars(self) | {"history": self.history.to_dict("list")}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> TrainingResult:
        """The result that `plain` gave these values for."""
        return cls(**{**values, "history": pd.DataFrame(values["history"])})


def save_result(result: TrainingResult, folder: Path, key: str, made: Sequence[str]) -> None:
    """Write the history as `history.csv` and the rest as `result.json`: last, and with what tells that it is all there.

    `key` says which training it was, `made` are the other files that it has left in the folder.
    """
    with atomic_path(folder / HISTORY) as path:
        result.history.to_csv(path, index=False)
    files = {name: fingerprint(folder / name) for name in (*made, HISTORY)}
    summary = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)[1:]}
    write_with_digest(folder / SUMMARY, summary | {"key": key, "files": files})


def load_result(folder: str | Path) -> TrainingResult:
    """How the training in `folder` went.

    Raises
    ------
    InputError
        If no training has ended there, or its numbers, its network or its history are not as it left them: another
        training may have been begun after it.
    """
    folder = Path(folder)
    if not (folder / SUMMARY).is_file() or not (folder / HISTORY).is_file():
        raise InputError(f"{folder}: no training has ended here; train a model first (notebook 02 or `jetcorr train`)")
    summary = read_with_digest(folder / SUMMARY)
    with known_shape(folder / SUMMARY):
        _, files = summary.pop("key"), summary.pop("files")
        for path in changed_files(folder, files):
            raise InputError(
                f"{path}: damaged, or of a training that has not ended: not as {SUMMARY} says; train the model again"
            )
        return TrainingResult(history=read_history(folder / HISTORY), **summary)


def read_history(path: str | Path) -> pd.DataFrame:
    """The table of epochs that a training left.

    Raises
    ------
    InputError
        If it is damaged: each row has the number of its epoch and a validation_mae.
    """
    with known_shape(path):
        history = pd.read_csv(path)
        numbers = history[["epoch", "validation_mae"]].astype(float)
        if history.empty or not np.isfinite(numbers.to_numpy()).all():
            raise ValueError
    return history


def finished_result(folder: Path, key: str) -> TrainingResult | None:
    """How the training `key` went, if it has ended in `folder` and all that it made is there as it was made."""
    summary = read_json(folder / SUMMARY) if (folder / SUMMARY).is_file() else {}
    if not isinstance(summary, dict) or summary.get("key") != key or "digest" not in summary:
        return None
    made = read_with_digest(folder / SUMMARY)["files"]
    return None if changed_files(folder, made) else load_result(folder)

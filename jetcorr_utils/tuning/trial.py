"""One trial: a network trained with the parameters of a draw, measured, and recorded in a folder of its own.

The same function runs a trial in a notebook, in a local worker process and in a pod of a Katib experiment. What came
out is `trial.json`, written last and in one go: a trial whose `trial.json` is there is done, whatever happened to the
process that ran it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..config import ModelSettings, TuningSettings
from ..data.dataset import CloudDataset
from ..errors import InputError, JetcorrError
from ..files import atomic_path, changed_files, fingerprint, known_shape, read_with_digest, write_with_digest
from ..metrics import OBJECTIVE
from ..models.inputs import sample_rows
from ..training import load_model, predict, read_history, train
from .space import Parameters, apply_parameters
from .trial_metrics import constant_error, response_metrics

State = Literal["complete", "pruned", "constant", "failed"]

__all__ = [
    "RECORD", "PrunedTrial", "TrialRecord", "read_trial", "run_trial", "trial_jets",
    "trial_settings", "write_record",
]  # fmt: skip

RECORD, HISTORY = "trial.json", "history.csv"
MARGIN = 0.999  # a validation error below this share of the constant predictor's has left it


class PrunedTrial(Exception):
    """Raised by the `report` of `run_trial` to stop a trial that does worse than others."""


class _StuckTrial(Exception):
    """The trial has not left the constant predictor in its first epochs."""


@dataclass(frozen=True)
class TrialRecord:
    """What is known of a trial that has ended.

    Attributes
    ----------
    number
        Its number in the search; 0 has the study's own settings.
    state
        "complete", "pruned" (worse than others), "constant" (never left the constant predictor) or "failed".
    values
        The drawn parameters, by the names of the model's settings.
    metrics
        `mae` (validation, of log(pt_gen/pt)), `constant_mae`, `epochs`, `seconds`, and for complete trials
        `resolution_gain`, `flavour_spread`, `closure`, `parameters`, `train_jets_per_s`, `jets_per_s` (inference).
    error
        Of a failed trial: the error's name and text.
    """

    number: int
    state: State
    values: Parameters
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def trial_settings(settings: ModelSettings, values: Parameters, tuning: TuningSettings) -> ModelSettings:
    """The settings with which a trial is trained: its parameters, and a training that is shortened as a whole.

    The warm-up is given in epochs and is shortened with them: a short trial would spend all of it warming up.
    """
    drawn = apply_parameters(settings, values)
    share = min(1.0, tuning.epochs / drawn.training.epochs)
    shortened = {"epochs": tuning.epochs, "max_jets": None, "warmup": share * drawn.training.warmup}
    return drawn.model_copy(update={"training": drawn.training.model_copy(update=shortened)})


def trial_jets(training: CloudDataset, tuning: TuningSettings) -> CloudDataset:
    """The jets that trials are trained on: all of them as they are, mapped from a cache, or a sample in memory."""
    if tuning.max_jets is None or tuning.max_jets >= len(training):
        return training
    return training.select(sample_rows(len(training), tuning.max_jets, tuning.seed))


def read_trial(folder: Path) -> TrialRecord | None:
    """The record in a trial's folder, or None if the trial has not ended.

    Raises
    ------
    InputError
        If it, or the history beside it, is not as the trial left it.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    record = read_with_digest(path)
    with known_shape(path):
        for changed in changed_files(folder, record.pop("files")):
            raise InputError(f"{changed}: damaged, not as the trial left it; delete {path} to have the trial run again")
        return TrialRecord(**record)


def write_record(folder: Path, record: TrialRecord) -> None:
    """Write the record of a trial into its folder, in which its history lies already."""
    files = {name: fingerprint(folder / name) for name in (HISTORY,) if (folder / name).is_file()}
    write_with_digest(folder / RECORD, asdict(record) | {"files": files})


def run_trial(
    number: int,
    values: Parameters,
    settings: ModelSettings,
    training: CloudDataset,
    validation: CloudDataset,
    folder: Path,
    *,
    grace: int = 2,
    report: Callable[[int, float], None] | None = None,
    log_dir: str | Path | None = None,
) -> TrialRecord:
    """Train and measure one trial, and write its record.

    Parameters
    ----------
    number, values
        The trial's number and drawn parameters, for the record.
    settings
        The model's settings with these parameters, and with the epochs and jets that a trial may take.
    training, validation
        The clouds to train on and to measure with.
    folder
        The trial's own folder.
    grace
        Epochs after which the trial must have left the constant predictor.
    report
        Called after each epoch with its number and validation error; may raise `PrunedTrial`.
    log_dir
        Folder or URL of the TensorBoard log.

    Returns
    -------
    TrialRecord
        Also for a trial that failed: its error is in the record. Faults of the machine (`MemoryError`, a full disk)
        and interrupts are raised.
    """
    if (known := read_trial(folder)) is not None:
        return known
    folder.mkdir(parents=True, exist_ok=True)
    constant = constant_error(training, validation)
    watch = _Watch(folder / HISTORY, constant, grace, settings.training.epochs, report)
    start = time.perf_counter()
    state: State = "complete"
    metrics: dict[str, float] = {}
    error = None
    try:
        result = train(settings, training, validation, folder, log_dir=log_dir, progress=False, callback=watch)
        metrics = {
            OBJECTIVE: result.validation_mae, "parameters": result.parameters, "train_jets_per_s": result.jets_per_s,
            **_measure(folder, validation),
        }  # fmt: skip
    except PrunedTrial:
        state = "pruned"
    except _StuckTrial:
        state = "constant"
    except (JetcorrError, ArithmeticError, RuntimeError, ValueError) as problem:
        state, error = "failed", f"{type(problem).__name__}: {' '.join(str(problem).split())}"
    if np.isfinite(watch.best):
        metrics.setdefault(OBJECTIVE, watch.best)
    metrics |= {"constant_mae": constant, "epochs": watch.epoch, "seconds": time.perf_counter() - start}
    (folder / "state.pt").unlink(missing_ok=True)
    record = TrialRecord(number, state, values, {name: float(value) for name, value in metrics.items()}, error)
    write_record(folder, record)
    return record


class _Watch:
    """Follows a trial from epoch to epoch: keeps its history, and stops it where it is not worth going on."""

    def __init__(
        self, path: Path, constant: float, grace: int, epochs: int, report: Callable[[int, float], None] | None
    ) -> None:
        self.path, self.constant, self.report = path, constant, report
        self.grace = grace if grace < epochs else None
        # Of a trial that was interrupted: its training goes on where it was, and so does its history.
        self.rows = read_history(path).to_dict("records") if path.is_file() else []

    @property
    def epoch(self) -> int:
        return int(self.rows[-1]["epoch"]) if self.rows else 0

    @property
    def best(self) -> float:
        return min((row["validation_mae"] for row in self.rows), default=float("nan"))

    def __call__(self, epoch: int, row: dict[str, Any]) -> None:
        self.rows = [known for known in self.rows if known["epoch"] < epoch] + [{"epoch": epoch, **row}]
        with atomic_path(self.path) as path:
            pd.DataFrame(self.rows).to_csv(path, index=False)
        if self.report is not None:
            self.report(epoch, float(row["validation_mae"]))
        if epoch == self.grace and not self.best < MARGIN * self.constant:
            raise _StuckTrial


def _measure(folder: Path, validation: CloudDataset) -> dict[str, float]:
    """The physics of the trained network on the validation jets, and how fast it predicts."""
    model = load_model(folder)
    start = time.perf_counter()
    log_factor, _ = predict(model, validation)
    seconds = time.perf_counter() - start
    return {**response_metrics(validation.table, log_factor), "jets_per_s": len(validation) / seconds}

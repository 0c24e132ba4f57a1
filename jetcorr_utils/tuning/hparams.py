"""The parameters and metrics of trials for TensorBoard's HParams page."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ..metrics import trial_metrics
from .trial import TrialRecord

__all__ = ["write_hparams"]


def write_hparams(log_dir: str | Path, record: TrialRecord) -> None:
    """Write a trial's parameters and metrics into its TensorBoard folder.

    `SummaryWriter.add_hparams` would make a folder inside, and so a second run of the same trial.
    """
    metrics = {name: record.metrics[name] for name in trial_metrics() if name in record.metrics}
    with SummaryWriter(str(log_dir)) as writer:
        for summary in hparams({**record.values, "state": record.state}, {f"trial/{m}": v for m, v in metrics.items()}):
            writer.file_writer.add_summary(summary)
        for name, value in metrics.items():
            writer.add_scalar(f"trial/{name}", value)

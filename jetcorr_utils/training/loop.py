"""The training of one network, from a data set to a checkpoint; written to be read in one sitting.

Everything that is random comes from the seed of the settings and from the number of the epoch, so that a training that
was stopped and resumed gives the same weights, bit for bit, as one that never stopped.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ..errors import InputError
from ..files import locked
from ..models.allocator import keep_memory as keep_freed_memory
from ..models.denormals import denormals_as_zero
from ..models.inputs import sample_rows
from .records import Reports
from .result import TrainingResult, finished_result
from .state import TrainingState
from .torchrun import from_first_process, rank

if TYPE_CHECKING:
    from ..architectures import NetworkSettings
    from ..data.dataset import CloudDataset

__all__ = ["train"]

_log = logging.getLogger(__name__)


def train(
    settings: NetworkSettings,
    train: CloudDataset,
    validation: CloudDataset,
    folder: str | Path,
    *,
    log_dir: str | Path | None = None,
    progress: bool = True,
    metrics_file: str | Path | None = None,
    callback: Callable[[int, dict[str, float]], None] | None = None,
    resume: bool = True,
    device: str | None = None,
    amp: bool | None = None,
    compile: bool = False,
    keep_memory: bool = True,
) -> TrainingResult:
    """Train the network of `settings` and write its best state to `folder`.

    Parameters
    ----------
    settings
        Network and training.
    train, validation
        Jets with a generator jet.
    folder
        Gets checkpoint.pt, settings.json, history.csv, result.json, model_card.md; while the training runs state.pt.
    log_dir
        Folder or URL of the TensorBoard log.
    metrics_file
        File for Katib's collector, see `records.MetricsFile`.
    callback
        Called after each epoch with its number, from 1, and its row of the history; what it raises ends the training.
    resume
        Go on from state.pt in `folder` if it belongs to the same settings, data and code; and where this training has
        ended before, only say how it went.
    device
        Where to train; default: the GPU, where there is one.
    amp
        Whether in bfloat16 where that is safe (mixed precision); default: on GPUs that have it.
    compile
        Whether to compile the network with torch.compile: no gain at the published sizes on an H100, see gpu.json.
    keep_memory
        Tell the C allocator of this process to keep freed memory, see `models.allocator`.

    Raises
    ------
    InputError
        If there are no jets to train or to validate on, some of them have no generator jet, or another process trains
        in `folder`.
    TrainingError
        If a loss or a gradient is not finite; the batch is saved beside the checkpoint.
    """
    if not len(train) or not len(validation):
        raise InputError(f"cannot train on {len(train)} jets and validate on {len(validation)}: both need some")
    missing = int((~np.isfinite(train.target)).sum() + (~np.isfinite(validation.target)).sum())
    if missing:
        raise InputError(
            f"{missing} jets have no finite target log(genJetPt/jetPt): train on jets with a generator jet"
        )
    if keep_memory:
        keep_freed_memory()
    options = settings.training
    if options.max_jets is not None and options.max_jets < len(train):
        train = train.select(sample_rows(len(train), options.max_jets, options.seed))
    alone = locked(folder, "training", wait=False) if rank() == 0 else contextlib.nullcontext()
    with alone, denormals_as_zero(), torch.random.fork_rng():  # leaves the random state of the caller as it was
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if amp is None:
            amp = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported()
        run = TrainingState(settings, train, validation, device, amp, compile)
        if resume and (known := _finished(Path(folder), run.key)) is not None:
            return known
        reports = Reports(Path(folder), run, log_dir, metrics_file, progress)
        state = from_first_process(lambda: reports.saved_state(run.key) if resume else None)
        if state is not None:
            run.load_state(state)
            _log.info("resumed the training in %s after epoch %d", folder, run.epoch)
        with reports:
            while not run.finished:
                row = run.run_epoch(reports.folder)
                reports.epoch(row)
                if callback is not None and reports.first:
                    callback(run.epoch, row)
            result = run.result()
            reports.end(result)
    return result


def _finished(folder: Path, key: str) -> TrainingResult | None:
    """How the training went if it has ended before, in all processes."""

    def plain() -> dict[str, Any] | None:
        result = finished_result(folder, key)
        return None if result is None else vars(result) | {"history": result.history.to_dict("list")}

    known = from_first_process(plain)
    return None if known is None else TrainingResult(**known | {"history": pd.DataFrame(known["history"])})

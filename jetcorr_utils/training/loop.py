"""The training of one network, from a data set to a checkpoint; written to be read in one sitting.

Everything that is random comes from the seed of the settings and from the number of the epoch, so that a training that
was stopped and resumed gives the same weights, bit for bit, as one that never stopped.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import InputError, TrainingError, memory_errors, stopping
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

RUINED = 10.0
"""So many times the error of a constant is no network that learns too slowly, but one whose weights have exploded."""


def train(
    settings: NetworkSettings,
    train: CloudDataset,
    validation: CloudDataset,
    folder: str | Path,
    *,
    log_dir: str | Path | None = None,
    progress: bool = True,
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
    callback
        Called after each epoch with its number, from 1, and its row of the history; what it raises ends the training.
        Of a training that goes on it is told the rows before by `tell_earlier`.
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
    Stopped
        At Ctrl-C; the message says after which epoch.
    TrainingError
        If a loss or a gradient is not finite, and then the batch is saved beside the checkpoint; or if the network is
        far worse than a constant in the end.
    MemoryError
        If the memory of the machine or of the GPU is not enough.
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
    with (
        alone,
        memory_errors(),
        denormals_as_zero(),
        torch.random.fork_rng(),
    ):  # leaves the random state of the caller as it was
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if amp is None:
            amp = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported()
        run = TrainingState(settings, train, validation, device, amp, compile)
        if resume and (known := from_first_process(lambda: _ended(Path(folder), run.key))) is not None:
            return TrainingResult.from_plain(known)
        reports = Reports(Path(folder), run, log_dir, progress)
        state = from_first_process(lambda: reports.saved_state(run.key) if resume else None)
        if state is not None:
            run.load_state(state)
            _log.info("resumed the training in %s after epoch %d", folder, run.epoch)
            if callback is not None and reports.first:
                tell_earlier(callback, run.rows)
        saved = run.epoch
        with reports, stopping(lambda: f"stopped after epoch {saved} of {options.epochs}"):
            while not run.finished:
                row = run.run_epoch(reports.folder)
                reports.epoch(row)
                saved = run.epoch
                if callback is not None and reports.first:
                    callback(run.epoch, row)
                reports.show(row)
            result = run.result()
            _refuse_useless(result)
            reports.end(result)
    return result


def tell_earlier(callback: Callable[[int, dict[str, float]], None], rows: Sequence[dict[str, float]]) -> None:
    """Tell a callback of the epochs before it was there: by its method ``earlier`` all at once, or else one by one."""
    if (earlier := getattr(callback, "earlier", None)) is not None:
        earlier(rows)
    else:
        for row in rows:
            callback(int(row["epoch"]), row)


def _refuse_useless(result: TrainingResult) -> None:
    """Raise if the training has ruined the network, and say so if it knows no more of a jet than a constant."""
    compared = f"its best validation error is {result.validation_mae:.3g}, that of a constant {result.constant_mae:.3g}"
    if result.validation_mae > RUINED * result.constant_mae:
        raise TrainingError(f"the training has ruined the network: {compared}; lower training.learning_rate")
    if result.validation_mae >= result.constant_mae:
        _log.warning("the network has learned nothing: %s; look at training.learning_rate", compared)


def _ended(folder: Path, key: str) -> dict[str, Any] | None:
    """The result of this training where it has ended before, in the plain values that travel between processes."""
    known = finished_result(folder, key)
    return None if known is None else known.plain()

"""The training of one network, from a data set to a checkpoint; written to be read in one sitting.

Everything that is random comes from the seed of the settings and from the number of the epoch, so that a training that
was stopped and resumed gives the same weights, bit for bit, as one that never stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..data.batches import BatchLoader, CloudBatch
from ..data.labels import paper_flavour
from ..errors import InputError, TrainingError
from ..files import atomic_path, locked
from ..models import CloudNetwork, build_model, correction
from ..models.allocator import keep_memory as keep_freed_memory
from ..models.denormals import denormals_as_zero
from ..models.distributed import process_count, total_over_processes
from ..models.inputs import sample_rows
from ..models.losses import CorrectionLoss
from .distributed import from_first_process, in_parallel, rank, share_of
from .optimizers import Schedule, build_optimizer
from .records import Reports
from .result import TrainingResult

if TYPE_CHECKING:
    from ..config import ModelSettings
    from ..data.clouds import CloudDataset

__all__ = ["predict", "train"]

_log = logging.getLogger(__name__)
_EVALUATION_BATCH = 1000


def train(
    settings: ModelSettings,
    train: CloudDataset,
    validation: CloudDataset,
    folder: str | Path,
    *,
    log_dir: str | Path | None = None,
    progress: bool = True,
    metrics_file: str | Path | None = None,
    callback: Callable[[int, dict[str, float]], None] | None = None,
    resume: bool = True,
    keep_state: bool = False,
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
        Go on from state.pt in `folder` if it belongs to the same settings and data.
    keep_state
        Keep state.pt after the last epoch: the same call then finds the training done. See `train_models`.
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
        run = _Run(settings, train, validation, device, amp, compile)
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
            reports.end(result, keep_state=keep_state)
    return result


def predict(model: CloudNetwork, dataset: CloudDataset, batch_size: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """The log of the correction factor and its resolution for each jet of `dataset`, both `(B,)` float32."""
    outputs = _evaluate(model, dataset, batch_size, next(model.parameters()).device)
    factor, sigma = correction(outputs)
    return factor.numpy(), sigma.numpy()


@torch.inference_mode()
def _evaluate(model: nn.Module, dataset: CloudDataset, batch_size: int, device: Any) -> Tensor:
    """Outputs `(B, 3)` in the order of the data set; processes that train together share the work."""
    training = model.training
    model.eval()
    outputs = torch.zeros(len(dataset), 3)
    first, last = share_of(len(dataset))
    for batch in BatchLoader(dataset.slice(first, last), batch_size):
        outputs[first + batch.index] = _forward(model, batch, device).float().cpu()
    model.train(training)
    return torch.from_numpy(total_over_processes(outputs.numpy()))


def _forward(model: nn.Module, batch: CloudBatch, device: Any) -> Tensor:
    return model(batch.particles.to(device), batch.jets.to(device), batch.ptr.to(device))


class _Run:
    """A training under way: the network, what moves it, and how far it is."""

    def __init__(
        self,
        settings: ModelSettings,
        train: CloudDataset,
        validation: CloudDataset,
        device: str,
        amp: bool,
        compile: bool,
    ) -> None:
        self.options = settings.training
        self.train, self.validation = train, validation
        self.key = f"{settings.key()}-{train.key}-{len(train)}-{len(validation)}-{device}-{amp}-{compile}"
        self.device = torch.device(device)
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=amp)
        torch.manual_seed(self.options.seed)
        self.model = build_model(settings)
        self.model.fit_constants(train)
        self.model.to(self.device)
        self.network = in_parallel(torch.compile(self.model, dynamic=True) if compile else self.model)
        self.loss = CorrectionLoss(self.options).to(self.device)
        self.loader = BatchLoader(
            train,
            self.options.batch_size,
            shuffle=True,
            seed=self.options.seed,
            rank=rank(),
            world_size=process_count(),
        )
        self.optimizer = build_optimizer(self.model, self.options)
        self.schedule = Schedule(self.optimizer, self.options, len(self.loader))
        self.validation_labels = _labels(validation)
        self.epoch = self.best_epoch = 0
        self.best_loss = float("inf")
        self.train_seconds = 0.0
        self.rows: list[dict[str, float]] = []

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done, or the validation loss has not improved for too long."""
        return self.epoch >= self.options.epochs or self.epoch - self.best_epoch >= self.options.patience

    def run_epoch(self, folder: Path) -> dict[str, float]:
        """Train for one epoch, validate, and return the row of the history."""
        start = time.perf_counter()
        self.epoch += 1
        rate = self.schedule.rate
        row = {"epoch": self.epoch, **self._train_epoch(folder)}
        self.train_seconds += time.perf_counter() - start
        row |= self._validate()
        if not np.isfinite(row["validation_loss"]):
            raise TrainingError(
                f"the validation loss of epoch {self.epoch} is {row['validation_loss']}; lower training.learning_rate"
            )
        row |= {"learning_rate": rate, "seconds": time.perf_counter() - start}
        self.schedule.end_epoch(row["validation_loss"])
        if row["validation_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = row["validation_loss"], self.epoch
        self.rows.append(row)
        return row

    def _train_epoch(self, folder: Path) -> dict[str, float]:
        self.model.train()
        self.loader.set_epoch(self.epoch)
        torch.manual_seed(self.options.seed + 1_000_003 * self.epoch + rank())
        sums = np.zeros(3)  # of the loss and of the absolute error over jets, and their number
        for step, batch in enumerate(self.loader):
            size = min(self.options.batch_size, len(self.train) - step * self.options.batch_size)  # of all processes
            sums += size * np.array([*self._step(batch, folder), 1.0])
        sums = total_over_processes(sums)
        loss, mae, jets = sums.tolist()
        return {"train_loss": loss / jets, "train_mae": mae / jets}

    def _step(self, batch: CloudBatch, folder: Path) -> tuple[float, float]:
        with self.autocast:
            outputs = _forward(self.network, batch, self.device)
        labels = (x.to(self.device) for x in (batch.target, batch.flavour, batch.gen_pt))
        terms = self.loss(outputs.float(), *labels)
        loss = self.loss.total(terms)
        value = loss.item()
        if not np.isfinite(value):
            raise _not_finite(f"the loss of a batch in epoch {self.epoch} is {value}", batch, folder)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.options.gradient_clip).item()
        if not np.isfinite(norm):
            raise _not_finite(f"the gradient of a batch in epoch {self.epoch} has the norm {norm}", batch, folder)
        self.optimizer.step()
        self.schedule.step()
        return value, terms["mae"].item()

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        outputs = _evaluate(self.model, self.validation, _EVALUATION_BATCH, self.device)
        # A loss of its own over all jets at once: the running means of the training stay out of it
        loss = CorrectionLoss(self.options)
        terms = loss(outputs, *self.validation_labels)
        values = {f"validation_{name}": term.item() for name, term in terms.items()}
        return {"validation_loss": loss.total(terms).item(), **values}

    def state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on."""
        return {
            "key": self.key, "epoch": self.epoch, "best_epoch": self.best_epoch, "best_loss": self.best_loss,
            "train_seconds": self.train_seconds, "rows": self.rows, "model": self.model.state_dict(),
            "loss": self.loss.state_dict(), "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        for part in ("model", "loss", "optimizer", "schedule"):
            getattr(self, part).load_state_dict(state[part])
        for name in ("epoch", "best_epoch", "best_loss", "train_seconds", "rows"):
            setattr(self, name, state[name])

    def result(self) -> TrainingResult:
        """How it went."""
        history = pd.DataFrame(self.rows)
        target = np.asarray(self.validation.target)
        return TrainingResult(
            history=history,
            best_epoch=self.best_epoch,
            validation_mae=float(history["validation_mae"][self.best_epoch - 1]),
            constant_mae=float(np.abs(target - np.median(self.train.target)).mean()),
            seconds=float(history["seconds"].sum()),
            jets_per_s=len(self.train) * self.epoch / self.train_seconds,
            parameters=sum(p.numel() for p in self.model.parameters()),
        )


def _labels(dataset: CloudDataset) -> tuple[Tensor, Tensor, Tensor]:
    """Target, paper flavour and generator pt (GeV) of all jets of a data set."""
    table = dataset.table
    flavour = paper_flavour(table["hadronFlav"], table["partonFlav"])
    target, gen_pt = (torch.from_numpy(np.array(x, dtype=np.float32)) for x in (dataset.target, table["genJetPt"]))
    return target, torch.from_numpy(np.array(flavour, dtype=np.int64)), gen_pt


def _not_finite(what: str, batch: CloudBatch, folder: Path) -> TrainingError:
    path = folder / "bad_batch.pt"
    with atomic_path(path) as temporary:
        torch.save(dataclasses.asdict(batch), temporary)
    return TrainingError(
        f"{what}; the batch is in {path}; look for values that are not finite in it, or lower training.learning_rate"
    )

"""A training under way: what changes from step to step, and all that it takes to go on after an interruption."""

from __future__ import annotations

import dataclasses
import inspect
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..data.batches import BatchLoader, CloudBatch
from ..errors import TrainingError
from ..files import atomic_path
from ..imported_code import code_key
from ..jets.flavours import paper_flavour
from ..models import build_model
from ..models.losses import CorrectionLoss
from ..models.process_sums import process_count, total_over_processes
from .optimizers import build_optimizer, build_schedules
from .prediction import evaluate, forward
from .result import TrainingResult
from .torchrun import in_parallel, rank

if TYPE_CHECKING:
    from ..architectures import NetworkSettings
    from ..data.dataset import CloudDataset

__all__ = ["TrainingState"]

_EVALUATION_BATCH = 1000


class TrainingState:
    """A training under way: the network, what moves it, and how far it is."""

    def __init__(
        self,
        settings: NetworkSettings,
        train: CloudDataset,
        validation: CloudDataset,
        device: str,
        amp: bool,
        compile: bool,
    ) -> None:
        self.options = settings.training
        self.train, self.validation = train, validation
        self.device = torch.device(device)
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=amp)
        torch.manual_seed(self.options.seed)
        self.model = build_model(settings)
        code = code_key(Path(__file__), Path(inspect.getfile(type(self.model))))
        self.key = f"{settings.key()}-{train.key}-{len(train)}-{len(validation)}-{device}-{amp}-{compile}-{code}"
        self.model.fit_constants(train)
        self.model.to(self.device)
        self.network = in_parallel(torch.compile(self.model, dynamic=True) if compile else self.model)
        self.loss = CorrectionLoss(self.options).to(self.device)
        self.loader = BatchLoader(
            train, self.options.batch_size, shuffle=True, seed=self.options.seed, shard_jets=self.options.shard_jets,
            rank=rank(), world_size=process_count(),
        )  # fmt: skip
        self.optimizer = build_optimizer(self.model, self.options)
        self.schedule, self.plateau = build_schedules(self.optimizer, self.options, len(self.loader))
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
        rate = self.optimizer.param_groups[0]["lr"]
        row = {"epoch": self.epoch, **self._train_epoch(folder)}
        self.train_seconds += time.perf_counter() - start
        row |= self._validate()
        if not np.isfinite(row["validation_loss"]):
            raise TrainingError(
                f"the validation loss of epoch {self.epoch} is {row['validation_loss']}; lower training.learning_rate"
            )
        row |= {"learning_rate": rate, "seconds": time.perf_counter() - start}
        self.plateau.step(row["validation_loss"])
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
        loss, mae, jets = total_over_processes(sums).tolist()
        return {"train_loss": loss / jets, "train_mae": mae / jets}

    def _step(self, batch: CloudBatch, folder: Path) -> tuple[float, float]:
        with self.autocast:
            outputs = forward(self.network, batch, self.device)
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
        outputs = evaluate(self.model, self.validation, _EVALUATION_BATCH, self.device)
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
            "schedule": self.schedule.state_dict(), "plateau": self.plateau.state_dict(),
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        for part in ("model", "loss", "optimizer", "schedule", "plateau"):
            getattr(self, part).load_state_dict(state[part])
        for name in ("epoch", "best_epoch", "best_loss", "train_seconds", "rows"):
            setattr(self, name, state[name])

    def result(self) -> TrainingResult:
        """How it went."""
        history = pd.DataFrame(self.rows)
        target = np.asarray(self.validation.target)
        return TrainingResult(
            history=history, best_epoch=self.best_epoch,
            validation_mae=float(history["validation_mae"][self.best_epoch - 1]),
            constant_mae=float(np.abs(target - np.median(self.train.target)).mean()),
            seconds=float(history["seconds"].sum()), jets_per_s=len(self.train) * self.epoch / self.train_seconds,
            parameters=sum(p.numel() for p in self.model.parameters()),
        )  # fmt: skip


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

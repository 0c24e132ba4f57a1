"""Where the training reports to while it runs: TensorBoard, and its files at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tqdm.auto import tqdm

from ..addresses import refuse_secrets
from .card import write_model_card
from .checkpoint import CHECKPOINT, STATE, read_state, save_model, write_state
from .result import TrainingResult, save_result
from .torchrun import rank

if TYPE_CHECKING:
    from torch import nn

    from .state import TrainingState

__all__ = ["Reports", "TensorBoardLog"]


CARD = "model_card.md"


class Reports:
    """What a training writes, and who is told: only the first process of a distributed training does so."""

    def __init__(self, folder: Path, run: TrainingState, log_dir: str | Path | None, progress: bool) -> None:
        self.first = rank() == 0
        self.folder, self.state = folder, folder / STATE
        self._run, self._log_dir = run, log_dir
        self._progress = progress and self.first

    def __enter__(self) -> Self:
        options = self._run.options
        self._bar = tqdm(
            total=options.epochs, initial=self._run.epoch, unit="epoch", desc=self.folder.name,
            disable=not self._progress,
        )  # fmt: skip
        self._board = TensorBoardLog(self._log_dir if self.first else None, first_epoch=self._run.epoch + 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._board.close()
        if self._run.finished and self._run.epoch < self._run.options.epochs:  # a bar that is not full ends red
            epochs = self._run.options.epochs
            self._bar.set_description(f"{self.folder.name}, stopped early at {self._run.epoch} of {epochs}", False)
            self._bar.total = self._run.epoch
            self._bar.refresh()
        self._bar.close()

    def saved_state(self, key: str) -> dict[str, Any] | None:
        """The state of the training `key` that was interrupted here, if its best network lies beside it."""
        return read_state(self.state, key) if (self.folder / CHECKPOINT).is_file() else None

    def epoch(self, row: dict[str, float]) -> None:
        """After each epoch: logs, the best checkpoint, and the state to resume from."""
        if not self.first:
            return
        run = self._run
        self._board.epoch(row, run.model)
        if run.best_epoch == run.epoch:
            save_model(run.model, self.folder, run.train.origin)
        write_state(self.state, run.state())

    def show(self, row: dict[str, float]) -> None:
        """Move the bar: to an epoch that is kept, and told to the callback, so that who stops then reads its number."""
        self._bar.set_postfix(loss=f"{row['train_loss']:.5f}", validation=f"{row['validation_mae']:.5f}")
        self._bar.update()

    def end(self, result: TrainingResult) -> None:
        """After the last epoch: history and model card; nothing is left to resume."""
        if not self.first:
            return
        run = self._run
        write_model_card(self.folder / CARD, run.model.settings, result, run.train, run.validation)
        save_result(result, self.folder, run.key, (CHECKPOINT, "settings.json", CARD))
        self.state.unlink()


class TensorBoardLog:
    """Scalars and histograms of the weights; `folder` is a local path or any URL that fsspec knows (``s3://…``).

    Without a folder nothing is kept.
    """

    def __init__(self, folder: str | Path | None, first_epoch: int = 1) -> None:
        self._writer, self._folder = None, str(folder)
        if folder is not None:
            refuse_secrets(self._folder)
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            # What an interrupted training logged after its last saved epoch is hidden
            self._writer = SummaryWriter(self._folder, purge_step=first_epoch)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()

    def epoch(self, row: dict[str, float], model: nn.Module) -> None:
        """Add one row of the history, and the distributions of the weights after it."""
        if self._writer is None:
            return
        step = int(row["epoch"])
        try:
            for name, value in row.items():
                if name != "epoch":
                    self._writer.add_scalar(name.replace("_", "/", 1), value, step)
            for name, parameter in model.named_parameters():
                self._writer.add_histogram(name, parameter.detach(), step)
            self._writer.flush()
        except OSError as error:
            error.filename = error.filename or self._folder
            raise

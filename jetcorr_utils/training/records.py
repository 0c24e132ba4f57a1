"""Where the training reports to while it runs: TensorBoard, a metrics file for Katib, and the model card at its end."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tqdm.auto import tqdm

from ..files import atomic_path, write_text
from .checkpoint import save_model, write_state
from .distributed import rank

if TYPE_CHECKING:
    from torch import nn

    from ..config import ModelSettings
    from .loop import TrainingResult, _Run

__all__ = ["MetricsFile", "Reports", "TensorBoardLog", "write_model_card"]


class Reports:
    """What a training writes, and who is told: only the first process of a distributed training does so."""

    def __init__(
        self, folder: Path, run: _Run, log_dir: str | Path | None, metrics_file: str | Path | None, progress: bool
    ) -> None:
        self.first = rank() == 0
        self.folder, self.state = folder, folder / "state.pt"
        self._run, self._log_dir = run, log_dir
        self._metrics = MetricsFile(metrics_file if self.first else None)
        self._progress = progress and self.first

    def __enter__(self) -> Self:
        options = self._run.options
        self._bar = tqdm(total=options.epochs, initial=self._run.epoch, unit="epoch", disable=not self._progress)
        self._board = TensorBoardLog(self._log_dir if self.first else None, first_epoch=self._run.epoch + 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._board.close()
        self._bar.close()

    def epoch(self, row: dict[str, float]) -> None:
        """After each epoch: logs, the best checkpoint, and the state to resume from."""
        run = self._run
        self._bar.set_postfix(loss=f"{row['train_loss']:.5f}", validation=f"{row['validation_mae']:.5f}")
        self._bar.update()
        if not self.first:
            return
        self._board.epoch(row, run.model)
        self._metrics.epoch(row)
        if run.best_epoch == run.epoch:
            save_model(run.model, self.folder)
        write_state(self.state, run.state())

    def end(self, result: TrainingResult) -> None:
        """After the last epoch: history and model card; nothing is left to resume."""
        if not self.first:
            return
        run = self._run
        with atomic_path(self.folder / "history.csv") as path:
            result.history.to_csv(path, index=False)
        data = {"jets": len(run.train), "validation_jets": len(run.validation), "key": run.train.key}
        write_model_card(self.folder / "model_card.md", run.model.settings, result, data)
        self.state.unlink()


class TensorBoardLog:
    """Scalars and histograms of the weights; `folder` is a local path or any URL that fsspec knows (``s3://…``).

    Without a folder nothing is kept.
    """

    def __init__(self, folder: str | Path | None, first_epoch: int = 1) -> None:
        self._writer = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            # What an interrupted training logged after its last saved epoch is hidden
            self._writer = SummaryWriter(str(folder), purge_step=first_epoch)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()

    def epoch(self, row: dict[str, float], model: nn.Module) -> None:
        """Add one row of the history, and the distributions of the weights after it."""
        if self._writer is None:
            return
        step = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name.replace("_", "/", 1), value, step)
        for name, parameter in model.named_parameters():
            self._writer.add_histogram(name, parameter.detach(), step)
        self._writer.flush()


class MetricsFile:
    """A file that Katib's collector reads: `name=value` lines, or JSON lines where the name ends in .json or .jsonl.

    A value that is not finite is left out, because the collector would read it as empty.
    """

    def __init__(self, path: str | Path | None) -> None:
        self._path = Path(path) if path is not None else None
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)

    def epoch(self, row: dict[str, float]) -> None:
        """Append one row of the history."""
        if self._path is None:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        finite = {name: f"{value:.8g}" for name, value in row.items() if math.isfinite(value)}
        if self._path.suffix in {".json", ".jsonl"}:
            text = json.dumps({**finite, "timestamp": now}) + "\n"
        else:
            text = "".join(f"{now} {name}={value}\n" for name, value in finite.items())
        with self._path.open("a") as file:
            file.write(text)


def write_model_card(path: Path, settings: ModelSettings, result: TrainingResult, data: dict[str, Any]) -> None:
    """Write what a user of the trained model must know, as Markdown.

    Parameters
    ----------
    path
        The file to write.
    settings, result
        What was trained, and how it went.
    data
        `jets` and `validation_jets`, and the `key` of the data set.
    """
    training = settings.training
    loss = f"mean absolute error + {training.resolution_weight:g} × quantile loss"
    if training.flavour_balance:
        loss += f" + {training.flavour_balance:g} × flavour balance"
    shape = settings.model_dump(mode="json", exclude={"training", "architecture", "features"})
    rows = "\n".join(f"| {name} | {value} |" for name, value in shape.items())
    text = f"""# Model card: {settings.architecture}

**What it does.** Corrects the momentum of a jet: it predicts log(pt_gen/pt) from the particles of the jet and from the
jet itself, where pt is the standard-corrected one (L1 + L2L3), and how well the pt of this jet is known.

**Input.** Feature set `{settings.features}`, physical units (GeV, PDG ids); all transformations are inside the model.

**Output.** Median of log(pt_gen/pt), and the distances to its 16 % and 84 % quantiles.

| setting | value |
|---|---|
{rows}
| parameters | {result.parameters} |

**Training.** {data["jets"]} jets (data `{data["key"]}`), {loss}, {training.optimizer} with learning rate
{training.learning_rate:g} ({training.schedule}), batch size {training.batch_size}, seed {training.seed}. Best epoch
{result.best_epoch} of {len(result.history)}.

**Quality.** Mean absolute error of log(pt_gen/pt) on {data["validation_jets"]} validation jets:
{result.validation_mae:.5f}; the best constant gives {result.constant_mae:.5f}. Resolution, closure and flavour
dependence on the test jets are in `metrics.json` of the run.

**Limits.** Learned from simulation, for jets like those of the training: its range of pt and eta, its clustering radius
(0.4) and its pileup. The correction inherits the training spectrum (arXiv:2205.05084). Data need a residual correction
on top. One jet of a batch does not influence another.
"""
    write_text(path, text)

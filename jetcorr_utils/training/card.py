"""The model card: what a user of a trained network must know, as Markdown beside the checkpoint (arXiv:1810.03993)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..data.ranges import jet_range
from ..files import write_text
from ..looks import look_of

if TYPE_CHECKING:
    from ..config import ModelSettings, TrainingSettings
    from ..data.dataset import CloudDataset
    from .result import TrainingResult

__all__ = ["write_model_card"]

_RANGES = {"jetPt": "pt that is corrected [GeV]", "abs(jetEta)": "abs(eta)", "particles": "particles"}


def write_model_card(
    path: Path, settings: ModelSettings, result: TrainingResult, train: CloudDataset, validation: CloudDataset
) -> None:
    """Write what a user of the trained model must know.

    Parameters
    ----------
    path
        The file to write.
    settings, result
        What was trained, and how it went.
    train, validation
        The jets that it was trained on and chosen by.
    """
    training = settings.training
    text = f"""# Model card: {settings.architecture}

**What it does.** Corrects the momentum of a jet: it predicts log(pt_gen/pt) from the particles of the jet and from the
jet itself, where pt is {_corrected(train)}, and how well the pt of this jet is known.

## Network

{_table(settings.model_dump(mode="json", exclude={"training", "architecture"}) | {"parameters": result.parameters})}

**Input.** All particles of a jet, unordered, in physical units (GeV, PDG ids); all transformations are inside.
Of each particle: {", ".join(train.columns)}.
Of the jet: {", ".join(train.jet_columns)}.

**Output.** Median of log(pt_gen/pt), and the distances to its 16 % and 84 % quantiles.

## Data

{len(train)} jets to train on, {len(validation)} to choose the best epoch by (data `{train.key}`), of different events.
{_selection(train)}

{_ranges(train)}

## Training

Loss: {_loss(training)}. {training.optimizer} with learning rate {training.learning_rate:g} ({training.schedule}
schedule, warm-up of {_epochs(training.warmup)}), batch size {training.batch_size}, gradients clipped at
{training.gradient_clip:g}, seed {training.seed}. Best epoch {result.best_epoch} of {len(result.history)}.

## Quality

Mean absolute error of log(pt_gen/pt) on the validation jets: {result.validation_mae:.5f}; the best constant gives
{result.constant_mae:.5f}. Resolution, closure and flavour dependence on the test jets, with errors and in bins, are in
`metrics.json` of the run.

## Use

In the folder of the run:

```python
from jetcorr_utils.config import load_study
from jetcorr_utils.data import load_clouds
from jetcorr_utils.training import load_model, predict

model = load_model("{path.parent.parent.name}/{path.parent.name}")
clouds = load_clouds(load_study("study.yaml").data, model.settings.features)  # or a study with jets of your own
log_factor, sigma = predict(model, clouds.split("test"))
```

Files of jets are corrected by `jetcorr correct FILE --model RUN --out OUT.root`, once the run's network is exported.

## Limits

- Learned from simulation: data need a residual correction on top.
- For jets like those above: outside the ranges of pt, eta and multiplicity, for another clustering radius than 0.4 or
  another pileup it extrapolates.
- The correction inherits the spectrum of the training jets (arXiv:2205.05084).
- Corrects one jet at a time; energy that another jet has taken, or that no particle of the cloud carries, is known to
  it only on average.
"""
    write_text(path, text)


def _table(rows: dict[str, object], first: str = "setting", second: str = "value") -> str:
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join([f"| {first} | {second} |", "|---|---|", *lines])


def _loss(training: TrainingSettings) -> str:
    loss = f"mean absolute error + {training.resolution_weight:g} × quantile loss"
    return loss + (f" + {training.flavour_balance:g} × flavour balance" if training.flavour_balance else "")


def _epochs(number: float) -> str:
    return f"{number:g} epoch{'' if number == 1 else 's'}"


def _corrected(dataset: CloudDataset) -> str:
    """Which pt the network corrects, `data.target`."""
    raw = dataset.info.get("recipe", {}).get("target") == "raw"
    return "the raw one" if raw else f"the standard-corrected one ({look_of('standard').label})"


def _selection(dataset: CloudDataset) -> str:
    """The selection in words; nothing for clouds that do not come from a cache."""
    cuts = dataset.info.get("recipe", {}).get("selection")
    if cuts is None:
        return ""
    return (
        f"Selected: pt > {cuts['min_pt']:g} GeV, abs(eta) < {cuts['max_abs_eta']:g}, "
        f"gen pt > {cuts['min_gen_pt']:g} GeV, abs(gen eta) < {cuts['max_abs_gen_eta']:g}."
    )


def _ranges(dataset: CloudDataset) -> str:
    limits = jet_range(dataset)
    rows: dict[str, object] = {text: "{:.4g} to {:.4g}".format(*limits[name]) for name, text in _RANGES.items()}
    return _table(rows, "training jets", "range")

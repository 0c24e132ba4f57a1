"""What a search has found: the table of its trials, the best settings, and what the figures show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
from pydantic import TypeAdapter

from ..config import Choice, ModelSettings, Space, Study
from ..errors import InputError, TrainingError
from ..files import known_shape, read_json
from ..metrics import METRICS, OBJECTIVE, trial_metrics
from ..training import read_history
from .queue import quiet_optuna
from .space import apply_parameters, contains, distributions
from .trial import HISTORY, RECORD, TrialRecord, read_trial

__all__ = ["SearchResult", "describe_search", "load_search", "pareto_front"]

SEARCH = "search.json"
OWN = "000"  # the folder of the trial with the study's own settings


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search.

    Attributes
    ----------
    folder
        Where the search lies.
    settings
        The model's own settings, which the trials vary.
    space
        The search space.
    trials
        One row a trial, indexed by its number: `state`, the parameters by name, the metrics (`mae` is the best
        validation error; NaN where the trial did not get so far), `error`, and the name of its `folder`.
    histories
        One row an epoch and trial: `trial`, `epoch`, `validation_mae` and what else the training noted.
    """

    folder: Path
    settings: ModelSettings
    space: dict[str, Space]
    trials: pd.DataFrame
    histories: pd.DataFrame

    @property
    def complete(self) -> pd.DataFrame:
        """The trials that ran to their end."""
        return self.trials[self.trials["state"] == "complete"]

    @property
    def best(self) -> int:
        """The number of the trial with the least validation error.

        Raises
        ------
        TrainingError
            If no trial ran to its end; the message has the first error.
        """
        if self.complete.empty:
            errors = self.trials["error"].dropna()
            why = errors.iloc[0] if len(errors) else "all trials were stopped early"
            raise TrainingError(f"{self.folder}: no trial of the search ran to its end: {why}")
        return int(self.complete["mae"].idxmin())

    @property
    def best_values(self) -> dict[str, Any]:
        """The parameters of the best trial."""
        return read_trial(self.folder / self.trials["folder"][self.best]).values

    @property
    def best_settings(self) -> ModelSettings:
        """The model's settings with the best trial's parameters, and else as in the study."""
        return apply_parameters(self.settings, self.best_values)

    @property
    def summary(self) -> dict[str, Any]:
        """What metrics.json has of it."""
        return {
            "trials": len(self.trials), "states": self.trials["state"].value_counts().to_dict(),
            "best": self.best_values, "best_trial": self.best, "best_mae": float(self.trials.loc[self.best, "mae"]),
        }  # fmt: skip

    def table(self) -> pd.DataFrame:
        """The trials for a reader: best first, without what all have in common; the errors of those that failed."""
        table = self.trials.drop(columns=["constant_mae", "folder"]).sort_values("mae")
        if table["error"].isna().all():
            table = table.drop(columns="error")
        table.columns = [name.removeprefix("training.") for name in table.columns]
        digits = {name: METRICS[name].digits if name in METRICS else 4 for name in table.select_dtypes(float)}
        whole = [name for name in trial_metrics() if METRICS[name].digits == 0]
        return table.round(digits).astype(dict.fromkeys(whole, "Int64"))

    def correlations(self, metric: str = OBJECTIVE) -> pd.DataFrame:
        """Correlation of each numeric parameter with a metric: one row a parameter; pearson, kendall, spearman.

        Parameters that are sampled on a logarithmic scale are correlated by their logarithm.
        """
        table = self.complete
        columns = {name: _numbers(table[name], values) for name, values in self.space.items()}
        methods = ("pearson", "kendall", "spearman")
        rows = {
            name: {method: _correlation(column, table[metric], method) for method in methods}
            for name, column in columns.items()
            if column is not None
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=list(methods))

    def importance(self) -> pd.Series:
        """Share of each parameter in the validation error, by PED-ANOVA (arXiv:2304.10255); they add up to one.

        Empty with fewer than four complete trials.
        """
        table = self.complete.dropna(subset=[OBJECTIVE])
        table = table[[all(contains(self.space[n], row[n]) for n in self.space) for _, row in table.iterrows()]]
        if len(table) < 4 or table[OBJECTIVE].nunique() < 2:
            return pd.Series(dtype=float, name="importance")
        with quiet_optuna():
            study = optuna.create_study()
        for _, row in table.iterrows():
            params = {name: _plain(row[name]) for name in self.space}
            value, space = float(row[OBJECTIVE]), distributions(self.space)
            study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=value))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        return pd.Series(shares, name="importance").sort_values(ascending=False)

    def pareto(self, metrics: Sequence[str]) -> pd.DataFrame:
        """The complete trials that no other one beats in all metrics at once."""
        return self.complete[pareto_front(self.complete, metrics)]


def load_search(folder: str | Path) -> SearchResult:
    """Read a search, also one that is still at work.

    Raises
    ------
    InputError
        If there is no search in the folder, or a trial's files are not as it left them.
    """
    folder = Path(folder)
    if not (folder / SEARCH).is_file():
        raise InputError(f"{folder}: there is no search here; run `jetcorr tune` or notebook 03 first")
    search = read_json(folder / SEARCH)
    with known_shape(folder / SEARCH):
        settings = TypeAdapter(ModelSettings).validate_python(search["settings"])
        space = TypeAdapter(dict[str, Space]).validate_python(search["space"])
        source, trials = str(search["source"]), int(search["trials"])
    records = _local_records(folder, trials) if source == "local" else _katib_records(folder)
    return SearchResult(folder, settings, space, _table(records, list(space)), _histories(folder, records))


def describe_search(study: Study, source: Literal["local", "katib"] = "local") -> dict[str, Any]:
    """What `load_search` has to know of a search, for its file `search.json`."""
    tuning = study.tuning.model_dump(mode="json")
    kept = ("model", "space", "sampler", "pruner", "seed", "trials")
    settings = study.models[study.tuning.model].model_dump(mode="json")
    return {"source": source, "settings": settings, **{name: tuning[name] for name in kept}}


def pareto_front(table: pd.DataFrame, metrics: Sequence[str]) -> np.ndarray:
    """Which rows no other row beats: at least as good in all metrics and better in one. Boolean, (rows,)."""
    cost = np.stack([METRICS[metric].cost(table[metric].to_numpy(float)) for metric in metrics], axis=1)
    no_worse = (cost[:, None, :] <= cost[None, :, :]).all(axis=2)
    better = (cost[:, None, :] < cost[None, :, :]).any(axis=2)
    return ~(no_worse & better).any(axis=0)


def _local_records(folder: Path, trials: int) -> dict[str, TrialRecord]:
    """The records of a local search by their folders' names."""
    found = {f"{number:03d}": read_trial(folder / f"{number:03d}") for number in range(trials)}
    return {name: record for name, record in found.items() if record is not None}


def _katib_records(folder: Path) -> dict[str, TrialRecord]:
    """The records of a Katib experiment, which names its trials: numbered from 1 in the order in which they ended.

    0 is the trial of the study's own settings, as in a local search, where it was run beside the experiment.
    """
    paths = sorted(folder.glob(f"*/{RECORD}"), key=lambda path: (path.parent.name != OWN, path.stat().st_mtime_ns))
    first = 0 if paths and paths[0].parent.name == OWN else 1
    return {path.parent.name: replace(read_trial(path.parent), number=n) for n, path in enumerate(paths, first)}


def _table(records: Mapping[str, TrialRecord], names: Sequence[str]) -> pd.DataFrame:
    rows = [
        {"number": r.number, "state": r.state, **r.values, "error": r.error, "folder": name}
        | {metric: r.metrics.get(metric, np.nan) for metric in trial_metrics()}
        for name, r in records.items()
    ]
    columns = ["number", "state", *names, *trial_metrics(), "error", "folder"]
    return pd.DataFrame(rows, columns=columns).set_index("number").sort_index()


def _histories(folder: Path, records: Mapping[str, TrialRecord]) -> pd.DataFrame:
    parts = []
    for name, record in records.items():
        path = folder / name / HISTORY
        if record.metrics.get("epochs") and path.is_file():
            parts.append(read_history(path).assign(trial=record.number))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["trial", "epoch", "validation_mae"])


def _numbers(column: pd.Series, values: Space) -> pd.Series | None:
    """The column as numbers that may be correlated, None if it has words."""
    if isinstance(values, Choice) and any(isinstance(choice, str) for choice in values.choices):
        return None
    numbers = column.astype(float)
    return np.log(numbers) if getattr(values, "log", False) else numbers


def _correlation(first: pd.Series, second: pd.Series, method: str) -> float:
    both = pd.concat([first, second], axis=1).dropna()
    if len(both) < 3 or both.iloc[:, 0].nunique() < 2 or both.iloc[:, 1].nunique() < 2:
        return float("nan")
    return float(both.iloc[:, 0].corr(both.iloc[:, 1], method=method))


def _plain(value: Any) -> Any:
    """A Python number of a numpy one."""
    return value.item() if hasattr(value, "item") else value

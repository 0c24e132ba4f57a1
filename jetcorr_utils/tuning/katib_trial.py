"""One trial of a Katib experiment: the same trial as a local one, reported through a file.

Katib starts a pod for each trial with the drawn parameters on its command line, and its File metrics collector reads
what the trial writes: a line `name=value` with a time stamp for each metric. The talk's authors parsed standard output
for this, where a progress bar or a warning can spoil a line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..config import Choice, Space, Study, resource_name
from ..data.dataset import CloudDataset
from ..errors import InputError, TrainingError
from ..files import open_own, read_json, write_json
from ..metrics import OBJECTIVE, trial_metrics
from .search_result import SEARCH, describe_search
from .space import Parameters, check_space
from .trial import TrialRecord, run_trial, trial_jets, trial_settings

__all__ = ["number_in", "parse_values", "run_cluster_trial"]


def parse_values(texts: Mapping[str, str], space: Mapping[str, Space]) -> Parameters:
    """The parameters of a command line as values of the space.

    Raises
    ------
    InputError
        If a parameter of the space is missing, unknown, or not a value of its range; the message names it.
    """
    for name in [*texts.keys() - space.keys(), *space.keys() - texts.keys()]:
        raise InputError(f"trial parameter {name!r}: the search space of the study has {', '.join(space)}")
    return {name: _parse(name, texts[name], values) for name, values in space.items()}


def run_cluster_trial(
    study: Study,
    values: Parameters,
    training: CloudDataset,
    validation: CloudDataset,
    folder: Path,
    name: str,
    metrics_file: Path,
) -> TrialRecord:
    """Run one trial and report it to Katib.

    Parameters
    ----------
    study
        Its `tuning` says what model, how many epochs and jets.
    values
        The drawn parameters.
    folder
        The folder of the whole search, on a volume that all trials see; `load_search` reads it.
    name
        The trial's name, which is its folder's.
    metrics_file
        The file that Katib's collector reads.

    Raises
    ------
    InputError
        If the name is none of Katib's.
    TrainingError
        If the trial failed, so that Katib counts it as failed.
    """
    tuning, settings, place = study.tuning, study.models[study.tuning.model], folder / resource_name(name, "trial")
    check_space(settings, tuning.space)
    folder.mkdir(parents=True, exist_ok=True)
    _describe(folder / SEARCH, describe_search(study, source="katib"))
    training = trial_jets(training, tuning)
    metrics_file.parent.mkdir(parents=True, exist_ok=True)
    record = run_trial(
        0, values, trial_settings(settings, values, tuning), training, validation, place,
        grace=tuning.grace, report=lambda epoch, error: _report(metrics_file, {OBJECTIVE: error}),
    )  # fmt: skip
    if record.state == "failed":
        raise TrainingError(f"trial {name} failed: {record.error}")
    _report(metrics_file, {metric: record.metrics[metric] for metric in trial_metrics() if metric in record.metrics})
    return record


def _describe(path: Path, search: dict[str, Any]) -> None:
    """Note what is searched, unless it is noted already: who has started the search knows more of it."""
    known = read_json(path) if path.is_file() else {}
    if {name: known.get(name) for name in search} != search:
        write_json(path, search)


def _report(path: Path, metrics: Mapping[str, float]) -> None:
    """Append metrics; what is not finite is left out, because the collector would read an empty value."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = [f"{now} {name}={value:.10g}\n" for name, value in metrics.items() if math.isfinite(value)]
    with open_own(path, "a") as file:
        file.write("".join(lines))


def _parse(name: str, text: str, values: Space) -> int | float | str:
    if isinstance(values, Choice):
        for choice in values.choices:
            if text == str(choice) or (not isinstance(choice, str) and number_in(text) == choice):
                return choice
        raise InputError(f"trial parameter {name} = {text!r}: the choices are {', '.join(map(str, values.choices))}")
    number = number_in(text)
    if number is None or not values.min <= number <= values.max:
        raise InputError(f"trial parameter {name} = {text!r}: a number from {values.min} to {values.max} is needed")
    whole = isinstance(values.min, int) and isinstance(values.max, int)
    if whole and number != round(number):
        raise InputError(f"trial parameter {name} = {text!r}: a whole number is needed")
    return round(number) if whole else number


def number_in(text: str) -> float | None:
    """The number that a text is; None for other words."""
    try:
        return float(text)
    except ValueError:
        return None

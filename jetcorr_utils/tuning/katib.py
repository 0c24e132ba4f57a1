"""Finished Katib experiments: their Trial objects as a search that all figures and the full-length training can read.

What a trial on the shared volume leaves (`tuning.katib_trial`) has its learning curve, too; the Trial objects of the
cluster's API have the parameters, the metrics and the state, and are enough where the volume is out of reach:
`kubectl get trials -l katib.kubeflow.org/experiment=NAME -o json > trials.json`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import Study, resource_name
from ..errors import InputError
from ..files import parse_json, write_json
from ..metrics import METRICS
from .katib_trial import number_in, parse_values
from .search_result import SEARCH, SearchResult, describe_search, load_search
from .trial import State, TrialRecord, read_trial, write_record

__all__ = ["import_experiment"]

#: condition of a Trial that is true → state of ours; a trial without metrics has failed for us
_STATES: dict[str, State] = {
    "Succeeded": "complete", "EarlyStopped": "pruned", "Failed": "failed", "MetricsUnavailable": "failed",
}  # fmt: skip


def import_experiment(
    trials: str | Path | Sequence[Mapping[str, Any]], study: Study, folder: str | Path
) -> SearchResult:
    """Write the trials of a finished experiment into a search's folder, and read it.

    Parameters
    ----------
    trials
        Trial objects of `kubeflow.org/v1beta1`, or the JSON file that `kubectl get trials … -o json` wrote.
    study
        Its model and space must be those of the experiment.
    folder
        The search's folder. Trials that are there already, and those that still run, are left out.

    Raises
    ------
    InputError
        If the file is no list of trials, a name is none of Katib's, a parameter is not one of the space, or no trial
        has ended.
    """
    folder, source = Path(folder), trials if isinstance(trials, str | Path) else "Katib"
    try:
        records = _records(_read(trials) if isinstance(trials, str | Path) else trials, study)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{source}: a trial is not as Katib writes it: {type(error).__name__}: {error}") from None
    if not records:
        raise InputError(f"{source}: none of the trials has ended")
    for name, record in records.items():  # in the order in which they ended, which is how `load_search` numbers them
        if read_trial(folder / name) is None:
            write_record(folder / name, record)
    write_json(folder / SEARCH, describe_search(study, source="katib"))
    return load_search(folder)


def _read(path: str | Path) -> Sequence[Mapping[str, Any]]:
    try:
        content = parse_json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file of Katib trials") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}; write it by `kubectl get trials … -o json`") from None
    items = content.get("items") if isinstance(content, dict) else content
    if not isinstance(items, list) or not all(isinstance(item, dict) and item.get("kind") == "Trial" for item in items):
        raise InputError(f"{path}: not a list of Katib trials; write it by `kubectl get trials … -o json`")
    return items


def _records(trials: Iterable[Mapping[str, Any]], study: Study) -> dict[str, TrialRecord]:
    """The records of the trials that have ended, by name, in the order in which they did."""
    ended = sorted(trials, key=lambda trial: trial.get("status", {}).get("completionTime") or "")
    records = {}
    for number, trial in enumerate(ended):
        name = resource_name(trial["metadata"]["name"], "trial")
        try:
            record = _record(number, trial, study)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        if record is not None:
            records[name] = record
    return records


def _record(number: int, trial: Mapping[str, Any], study: Study) -> TrialRecord | None:
    status = trial.get("status", {})
    conditions = [c for c in status.get("conditions", ()) if c["status"] == "True" and c["type"] in _STATES]
    if not conditions:
        return None
    assigned = {one["name"]: one["value"] for one in trial["spec"]["parameterAssignments"]}
    values = parse_values(assigned, study.tuning.space)
    observed = status.get("observation", {}).get("metrics", ())
    latest = {one["name"]: number_in(one["latest"]) for one in observed}  # Katib writes "unavailable"
    metrics = {name: value for name, value in latest.items() if value is not None and math.isfinite(value)}
    state = _STATES[conditions[-1]["type"]]
    if state == "complete" and not any(METRICS[name].function for name in metrics if name in METRICS):
        state = "constant"  # only these end well without the metrics of a trained network
    error = f"{conditions[-1]['type']}: {conditions[-1].get('message', '')}" if state == "failed" else None
    return TrialRecord(number, state, values, metrics, error)

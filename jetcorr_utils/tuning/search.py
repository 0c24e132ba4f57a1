"""The search for better hyperparameters: in this process, and in worker processes that share its folder.

A search is its folder: `search.json` says what is searched, `journal.jsonl` is Optuna's storage, `000/`, `001/`, … are
the trials, `trials.csv` the table of those that have ended. A second call with the same study goes on where the first
one was stopped; with another space, model or data it starts afresh.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ..config import Study
from ..data.dataset import CloudDataset
from ..extensions import source_files
from ..files import atomic_path, known_shape, read_json, write_json
from ..imported_code import code_key
from ..training import TrainingResult, train
from .search_result import SEARCH, SearchResult, describe_search, load_search
from .space import check_space
from .trial import RECORD, trial_jets
from .trial_workers import Job, run_queue

__all__ = ["open_search", "search", "train_best"]


def search(
    study: Study,
    training: CloudDataset,
    validation: CloudDataset,
    folder: str | Path,
    *,
    log_dir: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
    watch: Callable[[SearchResult], object] | None = None,
) -> SearchResult:
    """Search over `study.tuning.space`, starting from the settings of the model `study.tuning.model`.

    The first trial has the model's own settings, so the best one is never worse than these. Trials that fail are
    recorded with their error and do not end the search.

    Parameters
    ----------
    study
        The study; its `tuning` says what to search, how, and how long.
    training, validation
        The clouds to train on and to measure with.
    folder
        The search's folder: made, or taken up where it was left.
    log_dir
        Folder for TensorBoard: one run a trial, with the parameters and metrics for its HParams page.
    workers
        Processes that run trials, this one included; default: `study.tuning.workers`. The trials do not depend on it.
    progress
        Show a progress bar with the best validation error so far.
    watch
        Called with the result so far whenever trials have ended, for example `plots.LiveTable()`.

    Raises
    ------
    StudyError
        If the space does not fit the model.
    TrainingError
        If no trial ran to its end.
    """
    folder, settings = Path(folder), study.models[study.tuning.model]
    check_space(settings, study.tuning.space)
    open_search(study, folder, (training, validation))
    training = trial_jets(training, study.tuning)  # here, so that the worker processes are given no more than they need
    workers = workers or study.tuning.workers
    run_queue(Job(study, training, validation, folder, log_dir), workers, progress=progress, watch=watch)
    result = load_search(folder)
    with atomic_path(folder / "trials.csv") as path:
        result.trials.to_csv(path)
    _ = result.best  # raises if there is none
    return result


def train_best(
    study: Study,
    result: SearchResult,
    training: CloudDataset,
    validation: CloudDataset,
    folder: str | Path,
    *,
    log_dir: str | Path | None = None,
    progress: bool = True,
) -> TrainingResult | None:
    """Train the best trial's network at the study's full length.

    Returns
    -------
    TrainingResult or None
        None if the best trial is that of the study's own settings: this network is trained already. A network that an
        earlier search left in `folder` is removed then.
    """
    folder = Path(folder)
    if result.best == 0:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return train(result.best_settings, training, validation, folder, log_dir=log_dir, progress=progress)


def open_search(
    study: Study, folder: Path, datasets: tuple[CloudDataset, ...], source: Literal["local", "katib"] = "local"
) -> None:
    """Make the folder ready: go on with the search that is in it if it is the same, else remove that one's trials."""
    tuning = study.tuning.model_dump(mode="json", exclude={"trials", "workers"})
    settings = study.models[study.tuning.model].model_dump(mode="json")
    code = code_key(Path(__file__).with_name("trial.py"), *source_files())
    data = [[dataset.key, len(dataset)] for dataset in datasets]
    identity: dict[str, Any] = {"tuning": tuning, "settings": settings, "data": data, "code": code}
    if source != "local":
        identity["source"] = source
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    known = _key_of(folder / SEARCH)
    if known not in (None, key):
        print(f"{folder}: holds another search, which is removed: study, data or code have changed", flush=True)
        for record in [*folder.glob("[0-9][0-9][0-9]"), *(path.parent for path in folder.glob(f"*/{RECORD}"))]:
            shutil.rmtree(record, ignore_errors=True)
        for path in (*folder.glob("journal.jsonl*"), folder / "trials.csv"):
            path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SEARCH, {"key": key, **describe_search(study, source)})


def _key_of(file: Path) -> str | None:
    """The key of the search that lies there, or None."""
    if not file.is_file():
        return None
    found = read_json(file)
    with known_shape(file):
        return str(found.get("key", "of Katib"))

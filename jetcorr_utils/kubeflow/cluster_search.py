"""The search of notebook 03 and the training of its best network, here or on a cluster, see `backends`.

On a cluster a search is its folder, as it is here: a trial whose record is there is done, and is kept whatever happens
to the process or pod that waits, to the experiment, or to another trial. What is left is run by an experiment, and if
that ends or is lost before all trials have ended, by a further one.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Study
from ..errors import ClusterError
from ..run import RunFolder
from ..training import TrainingResult, load_result
from ..tuning import SearchResult, check_space, load_search, search, train_best
from .backends import on_cluster

if TYPE_CHECKING:
    from ..data.dataset import CloudDataset
    from .study_on_cluster import StudyOnCluster

__all__ = ["search_on", "search_on_cluster", "search_timeout", "train_best_on", "train_best_on_cluster"]

IN_VAIN = 3  # experiments one after the other that may end without any trial having ended
POD_START = 300.0  # seconds that a pod may take to be scheduled, to pull its image and to read the data
SPREAD = 10.0  # a draw may be so much slower than the study's own settings


def search_on(
    backend: str, study: Study, parts: tuple[CloudDataset, CloudDataset], run: RunFolder, **options: Any
) -> SearchResult:
    """Search over `study.tuning.space` where `backend` says; `options` are those of `tuning.search`."""
    if on_cluster(backend):
        return search_on_cluster(study, *parts, run)
    return search(study, *parts, run.tuning, **options)


def train_best_on(
    backend: str,
    study: Study,
    result: SearchResult,
    parts: tuple[CloudDataset, CloudDataset],
    run: RunFolder,
    log_dir: str,
) -> TrainingResult | None:
    """Train the best trial's network at full length where `backend` says, see `train_best`."""
    if on_cluster(backend):
        return train_best_on_cluster(study, result, run)
    return train_best(study, result, *parts, run.tuning / "best", log_dir=log_dir)


def search_on_cluster(study: Study, training: CloudDataset, validation: CloudDataset, run: RunFolder) -> SearchResult:
    """Search over `study.tuning.space` by Katib, after a trial of the study's own settings.

    Called again after it was cut short, it goes on: what has ended is not run again, and an experiment that is still
    there is taken over.

    Raises
    ------
    StudyError
        If the space does not fit the model.
    InputError, ClusterError
        See `cluster_training.train_on_cluster`; also if trials end and leave nothing on the volume.
    """
    from ..tuning.search import open_search
    from .cluster import exit_when_terminated
    from .study_on_cluster import StudyOnCluster

    check_space(study.models[study.tuning.model], study.tuning.space)
    site = StudyOnCluster(study, run)
    open_search(study, run.tuning, (training, validation), source="katib")
    with exit_when_terminated():
        site.prepare_data(site.place(study, "search"), (training, validation))
        seconds = _own_trial(study, site)
        vain = 0
        while (left := study.tuning.trials - _ended(run.tuning)) > 0:
            lost = _experiment(study, site, left, seconds)
            vain = 0 if study.tuning.trials - _ended(run.tuning) < left else vain + 1
            if vain == IN_VAIN:
                raise ClusterError(
                    f"{vain} experiments have ended, and no trial has left a record in {run.tuning}: do they mount the "
                    f"same volume?{f' {lost}' if lost else ''}"
                )
    return load_search(run.tuning)


def search_timeout(trials: int, parallel: int, seconds: float) -> float:
    """Seconds that so many trials may take, so many at a time, where one took `seconds`."""
    return math.ceil(trials / parallel) * (SPREAD * seconds + POD_START)


def _own_trial(study: Study, site: StudyOnCluster) -> float:
    """Run the trial of the study's own settings, if it has not been; the seconds that it took."""
    from ..tuning.search_result import OWN
    from ..tuning.trial import read_trial
    from .manifests.experiment import own_trial_command
    from .study_on_cluster import DAY

    tuning = site.run.tuning
    if read_trial(tuning / OWN) is None:
        metrics = f"{tuning}/{OWN}/metrics.log"
        command = own_trial_command(site.place(study, "search"), OWN, tuning.name, metrics)
        with site.job("own-trial", command) as job:
            job.wait(study.cluster.timeout or DAY)
    record = read_trial(tuning / OWN)
    if record is None:
        raise ClusterError(f"the study's own trial left nothing in {tuning}: does its pod mount the same volume?")
    return record.metrics["seconds"]


def _experiment(study: Study, site: StudyOnCluster, left: int, seconds: float) -> str | None:
    """Run an experiment of what is left, or go on with one that is there; why it was lost, if it was."""
    from .cluster import RemovedError
    from .manifests.experiment import experiment

    name, place, cluster = site.name("search"), site.place(study, "search"), site.cluster
    manifest = experiment(study, cluster, name=name, place=place, folder=site.run.tuning.name, trials=left)
    timeout = study.cluster.timeout or search_timeout(left, cluster.parallel_trials, seconds)
    print(
        f"{left} trials, {cluster.parallel_trials} at a time; the first took {seconds:.0f} s: they must end within "
        f"{timeout / 3600:.1f} h (cluster.timeout)",
        flush=True,
    )
    with site.resource(manifest, adopt=True) as running:
        try:
            running.wait(timeout)
        except RemovedError as error:
            return str(error)
        except ClusterError as error:
            errors = load_search(site.run.tuning).trials["error"].dropna()
            raise ClusterError(f"{error}{f'; a trial: {errors.iloc[0]}' if len(errors) else ''}") from None
    return None


def train_best_on_cluster(study: Study, result: SearchResult, run: RunFolder) -> TrainingResult | None:
    """Train the best trial's network at full length by a TrainJob; the counterpart of `tuning.train_best`."""
    from .cluster import exit_when_terminated
    from .study_on_cluster import DAY, StudyOnCluster

    best, model = run.tuning / "best", study.tuning.model
    shutil.rmtree(best, ignore_errors=True)
    if result.best == 0:
        return None
    site, folder = StudyOnCluster(study, run), RunFolder(run.path / "kubeflow" / "best")
    tuned = study.model_copy(update={"models": study.models | {model: result.best_settings}, "seeds": {}})
    with exit_when_terminated(), site.training("best", site.place(tuned, "best", folder), model) as job:
        job.wait(study.cluster.timeout or DAY)
    folder.model(model).rename(best)
    logs = run.tensorboard / "best"
    shutil.rmtree(logs, ignore_errors=True)
    (folder.tensorboard / model).rename(logs)
    shutil.rmtree(folder.path)
    return load_result(best)


def _ended(folder: Path) -> int:
    """How many of the drawn trials have ended."""
    from ..tuning.search_result import OWN
    from ..tuning.trial import RECORD

    return sum(record.parent.name != OWN for record in folder.glob(f"*/{RECORD}"))

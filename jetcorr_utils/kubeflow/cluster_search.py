"""The search of notebook 03 and the training of its best network, here or on a cluster, see `backends`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from ..config import Study
from ..errors import ClusterError
from ..run import RunFolder
from ..training import TrainingResult, load_result
from ..tuning import SearchResult, check_space, load_search, search, train_best
from .backends import on_cluster

if TYPE_CHECKING:
    from ..data.dataset import CloudDataset

__all__ = ["search_on", "search_on_cluster", "train_best_on", "train_best_on_cluster"]


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
    """Search over `study.tuning.space` by a Katib experiment, while the study's own settings are tried here.

    A search on the cluster begins anew: the trials of an earlier one are removed from the run's folder.

    Raises
    ------
    StudyError
        If the space does not fit the model.
    InputError, ClusterError
        See `cluster_training.train_on_cluster`.
    """
    from ..tuning.katib_trial import run_cluster_trial
    from ..tuning.search_result import OWN
    from ..tuning.space import own_parameters
    from .cluster import exit_when_terminated
    from .manifests.experiment import experiment
    from .study_on_cluster import StudyOnCluster

    settings, site = study.models[study.tuning.model], StudyOnCluster(study, run)
    check_space(settings, study.tuning.space)
    shutil.rmtree(run.tuning, ignore_errors=True)
    name = site.name("search")
    manifest = experiment(study, site.cluster, name=name, place=site.place(study, "search"), folder=run.tuning.name)
    with exit_when_terminated(), site.resource(manifest) as search:
        own, place = own_parameters(settings, study.tuning.space), run.tuning / OWN
        run_cluster_trial(study, own, training, validation, run.tuning, OWN, place / "metrics.log")
        try:
            search.wait(study.cluster.timeout)
        except ClusterError as error:
            errors = load_search(run.tuning).trials["error"].dropna()
            raise ClusterError(f"{error}{f'; a trial: {errors.iloc[0]}' if len(errors) else ''}") from None
    result = load_search(run.tuning)
    if len(result.trials) < 2:
        raise ClusterError(f"the trials of {name} left nothing in {run.tuning}: do they mount the same volume?")
    return result


def train_best_on_cluster(study: Study, result: SearchResult, run: RunFolder) -> TrainingResult | None:
    """Train the best trial's network at full length by a TrainJob; the counterpart of `tuning.train_best`."""
    from .cluster import exit_when_terminated
    from .study_on_cluster import StudyOnCluster

    best, model = run.tuning / "best", study.tuning.model
    shutil.rmtree(best, ignore_errors=True)
    if result.best == 0:
        return None
    site, folder = StudyOnCluster(study, run), RunFolder(run.path / "kubeflow" / "best")
    tuned = study.model_copy(update={"models": study.models | {model: result.best_settings}, "seeds": {}})
    with exit_when_terminated(), site.training("best", site.place(tuned, "best", folder), model) as job:
        job.wait(study.cluster.timeout)
    folder.model(model).rename(best)
    logs = run.tensorboard / "best"
    shutil.rmtree(logs, ignore_errors=True)
    (folder.tensorboard / model).rename(logs)
    shutil.rmtree(folder.path)
    return load_result(best)

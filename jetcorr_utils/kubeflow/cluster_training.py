"""The trainings of notebook 02, here or on a cluster, see `backends`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..config import Study
from ..run import RunFolder
from ..training import TrainingResult, load_result, train_models
from .backends import on_cluster

if TYPE_CHECKING:
    from ..data.dataset import CloudDataset

__all__ = ["train_on", "train_on_cluster"]


def train_on(
    backend: str, study: Study, clouds: Mapping[str, CloudDataset], run: RunFolder, **options: Any
) -> dict[str, TrainingResult]:
    """Train all models of the study where `backend` says; `options` are those of `train_models`."""
    if on_cluster(backend):
        return train_on_cluster(study, run, clouds.values())
    return train_models(study.models, clouds, run, **options)


def train_on_cluster(study: Study, run: RunFolder, clouds: Iterable[CloudDataset] = ()) -> dict[str, TrainingResult]:
    """Train all models of the study, each by a TrainJob, side by side.

    Parameters
    ----------
    study, run
        The study and its run's folder.
    clouds
        The data as they are here; where the pods cannot see these, a job without GPUs prepares them before.

    Raises
    ------
    InputError
        If there is no cluster, something is missing in it, or the run's folder is not on its volume.
    ClusterError
        If a training fails or takes longer than `cluster.timeout`; the message ends with the log of its pod.
    """
    from .cluster import exit_when_terminated
    from .study_on_cluster import DAY, StudyOnCluster

    site = StudyOnCluster(study, run)
    with exit_when_terminated(), contextlib.ExitStack() as stack:
        place = site.place(study, "training")
        site.prepare_data(place, clouds)
        jobs = [stack.enter_context(site.training(model, place, model)) for model in study.models]
        for job in jobs:
            job.wait(study.cluster.timeout or DAY)
    return {model: load_result(run.model(model)) for model in study.models}

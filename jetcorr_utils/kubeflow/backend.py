"""The heavy work of notebooks 02, 03 and 05 on a Kubeflow cluster, where their parameter BACKEND is "kubeflow".

Trainings are TrainJobs, the search is a Katib experiment, the server an InferenceService. All of them read and write
the run's folder on the volume that every pod mounts, so what they make lies where the local work would have put it, and
nothing else in the notebooks or in what follows depends on where it was made. Each function waits for its resources and
removes them, also when it fails or is interrupted.

The notebooks import this module on every machine, so the Kubernetes client and the SDKs' models, which take seconds,
are imported where they are needed.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from ..config import Study
from ..errors import ClusterError, InputError
from ..run import RunFolder

if TYPE_CHECKING:
    from ..data.dataset import CloudDataset
    from ..serving.prediction_service import Service
    from ..training import TrainingResult
    from ..tuning import SearchResult

__all__ = [
    "BACKENDS",
    "on_cluster",
    "search_on_cluster",
    "serve_on_cluster",
    "train_best_on_cluster",
    "train_on_cluster",
]

BACKENDS = ("local", "kubeflow")


def on_cluster(backend: str) -> bool:
    """Whether a notebook's BACKEND asks for the cluster.

    Raises
    ------
    InputError
        If there is no such backend.
    """
    if backend not in BACKENDS:
        raise InputError(f"BACKEND = {backend!r}: there are {', '.join(BACKENDS)}")
    return backend == "kubeflow"


def train_on_cluster(study: Study, run: RunFolder) -> dict[str, TrainingResult]:
    """Train all models of the study, each by a TrainJob, side by side.

    Raises
    ------
    InputError
        If there is no cluster, something is missing in it, or the run's folder is not on its volume.
    ClusterError
        If a training fails or takes longer than `cluster.timeout`; the message ends with the log of its pod.
    """
    from ..training import load_result
    from .cluster import exit_when_terminated
    from .site import Site

    site = Site(study, run)
    with exit_when_terminated(), contextlib.ExitStack() as stack:
        place = site.place(study, "training")
        jobs = [stack.enter_context(site.training(model, place, model)) for model in study.models]
        for job in jobs:
            job.wait(study.cluster.timeout)
    return {model: load_result(run.model(model)) for model in study.models}


def search_on_cluster(study: Study, training: CloudDataset, validation: CloudDataset, run: RunFolder) -> SearchResult:
    """Search over `study.tuning.space` by a Katib experiment, while the study's own settings are tried here.

    A search on the cluster begins anew: the trials of an earlier one are removed from the run's folder.

    Raises
    ------
    StudyError
        If the space does not fit the model.
    InputError, ClusterError
        See `train_on_cluster`.
    """
    from ..tuning import check_space, load_search
    from ..tuning.cluster import run_cluster_trial
    from ..tuning.results import OWN
    from ..tuning.space import own_parameters
    from .cluster import exit_when_terminated
    from .manifests.experiment import experiment
    from .site import Site

    settings, site = study.models[study.tuning.model], Site(study, run)
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
    from ..training import load_result
    from .cluster import exit_when_terminated
    from .site import Site

    best, model = run.tuning / "best", study.tuning.model
    shutil.rmtree(best, ignore_errors=True)
    if result.best == 0:
        return None
    site, folder = Site(study, run), RunFolder(run.path / "kubeflow" / "best")
    tuned = study.model_copy(update={"models": study.models | {model: result.best_settings}, "seeds": {}})
    with exit_when_terminated(), site.training("best", site.place(tuned, "best", folder), model) as job:
        job.wait(study.cluster.timeout)
    folder.model(model).rename(best)
    logs = run.tensorboard / "best"
    shutil.rmtree(logs, ignore_errors=True)
    (folder.tensorboard / model).rename(logs)
    shutil.rmtree(folder.path)
    return load_result(best)


def serve_on_cluster(study: Study, run: RunFolder) -> Service:
    """The run's models behind a KServe InferenceService, which lives until the service is closed.

    Raises
    ------
    InputError, ClusterError
        See `train_on_cluster`; the limit is `cluster.start_timeout`.
    """
    from ..inference.open_predictors import open_predictors
    from .cluster import exit_when_terminated
    from .manifests.inference import inference_service, serving_runtime
    from .service import ClusterService, address
    from .site import Site

    site = Site(study, run)
    name = site.name("server")
    manifest = inference_service(name, str(run.model_repository), site.cluster, runtime=name)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exit_when_terminated())
        stack.enter_context(site.resource(serving_runtime(site.cluster, name)))
        server = stack.enter_context(site.resource(manifest)).wait(study.cluster.start_timeout)
        predictors, text = open_predictors(address(server)), f"KServe InferenceService {name} at {address(server)}"
        return ClusterService(predictors, text, stack.pop_all())

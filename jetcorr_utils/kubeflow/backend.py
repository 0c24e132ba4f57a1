"""The heavy work of notebooks 02, 03 and 05 on a Kubeflow cluster, where their parameter BACKEND is "kubeflow".

Trainings are TrainJobs, the search is a Katib experiment, the server an InferenceService. All of them read and write
the run's folder on the volume that every pod mounts, so what they make lies where the local work would have put it, and
nothing else in the notebooks or in what follows depends on where it was made. Each function waits for its resources and
removes them, also when it fails or is interrupted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import weakref
from pathlib import Path

import yaml

from ..config import ClusterSettings, Study, project_root
from ..data.clouds import CloudDataset
from ..errors import InputError
from ..files import write_text
from ..run import RunFolder
from ..serving.opening import open_predictors
from ..serving.service import Service
from ..training import TrainingResult, load_result
from ..tuning import SearchResult, load_search
from ..tuning.cluster import run_cluster_trial
from ..tuning.results import OWN
from ..tuning.space import check_space, own_parameters
from .cluster import ClusterError, Connection, Resource, connect, exit_when_terminated
from .manifests import Cluster, Place
from .manifests.experiment import experiment
from .manifests.inference import inference_service, serving_runtime
from .manifests.trainjob import train_command, train_job

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
    site = _Site(study, run)
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
    settings, site = study.models[study.tuning.model], _Site(study, run)
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
    best, model = run.tuning / "best", study.tuning.model
    shutil.rmtree(best, ignore_errors=True)
    if result.best == 0:
        return None
    site, folder = _Site(study, run), RunFolder(run.path / "kubeflow" / "best")
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
    site = _Site(study, run)
    name = site.name("server")
    manifest = inference_service(name, str(run.model_repository), site.cluster, runtime=name)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exit_when_terminated())
        stack.enter_context(site.resource(serving_runtime(site.cluster, name)))
        server = stack.enter_context(site.resource(manifest)).wait(study.cluster.start_timeout)
        url = _address(server)
        return _ClusterService(open_predictors(url), f"KServe InferenceService {name} at {url}", stack.pop_all())


class _ClusterService(Service):
    """A service whose resources on the cluster go when it is closed, or with the process."""

    def __init__(self, predictors: dict, text: str, resources: contextlib.ExitStack) -> None:
        super().__init__(predictors, text)
        self._remove = weakref.finalize(self, resources.close)

    def close(self) -> None:
        """Close the connections and remove the resources."""
        super().close()
        self._remove()


class _Site:
    """A study on a cluster: the connection, the names of its resources, and its file on the volume."""

    def __init__(self, study: Study, run: RunFolder) -> None:
        self.study, self.run = study, run
        _require_on_volume(study, run)
        self.connection: Connection = connect(study.cluster.namespace)
        self.connection.require_volume(study.cluster.volume)
        # The same user as here: the pods of trainings must write into the folder that this process has made
        self.cluster = Cluster.of(study.cluster, namespace=self.connection.namespace, user=os.getuid())

    def name(self, part: str) -> str:
        """The name of a resource: equal for the same part of the same run folder, and as Kubernetes wants names."""
        words = re.sub(r"[^a-z0-9]+", "-", f"{self.study.name[:20]}-{part[:20]}".lower()).strip("-")
        return f"jetcorr-{words}-{hashlib.sha256(str(self.run.path).encode()).hexdigest()[:6]}"

    def place(self, study: Study, part: str, folder: RunFolder | None = None) -> Place:
        """Write the study, as it is here, to where the pods can read it."""
        folder = folder or self.run
        path = folder.path / "kubeflow" / f"{part}.yaml"
        data = study.data.model_copy(update={"directory": str(_data_directory(study.cluster, study))})
        settings = study.model_copy(update={"data": data}).model_dump(mode="json")
        write_text(path, yaml.safe_dump(settings, sort_keys=False))
        return Place(str(path), str(folder.path))

    def resource(self, manifest: dict) -> Resource:
        """A resource of this run."""
        return Resource(self.connection, manifest, str(self.run.path))

    def training(self, part: str, place: Place, model: str) -> Resource:
        """The TrainJob of a model."""
        cluster = self.cluster
        return self.resource(train_job(self.name(part), train_command(place, model), cluster, cluster.nodes))


def _data_directory(cluster: ClusterSettings, study: Study) -> Path:
    """Where the pods keep generated data and caches: as the study says if that is on the volume, else in its `data`."""
    directory = project_root() / study.data.directory
    return directory if directory.is_relative_to(cluster.mount) else Path(cluster.mount) / "data"


def _require_on_volume(study: Study, run: RunFolder) -> None:
    if not run.path.is_relative_to(Path(study.cluster.mount).resolve()):
        raise InputError(
            f"RUN_DIR {run.path} is not on the volume that the cluster's pods share, which is mounted at "
            f"{study.cluster.mount} (cluster.mount): choose a folder there, or use BACKEND = 'local'"
        )


def _address(server: dict) -> str:
    """``http://host:port`` of an InferenceService inside the cluster."""
    status = server["status"]
    url = (status.get("address") or {}).get("url") or status.get("url") or ""
    host = url.removeprefix("http://").rstrip("/")
    if "://" in host or not host:
        raise ClusterError(f"InferenceService {server['metadata']['name']} has no http address: {url or 'none'}")
    return f"http://{host}" if ":" in host else f"http://{host}:80"

"""A study on a cluster: the connection, its files on the shared volume, and the names of its resources."""

from __future__ import annotations

import filecmp
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import ClusterSettings, Study, project_root
from ..errors import InputError
from ..files import local_path, write_text
from ..plain_yaml import dump_yaml
from ..run import RunFolder
from .cluster import Connection, Resource, connect
from .manifests import Cluster, Place
from .manifests.pytorchjob import pytorch_job
from .manifests.trainjob import train_command, train_job
from .names import unique_name
from .pipeline_parameters import IMAGE
from .releases import find_release

if TYPE_CHECKING:
    from ..data.dataset import CloudDataset

__all__ = ["DAY", "StudyOnCluster", "edited_code"]

_log = logging.getLogger(__name__)

PACKAGE = "jetcorr_utils"
DAY = 86_400.0  # seconds that a training may take


class StudyOnCluster:
    """A study on a cluster: the connection, the names of its resources, and its file on the volume."""

    def __init__(self, study: Study, run: RunFolder) -> None:
        self.study, self.run = study, run
        _require_on_volume(study, run)
        if edited := edited_code(project_root(), Path(sys.prefix).parent):
            _log.warning(
                "the pods run the code of the image, where %s and %d more files are not as they are here: build the "
                "image again, or undo the change", edited[0], len(edited) - 1,
            )  # fmt: skip
        self.connection: Connection = connect(study.cluster.namespace, study.cluster.patience)
        self.connection.require_volume(study.cluster.volume)
        pod, given = self.connection.pod, study.cluster
        self.cluster = Cluster.of(
            given,
            namespace=self.connection.namespace,
            image=given.image or (pod.image if pod else os.environ.get(IMAGE)),
            found=None if given.kubeflow else find_release(self.connection),
        )

    def name(self, part: str) -> str:
        """The name of a resource: equal for the same part of the same run folder, and as Kubernetes wants names."""
        return unique_name(self.study.name, part, owner=str(self.run.path))

    def place(self, study: Study, part: str, folder: RunFolder | None = None) -> Place:
        """Write the study, as it is here, to where the pods can read it."""
        folder = folder or self.run
        path = folder.path / "kubeflow" / f"{part}.yaml"
        data = study.data.model_copy(update={"directory": str(_data_directory(study.cluster, study))})
        settings = study.model_copy(update={"data": data}).model_dump(mode="json")
        write_text(path, dump_yaml(settings))
        return Place(str(path), str(folder.path))

    def resource(self, manifest: dict[str, Any], *, adopt: bool = False) -> Resource:
        """A resource of this run."""
        return Resource(self.connection, manifest, str(self.run.path), adopt=adopt, asked=self.study.model_dump_json())

    def job(self, part: str, command: list[str], nodes: int = 1, *, gpus: bool = True) -> Resource:
        """A job that runs a command on pods of a training: a TrainJob, or a PyTorchJob where there is no Trainer."""
        make = train_job if self.cluster.release.job == "TrainJob" else pytorch_job
        cluster = self.cluster if gpus else self.cluster.model_copy(update={"gpus": 0})
        return self.resource(make(self.name(part), command, cluster, nodes), adopt=True)

    def training(self, part: str, place: Place, model: str) -> Resource:
        """The training of a model."""
        return self.job(part, train_command(place, model, self.cluster.batch), self.cluster.nodes)

    def prepare_data(self, place: Place, clouds: Iterable[CloudDataset]) -> None:
        """Have the data made ready by a pod without GPUs, unless they are: others would wait for it with theirs."""
        directory = _data_directory(self.study.cluster, self.study)
        if all(one.place and Path(one.place[0]).is_relative_to(directory) for one in clouds):
            return
        command = ["jetcorr", "prepare", "--study", place.study, *place.arguments]
        with self.job("data", command, gpus=False) as job:
            job.wait(self.study.cluster.timeout or DAY)


def edited_code(workspace: Path, image: Path) -> list[str]:
    """The package's files that are not the same in a workspace as in the image; empty outside of an image."""
    theirs = image / PACKAGE
    if workspace == image or not theirs.is_dir():
        return []
    names = {path.relative_to(image) for path in theirs.rglob("*.py")}
    names |= {path.relative_to(workspace) for path in (workspace / PACKAGE).rglob("*.py")}
    _, differ, missing = filecmp.cmpfiles(workspace, image, sorted(map(str, names)), shallow=False)
    return sorted([*differ, *missing])


def _data_directory(cluster: ClusterSettings, study: Study) -> Path:
    """Where the pods keep generated data and caches: as the study says if that is on the volume, else in its `data`."""
    directory = project_root() / local_path(study.data.directory)
    return directory if directory.is_relative_to(cluster.mount) else Path(cluster.mount) / "data"


def _require_on_volume(study: Study, run: RunFolder) -> None:
    if not run.path.is_relative_to(Path(study.cluster.mount).resolve()):
        raise InputError(
            f"RUN_DIR {run.path} is not on the volume that the cluster's pods share, which is mounted at "
            f"{study.cluster.mount} (cluster.mount): choose a folder there, or use BACKEND = 'local'"
        )

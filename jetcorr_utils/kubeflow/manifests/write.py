"""All manifests of a study as files, with a kustomization that applies them together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ...config import Study
from ...files import write_text
from ..names import unique_name
from .experiment import experiment
from .inference import inference_service, serving_runtime
from .pytorchjob import pytorch_job
from .target import Cluster
from .trainjob import train_command, train_job
from .workspace import notebook_server, pod_default, s3_secret_template, tensorboard, volume_claim

__all__ = ["write_manifests"]

#: what `kubectl apply -k` makes: the workspace. Trainings, searches, servers and TensorBoard are started one by one.
WORKSPACE = ("volume.yaml", "poddefault.yaml", "notebook.yaml", "servingruntime.yaml")


def write_manifests(study: Study, out: str | Path, cluster: Cluster | None = None) -> list[Path]:
    """Write the manifests of a study.

    Parameters
    ----------
    study
        The study; its name becomes part of the resources' names.
    out
        Folder to write to.
    cluster
        Names, images and sizes; default: as the study says.

    Returns
    -------
    list of Path
        The files, one a resource, and `kustomization.yaml`, which applies the workspace.
    """
    cluster = cluster or Cluster.of(study.cluster)
    place, name = cluster.place(study.name), unique_name("jetcorr", study.name)
    resources: dict[str, dict[str, Any]] = {
        "volume.yaml": volume_claim(cluster),
        "poddefault.yaml": pod_default(cluster),
        "secret.template.yaml": s3_secret_template(cluster),
        "notebook.yaml": notebook_server(cluster),
        "tensorboard.yaml": tensorboard(cluster),
        **_trainings(study, cluster),
        "servingruntime.yaml": serving_runtime(cluster),
        "inferenceservice.yaml": inference_service(name, f"{place.run_dir}/model_repository", cluster),
        "kustomization.yaml": {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": cluster.namespace,
            "resources": list(WORKSPACE),
        },
    }
    return [write_text(Path(out) / name, _yaml(resource)) for name, resource in resources.items()]


def _trainings(study: Study, cluster: Cluster) -> dict[str, dict[str, Any]]:
    """A distributed training and a search by the job that the release has; by both where no release is named."""
    command, name = train_command(cluster.place(study.name), batch=cluster.batch), unique_name("jetcorr", study.name)
    newer = {
        "trainjob.yaml": train_job(name, command, cluster, cluster.nodes),
        "experiment.yaml": experiment(study, cluster, "TrainJob"),
    }
    older = {
        "pytorchjob.yaml": pytorch_job(name, command, cluster, cluster.nodes),
        "experiment-pytorchjob.yaml": experiment(study, cluster, "PyTorchJob"),
    }
    if not cluster.kubeflow:
        return newer | older
    return newer if cluster.release.job == "TrainJob" else older


class _Dumper(yaml.SafeDumper):
    """Quotes each text that a YAML parser could take for a number.

    PyYAML follows YAML 1.1, where 5e-05 is a text; Kubernetes' parser takes it for a number, and refuses it.
    """


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    number = re.fullmatch(r"[-+]?(\d[\d_]*)?\.?\d*([eE][-+]?\d+)?|0[xob][\da-fA-F]+", value)
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="'" if number else None)


_Dumper.add_representer(str, _text)


def _yaml(resource: dict[str, Any]) -> str:
    text = yaml.dump(resource, Dumper=_Dumper, sort_keys=False, width=120)
    return "# made by `jetcorr manifests`\n" + text

"""What a physicist needs before the first run: the volume, the notebook server, TensorBoard, access to S3."""

from __future__ import annotations

from typing import Any

from .target import KEYS, Cluster

ACCOUNT = "default-editor"  # of each Kubeflow profile, with the role kubeflow-edit; pods have another by default

__all__ = ["notebook_server", "pod_default", "s3_secret_template", "tensorboard", "volume_claim"]


def volume_claim(cluster: Cluster) -> dict[str, Any]:
    """The volume with data and run folders, mounted by several pods at once."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": cluster.size}}}
    if cluster.storage_class:
        spec["storageClassName"] = cluster.storage_class
    return _resource("v1", "PersistentVolumeClaim", cluster.volume, cluster, spec)


def s3_secret_template(cluster: Cluster) -> dict[str, Any]:
    """The secret for S3 with its values left to be filled in; nothing of ours needs it if no data lie on S3."""
    return {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": cluster.secret, "namespace": cluster.namespace},
        "type": "Opaque", "stringData": dict.fromkeys(KEYS, ""),
    }  # fmt: skip


def pod_default(cluster: Cluster) -> dict[str, Any]:
    """For pods that carry its label: a token for Kubeflow Pipelines, and the S3 secret."""
    token = {"path": "token", "expirationSeconds": 7200, "audience": "pipelines.kubeflow.org"}
    spec = {
        "desc": "Access to Kubeflow Pipelines and S3",
        "selector": {"matchLabels": {"access-jetcorr": "true"}},
        "env": [
            {"name": "KF_PIPELINES_SA_TOKEN_PATH", "value": "/var/run/secrets/kubeflow/pipelines/token"},
            *[variable for variable in cluster.environment() if variable["name"] in KEYS],
        ],
        "volumeMounts": [
            {"name": "pipelines-token", "mountPath": "/var/run/secrets/kubeflow/pipelines", "readOnly": True}
        ],
        "volumes": [{"name": "pipelines-token", "projected": {"sources": [{"serviceAccountToken": token}]}}],
    }
    return _resource("kubeflow.org/v1alpha1", "PodDefault", "access-jetcorr", cluster, spec)


def notebook_server(cluster: Cluster) -> dict[str, Any]:
    """JupyterLab with the project's image; the notebook controller sets NB_PREFIX.

    The notebooks are copied to the volume, where edits outlive the pod. Kale's panel takes its image from the variable.
    """
    environment = {"KALE_DEFAULT_BASE_IMAGE": cluster.image, "JETCORR_WORKSPACE": f"{cluster.mount}/workspace"}
    container = {
        "name": "jetcorr", "image": cluster.image,
        "env": [{"name": name, "value": value} for name, value in environment.items()], "resources": cluster.resources,
        "volumeMounts": cluster.mounts(), "securityContext": cluster.container_security(),
    }  # fmt: skip
    pod = {
        "serviceAccountName": ACCOUNT, "containers": [container], "volumes": cluster.volumes(),
        "securityContext": cluster.pod_security(),
    }  # fmt: skip
    if cluster.pull_secrets:
        pod["imagePullSecrets"] = cluster.pull_secrets
    found = _resource("kubeflow.org/v1", "Notebook", "jetcorr", cluster, {"template": {"spec": pod}})
    found["metadata"]["labels"] = {"access-jetcorr": "true"}
    return found


def tensorboard(cluster: Cluster) -> dict[str, Any]:
    """TensorBoard on the logs of all runs on the volume.

    To be started when there is a run: Kubernetes would make the folder as root if it is missing. Logs on S3 it cannot
    read: its pod gets no credentials, since the controller gives it no label that a PodDefault could select.
    """
    spec = {"logspath": f"pvc://{cluster.volume}/results"}
    return _resource("tensorboard.kubeflow.org/v1alpha1", "Tensorboard", "jetcorr-logs", cluster, spec)


def _resource(version: str, kind: str, name: str, cluster: Cluster, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": cluster.namespace}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}

"""PyTorchJob (the older Training Operator): the same trainings for clusters without Kubeflow Trainer."""

from __future__ import annotations

from typing import Any

from .target import NO_SIDECAR, Cluster

__all__ = ["pytorch_job"]

CONTAINER = "pytorch"  # the operator insists on this name


def pytorch_job(name: str, command: list[str], cluster: Cluster, nodes: int = 1) -> dict[str, Any]:
    """A PyTorchJob with one master and `nodes` - 1 workers that run `command` with the volume mounted."""
    from kubeflow.training import models
    from kubernetes.client import ApiClient, V1Container, V1ObjectMeta, V1PodSpec, V1PodTemplateSpec

    container = V1Container(
        name=CONTAINER, image=cluster.image, command=command, env=cluster.environment(), resources=cluster.resources,
        volume_mounts=cluster.mounts(), security_context=cluster.container_security(),
    )  # fmt: skip

    def replicas(number: int) -> models.KubeflowOrgV1ReplicaSpec:
        metadata = V1ObjectMeta(annotations=NO_SIDECAR)
        spec = V1PodSpec(
            containers=[container],
            volumes=cluster.volumes(),
            security_context=cluster.pod_security(),
            image_pull_secrets=cluster.pull_secrets or None,
            automount_service_account_token=False,  # nothing in it asks the cluster's API
        )
        pod = V1PodTemplateSpec(metadata=metadata, spec=spec)
        return models.KubeflowOrgV1ReplicaSpec(replicas=number, restart_policy="OnFailure", template=pod)

    roles = {"Master": replicas(1)} | ({"Worker": replicas(nodes - 1)} if nodes > 1 else {})
    job = models.KubeflowOrgV1PyTorchJob(
        api_version="kubeflow.org/v1",
        kind="PyTorchJob",
        metadata=V1ObjectMeta(name=name, namespace=cluster.namespace, labels=cluster.labels or None),
        spec=models.KubeflowOrgV1PyTorchJobSpec(
            pytorch_replica_specs=roles,
            nproc_per_node=str(max(cluster.gpus, 1)),
            run_policy=models.KubeflowOrgV1RunPolicy(clean_pod_policy="None", backoff_limit=3),
        ),
    )
    return ApiClient().sanitize_for_serialization(job)

"""KServe: an InferenceService on the run's model repository, and the ServingRuntime with the Triton that fits it.

Plain dictionaries: the kserve SDK would hold back the versions of pandas and others in the locked environment; the
tests check the result against the schema of the resource.
"""

from __future__ import annotations

from typing import Any

from .target import NO_SIDECAR, Cluster

__all__ = ["GPU_CONFIG", "inference_service", "serving_runtime"]

RUNTIME = "jetcorr-triton"
MODELS = "/mnt/models"  # where KServe mounts the model folder
GPU_CONFIG = "gpu"
TRITON_USER = 1000  # triton-server, the user of NVIDIA's image, which starts as root


def serving_runtime(cluster: Cluster, name: str = RUNTIME) -> dict[str, Any]:
    """Triton with its image pinned; it serves the whole model repository that KServe mounts under /mnt/models."""
    container = {
        "name": "kserve-container",
        "image": cluster.triton_image,
        "args": [
            "tritonserver",
            f"--model-store={MODELS}",
            "--grpc-port=9000",
            "--http-port=8080",
            "--allow-grpc=true",
            "--allow-http=true",
            # Of a model that has it, see `cluster_service`; Triton takes the usual one otherwise
            *([f"--model-config-name={GPU_CONFIG}"] if cluster.gpus else []),
        ],
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
        # All of it at the container: Knative, where KServe uses it, refuses a pod that says such things
        "securityContext": {
            **cluster.container_security(), "runAsUser": TRITON_USER, "seccompProfile": {"type": "RuntimeDefault"},
        },
    }  # fmt: skip
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": name, "namespace": cluster.namespace},
        "spec": {
            "protocolVersions": ["v2", "grpc-v2"],
            "supportedModelFormats": [{"name": "triton", "version": "2", "autoSelect": False}],
            "containers": [container],
        },
    }


def inference_service(name: str, repository: str, cluster: Cluster, runtime: str = RUNTIME) -> dict[str, Any]:
    """An InferenceService for the models of a repository on the volume, asked for over the v2 protocol."""
    model: dict[str, Any] = {
        "modelFormat": {"name": "triton", "version": "2"}, "protocolVersion": "v2", "runtime": runtime,
        "storageUri": f"pvc://{cluster.volume}/{cluster.on_volume(repository)}",
    }  # fmt: skip
    # A server asks the cluster's API for nothing
    predictor = {"minReplicas": 1, "maxReplicas": 2, "automountServiceAccountToken": False, "model": model}
    if cluster.gpus:
        model["resources"] = {kind: {"nvidia.com/gpu": str(cluster.gpus)} for kind in ("requests", "limits")}
    # By deployments of Kubernetes itself, whatever the default: newer KServes call them Standard, and know this
    # name, too. And without the mesh's proxy, which lets no request of a notebook through to a server.
    annotations = {"serving.kserve.io/deploymentMode": "RawDeployment", **NO_SIDECAR}
    return {
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": name, "namespace": cluster.namespace, "annotations": annotations},
        "spec": {"predictor": predictor},
    }  # fmt: skip

"""KServe: an InferenceService on the run's model repository, and the ServingRuntime with the Triton that fits it.

Plain dictionaries: the kserve SDK would hold back the versions of pandas and others in the locked environment; the
tests check the result against the schema of the resource.
"""

from __future__ import annotations

from typing import Any

from .target import Cluster

__all__ = ["inference_service", "serving_runtime"]

RUNTIME = "jetcorr-triton"
MODELS = "/mnt/models"  # where KServe mounts the model folder
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
        ],
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
        "securityContext": cluster.container_security() | {"runAsUser": TRITON_USER},
    }
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
    model = {
        "modelFormat": {"name": "triton", "version": "2"}, "protocolVersion": "v2", "runtime": runtime,
        "storageUri": f"pvc://{cluster.volume}/{cluster.on_volume(repository)}",
    }  # fmt: skip
    predictor = {"minReplicas": 1, "maxReplicas": 2, "securityContext": cluster.pod_security(), "model": model}
    return {
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": name, "namespace": cluster.namespace}, "spec": {"predictor": predictor},
    }  # fmt: skip

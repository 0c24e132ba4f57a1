"""KServe: an InferenceService on the run's model repository, and the ServingRuntime with the Triton that fits it.

Plain dictionaries: the kserve SDK would hold back the versions of pandas and others in the locked environment; the
tests check the result against the schema of the resource.
"""

from __future__ import annotations

from typing import Any

from .settings import Cluster

__all__ = ["inference_service", "serving_runtime"]

RUNTIME = "jetcorr-triton"


def serving_runtime(cluster: Cluster) -> dict[str, Any]:
    """Triton with its image pinned; it serves the whole model repository that KServe mounts under /mnt/models."""
    container = {
        "name": "kserve-container",
        "image": cluster.triton_image,
        "args": [
            "tritonserver",
            "--model-store=/mnt/models",
            "--grpc-port=9000",
            "--http-port=8080",
            "--allow-grpc=true",
            "--allow-http=true",
        ],
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": RUNTIME, "namespace": cluster.namespace},
        "spec": {
            "protocolVersions": ["v2", "grpc-v2"],
            "supportedModelFormats": [{"name": "triton", "version": "2", "autoSelect": False}],
            "containers": [container],
        },
    }


def inference_service(study: str, cluster: Cluster) -> dict[str, Any]:
    """An InferenceService for the models of a run, asked for over the v2 protocol."""
    repository = f"{cluster.run_dir(study).removeprefix(cluster.mount).strip('/')}/model_repository"
    model = {
        "modelFormat": {"name": "triton", "version": "2"},
        "protocolVersion": "v2",
        "runtime": RUNTIME,
        "storageUri": f"pvc://{cluster.volume}/{repository}",
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": f"jetcorr-{study}", "namespace": cluster.namespace},
        "spec": {"predictor": {"minReplicas": 1, "maxReplicas": 2, "model": model}},
    }

"""What differs from cluster to cluster: names, images, sizes. Everything else follows from the study."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cluster"]


@dataclass(frozen=True)
class Cluster:
    """Settings of the manifests.

    Attributes
    ----------
    namespace
        The user's profile namespace.
    image
        Image of the notebook server, of all steps and of all trainings, see pipelines/image.
    triton_image
        NVIDIA's server. Its ONNX Runtime must know the opset of the exported model: 24.10 has ONNX Runtime 1.19, which
        knows opsets up to 21 and is the release that the notebooks run locally.
    volume, mount, size, storage_class
        The volume claim with data and run folders, where it is mounted, and what is asked for it.
    secret
        Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL; may be absent.
    cpu, memory, gpus
        Of a training or trial.
    nodes
        Pods of a distributed training.
    parallel_trials
        Trials of an experiment at the same time.
    runtime
        The ClusterTrainingRuntime that TrainJobs refer to.
    """

    namespace: str = "jetcorr"
    image: str = "jetcorr:latest"
    triton_image: str = "nvcr.io/nvidia/tritonserver:24.10-py3"
    volume: str = "jetcorr"
    mount: str = "/mnt/jetcorr"
    size: str = "100Gi"
    storage_class: str | None = None
    secret: str = "jetcorr-s3"
    cpu: str = "4"
    memory: str = "16Gi"
    gpus: int = 0
    nodes: int = 2
    parallel_trials: int = 5
    runtime: str = "torch-distributed"

    @property
    def resources(self) -> dict[str, dict[str, str]]:
        """Requests and limits of a training's container; the processor has no limit, which would only throttle it."""
        gpus = {"nvidia.com/gpu": str(self.gpus)} if self.gpus else {}
        return {"requests": {"cpu": self.cpu, "memory": self.memory} | gpus, "limits": {"memory": self.memory} | gpus}

    def environment(self) -> list[dict]:
        """Environment variables of every container of ours: the S3 secret, and a home that any user can write."""
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")
        source = {"name": self.secret, "optional": True}
        from_secret = [{"name": key, "valueFrom": {"secretKeyRef": {**source, "key": key}}} for key in keys]
        return [{"name": "HOME", "value": "/tmp"}, *from_secret]

    def volumes(self) -> list[dict]:
        """The volume of a pod."""
        return [{"name": "jetcorr", "persistentVolumeClaim": {"claimName": self.volume}}]

    def mounts(self) -> list[dict]:
        """Where a container sees the volume."""
        return [{"name": "jetcorr", "mountPath": self.mount}]

    def run_dir(self, study: str) -> str:
        """The run's folder on the volume."""
        return f"{self.mount}/results/{study}"

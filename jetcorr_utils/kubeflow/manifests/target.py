"""What the manifests are made for: a cluster, and a study's files on its volume. The rest follows from the study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from pydantic import ValidationError

from ...config import ClusterSettings, Label
from ...errors import InputError

__all__ = ["Cluster", "Place"]

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")


@dataclass(frozen=True)
class Place:
    """Where the programs of a pod find the study, and put what they make.

    Attributes
    ----------
    study
        Name of a study that the image knows, or its file on the volume.
    run_dir
        The run's folder on the volume.
    parameters
        Settings of the study that the pod overrides, as the command line's ``-p KEY VALUE``.
    """

    study: str
    run_dir: str
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def arguments(self) -> list[str]:
        """The settings on the command line."""
        return [word for key, value in self.parameters for word in ("-p", key, value)]


class Cluster(ClusterSettings):
    """The study's settings of the cluster, and the parts of a pod that follow from them.

    `user` is the number of the user that trainings run as, where it is not for the image to say.
    """

    namespace: Label = "jetcorr"
    user: int | None = None

    @classmethod
    def of(cls, settings: ClusterSettings, **changes: Any) -> Self:
        """The cluster of these settings; `changes` that are None leave them as they are.

        Raises
        ------
        InputError
            If a change is not what Kubernetes takes.
        """
        changed = {name: value for name, value in changes.items() if value is not None}
        try:
            return cls(**settings.model_dump(exclude_none=True) | changed)
        except ValidationError as error:
            first = error.errors()[0]
            name = first["loc"][0]
            raise InputError(f"{name} {changed.get(str(name))!r}: {first['msg']}") from None

    @property
    def resources(self) -> dict[str, dict[str, str]]:
        """Requests and limits of a training's container; the processor has no limit, which would only throttle it."""
        gpus = {"nvidia.com/gpu": str(self.gpus)} if self.gpus else {}
        return {"requests": {"cpu": self.cpu, "memory": self.memory} | gpus, "limits": {"memory": self.memory} | gpus}

    def environment(self) -> list[dict]:
        """Environment variables of every container of ours: the S3 secret, and a home that any user can write."""
        source = {"name": self.secret, "optional": True}
        s3 = {key: {"name": key, "valueFrom": {"secretKeyRef": {**source, "key": key}}} for key in KEYS}
        if self.s3_endpoint:
            s3["AWS_ENDPOINT_URL"] = {"name": "AWS_ENDPOINT_URL", "value": self.s3_endpoint}
        return [{"name": "HOME", "value": "/tmp"}, *s3.values()]

    def volumes(self) -> list[dict]:
        """The volume of a pod."""
        return [{"name": "jetcorr", "persistentVolumeClaim": {"claimName": self.volume}}]

    def mounts(self) -> list[dict]:
        """Where a container sees the volume."""
        return [{"name": "jetcorr", "mountPath": self.mount}]

    def pod_security(self) -> dict[str, Any]:
        """A pod of ours is nobody in particular; what it writes on the volume belongs to the group of all our pods."""
        user = {"runAsUser": self.user} if self.user else {}
        return {"runAsNonRoot": True, **user, "fsGroup": 100, "seccompProfile": {"type": "RuntimeDefault"}}

    def container_security(self) -> dict[str, Any]:
        """Nor can a container of ours become more than that."""
        return {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

    def place(self, study: str) -> Place:
        """The files of a study that the image knows by name."""
        return Place(study, f"{self.mount}/results/{study}", (("data.directory", f"{self.mount}/data"),))

    def on_volume(self, path: str) -> str:
        """The part of a path below the mount: the path on the volume itself."""
        return path.removeprefix(self.mount).strip("/")

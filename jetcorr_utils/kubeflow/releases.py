"""What the releases of Kubeflow have, as far as our resources differ by it.

A row is added when a release is supported; what is made for it follows from its parts. A cluster whose release is not
given is asked: each account may read the kinds and their fields from the API server, and Pipelines tells its version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError

if TYPE_CHECKING:
    from .cluster import Connection

__all__ = ["LATEST", "RELEASES", "Release", "Version", "find_release", "parse_version"]

Version = tuple[int, int]


@dataclass(frozen=True)
class Release:
    """The versions of a Kubeflow's parts; None where the part is not in it.

    Attributes
    ----------
    name
        As it is called.
    pipelines, trainer, katib
        Kubeflow Pipelines, Kubeflow Trainer, Katib.
    """

    name: str
    pipelines: Version
    trainer: Version | None
    katib: Version

    @property
    def job(self) -> Literal["TrainJob", "PyTorchJob"]:
        """What a training is: the older operator's job where there is no Trainer, or Katib does not know its job."""
        return "TrainJob" if self.trainer and self.katib >= (0, 19) else "PyTorchJob"

    @property
    def pods(self) -> Literal["runtimePatches", "podTemplateOverrides"]:
        """The field by which a TrainJob changes its pods."""
        return "runtimePatches" if self.trainer and self.trainer >= (2, 2) else "podTemplateOverrides"


RELEASES = {
    release.name: release
    for release in (
        Release("1.10", pipelines=(2, 5), trainer=None, katib=(0, 18)),
        Release("1.11", pipelines=(2, 15), trainer=(2, 1), katib=(0, 19)),
        Release("26.03", pipelines=(2, 16), trainer=(2, 1), katib=(0, 19)),
    )
}
#: the newest version of each part, whatever release they will be in
LATEST = Release("latest", pipelines=(2, 17), trainer=(2, 3), katib=(0, 19))


def find_release(connection: Connection) -> Release:
    """What a cluster has, by the kinds and fields that its API server knows.

    Raises
    ------
    InputError
        If it has neither Kubeflow Trainer nor the older training operator.
    """
    job = connection.schema("trainer.kubeflow.org/v1alpha1", "TrainJob")
    if job is not None:
        fields = job.get("properties", {}).get("spec", {}).get("properties", {})
        trainer: Version = (2, 1) if "podTemplateOverrides" in fields else (2, 2)
        return Release("found", LATEST.pipelines, trainer, LATEST.katib)
    if connection.schema("kubeflow.org/v1", "PyTorchJob") is not None:
        return Release("found", LATEST.pipelines, None, (0, 18))
    raise InputError(
        "the cluster has no TrainJob (trainer.kubeflow.org/v1alpha1): Kubeflow Trainer has to be installed in it, or "
        "the older training operator with PyTorchJob (kubeflow.org/v1)"
    )


def parse_version(text: Any) -> Version | None:
    """The first two numbers of a version such as "2.15.0"; None if there are none."""
    found = re.search(r"(\d+)\.(\d+)", str(text or ""))
    return (int(found[1]), int(found[2])) if found else None


def has_kind(document: Mapping[str, Any], version: str, kind: str) -> Mapping[str, Any] | None:
    """The schema of a kind in a document of the API server's /openapi/v3; None if it has no such kind."""
    group, _, short = version.rpartition("/")
    wanted = {"group": group, "version": short, "kind": kind}
    schemas = document.get("components", {}).get("schemas", {})
    return next((one for one in schemas.values() if wanted in one.get("x-kubernetes-group-version-kind", ())), None)

"""What the status of a custom resource says: whether it is done or has failed, and how far it is, in a few words.

Each operator has its own words for it; they stand in this table and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["KINDS", "Kind", "progress"]

Status = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of resource.

    Attributes
    ----------
    plural
        Its name in addresses.
    product
        What has to be installed for the cluster to know it.
    done, failed
        Types of the conditions that say so.
    describe
        How far it is, from its status.
    pods
        The label of its pods, whose value is the resource's name; and the container that does the work.
    """

    plural: str
    product: str
    done: str = ""
    failed: str = ""
    describe: Callable[[Status], str] = lambda status: ""
    pods: tuple[str, str] | None = None

    def is_done(self, status: Status) -> bool:
        """Whether it has done its work, or is ready to."""
        return self.done in _conditions(status)

    def why_failed(self, status: Status) -> str | None:
        """The reason for its failure, None if it has not failed."""
        condition = _conditions(status).get(self.failed)
        if condition is not None:
            return ": ".join(str(condition[key]) for key in ("reason", "message") if condition.get(key)) or "no reason"
        model = status.get("modelStatus", {})
        if model.get("transitionStatus") in ("InvalidSpec", "BlockedByFailedLoad"):
            last = model.get("lastFailureInfo", {})
            return ": ".join(str(last[key]) for key in ("reason", "message") if last.get(key)) or "the model is refused"
        return None


def progress(kind: Kind, status: Status) -> str:
    """How far it is, in a few words."""
    conditions = status.get("conditions", [])
    latest: Mapping[str, Any] = max(conditions, key=lambda c: c.get("lastTransitionTime", ""), default={})
    return kind.describe(status) or str(latest.get("reason") or "waiting")


def _conditions(status: Status) -> dict[str, Mapping[str, Any]]:
    """The conditions that hold, by type."""
    return {c.get("type", "?"): c for c in status.get("conditions", []) if c.get("status") == "True"}


def _training(status: Status) -> str:
    jobs = status.get("jobsStatus") or []
    return ", ".join(f"{sum(job[part] for job in jobs)} {part}" for part in ("active", "ready", "failed") if jobs)


def _replicas(status: Status) -> str:
    replicas = (status.get("replicaStatuses") or {}).values()
    return ", ".join(f"{sum(r.get(part, 0) for r in replicas)} {part}" for part in ("active", "failed") if replicas)


def _search(status: Status) -> str:
    words = {"trialsSucceeded": "done", "trialsRunning": "running", "trialsFailed": "failed"}
    parts = ", ".join(f"{status.get(key, 0)} {word}" for key, word in words.items())
    return f"{parts} of {status.get('trials', 0)} trials"


def _server(status: Status) -> str:
    return str(status.get("modelStatus", {}).get("transitionStatus", ""))


#: the kinds that are made here, as they stand in a manifest
KINDS = {
    "TrainJob": Kind(
        "trainjobs", "Kubeflow Trainer", "Complete", "Failed", _training, ("jobset.sigs.k8s.io/jobset-name", "node")
    ),
    "PyTorchJob": Kind(
        "pytorchjobs", "the training operator", "Succeeded", "Failed", _replicas,
        ("training.kubeflow.org/job-name", "pytorch"),
    ),
    "Experiment": Kind("experiments", "Katib", "Succeeded", "Failed", _search),
    "InferenceService": Kind(
        "inferenceservices", "KServe", "Ready", "", _server,
        ("serving.kserve.io/inferenceservice", "kserve-container"),
    ),
    "ServingRuntime": Kind("servingruntimes", "KServe"),
}  # fmt: skip

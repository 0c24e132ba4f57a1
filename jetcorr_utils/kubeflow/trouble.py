"""Why pods do not start, or have ended: what their conditions, the cluster's events and their logs say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["Pod", "cannot_start", "hindrance", "oldest_failure"]

Pod = dict[str, Any]

#: a container that waits for one of these reasons would wait for ever
HOPELESS = {
    "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError",
}  # fmt: skip
NO_VOLUME = re.compile(r'persistentvolumeclaim "[^"]*" not found')
EVENTS = {"FailedCreate", "FailedScheduling", "FailedMount", "FailedAttachVolume", "Evicted", "Preempted"}


def cannot_start(pods: Iterable[Pod]) -> str | None:
    """Why a pod will never start: its image cannot be pulled, or a volume or secret is missing; None if all may."""
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        for container in _containers(status):
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in HOPELESS:
                text = waiting.get("message") or f"image {container.get('image', '')}"
                return f"pod {name}: {waiting['reason']}: {' '.join(str(text).split())}"
        unschedulable = _unschedulable(status)
        if unschedulable and NO_VOLUME.search(unschedulable):
            return f"pod {name}: {unschedulable}"
    return None


def hindrance(name: str, pods: Iterable[Pod], events: Iterable[dict[str, Any]]) -> str | None:
    """What keeps the pods of a resource from starting at the moment, in a line; None if nothing does.

    Parameters
    ----------
    name
        The resource, whose name its jobs' and pods' names begin with.
    pods
        Its pods.
    events
        The namespace's warnings, the latest last.
    """
    pods = list(pods)
    for pod in pods:
        unschedulable = _unschedulable(pod.get("status") or {})
        if unschedulable:
            return f"pod {pod['metadata']['name']} is not scheduled: {unschedulable}"
    started = {pod["metadata"]["name"] for pod in pods if (pod.get("status") or {}).get("phase") != "Pending"}
    for event in reversed(list(events)):
        about = event.get("involvedObject") or {}
        if event.get("reason") in EVENTS and f"{about.get('name')}-".startswith(f"{name}-"):
            if about.get("kind") == "Pod" and about["name"] in started and event["reason"] != "Evicted":
                continue
            if about.get("kind") != "Pod" and started:
                continue  # it has since made some
            text = " ".join(str(event.get("message", "")).split())
            return f"{str(about.get('kind')).lower()} {about['name']}: {event['reason']}: {text}"
    return None


def oldest_failure(pods: Iterable[Pod]) -> Pod | None:
    """The pod to read the log of: one that failed or has been restarted, else any."""

    def order(pod: Pod) -> tuple[bool, bool]:
        status = pod.get("status") or {}
        restarted = any(container.get("restartCount") for container in _containers(status))
        return status.get("phase") != "Failed", not restarted

    return min(pods, key=order, default=None)


def _containers(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _unschedulable(status: dict[str, Any]) -> str | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return " ".join(str(condition.get("message") or condition.get("reason")).split())
    return None

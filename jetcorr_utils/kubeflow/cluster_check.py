"""What a cluster has and lacks for a study, on one page: `jetcorr manifests --check`.

It is asked with the rights of whoever asks. What an account may not see, such as storage classes, is said to be unknown
and not to be missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from kubernetes import client
from kubernetes.utils import parse_quantity
from urllib3.exceptions import HTTPError

from ..errors import InputError
from .cluster import REQUEST_TIMEOUT, Connection, items_of
from .manifests import Cluster
from .releases import find_release

__all__ = ["Finding", "check_cluster", "page_of"]

#: kind → apiVersion, and what it is for
KINDS = {
    "Notebook": ("kubeflow.org/v1", "notebook servers"),
    "PodDefault": ("kubeflow.org/v1alpha1", "access to Pipelines and S3 in them"),
    "Experiment": ("kubeflow.org/v1beta1", "searches (Katib)"),
    "InferenceService": ("serving.kserve.io/v1beta1", "servers (KServe)"),
    "ServingRuntime": ("serving.kserve.io/v1alpha1", "servers (KServe)"),
    "Tensorboard": ("tensorboard.kubeflow.org/v1alpha1", "TensorBoard"),
}
#: what the account of a step makes: group, plural
MADE = {
    "TrainJob": ("trainer.kubeflow.org", "trainjobs"),
    "PyTorchJob": ("kubeflow.org", "pytorchjobs"),
    "Experiment": ("kubeflow.org", "experiments"),
    "InferenceService": ("serving.kserve.io", "inferenceservices"),
    "ServingRuntime": ("serving.kserve.io", "servingruntimes"),
}
SHARED = "ReadWriteMany"
LEVEL = "pod-security.kubernetes.io/enforce"


@dataclass(frozen=True)
class Finding:
    """A line of the page: whether the cluster has something, and what follows."""

    state: Literal["yes", "no", "unknown"]
    what: str
    detail: str = ""


def check_cluster(connection: Connection, cluster: Cluster) -> list[Finding]:
    """What the cluster has of what a study needs.

    Raises
    ------
    InputError
        If no API server answers.
    """
    parts = (_kinds, _volume, _account, _rights, _registry, _quota, _pod_security)
    return [finding for part in parts for finding in part(connection, cluster)]


def page_of(findings: list[Finding], connection: Connection) -> str:
    """The findings as text."""
    lines = [f"{connection.host}, namespace {connection.namespace}", ""]
    lines += [f"{one.state:8}{one.what}{f': {one.detail}' if one.detail else ''}" for one in findings]
    missing = sum(one.state == "no" for one in findings)
    return "\n".join([*lines, "", f"{missing} missing" if missing else "nothing is missing"])


def _kinds(connection: Connection, cluster: Cluster) -> Iterator[Finding]:
    try:
        release = find_release(connection)
    except InputError as error:
        yield Finding("no", "trainings", str(error))
    else:
        how = f"TrainJob with {release.pods}" if release.job == "TrainJob" else "PyTorchJob, the older operator"
        yield Finding("yes", "trainings", how)
        asked = cluster.release
        if cluster.kubeflow and (asked.job, asked.pods) != (release.job, release.pods):
            known = asked.pods if asked.job == "TrainJob" else asked.job
            yield Finding("no", f"Kubeflow {cluster.kubeflow}", f"cluster.kubeflow would use {known}: leave it out")
        if release.job == "TrainJob":
            yield _found(
                connection, f"/apis/trainer.kubeflow.org/v1alpha1/clustertrainingruntimes/{cluster.runtime}",
                f"training runtime {cluster.runtime}", "name another one in cluster.runtime",
            )  # fmt: skip
    for kind, (version, use) in KINDS.items():
        there = connection.schema(version, kind) is not None
        yield Finding("yes" if there else "no", f"{kind} ({version})", "" if there else f"needed for {use}")


def _volume(connection: Connection, cluster: Cluster) -> Iterator[Finding]:
    claim, status = connection.read(
        f"/api/v1/namespaces/{connection.namespace}/persistentvolumeclaims/{cluster.volume}"
    )
    modes = ((claim or {}).get("spec") or {}).get("accessModes") or []
    if claim is not None and SHARED in modes:
        yield Finding("yes", f"volume {cluster.volume}", ", ".join(modes))
    elif claim is not None:
        yield Finding("no", f"volume {cluster.volume}", f"it has {', '.join(modes)}: several pods need {SHARED}")
    else:
        how = "`kubectl apply -k` makes it" if status == 404 else "this account may not look"
        yield Finding("no" if status == 404 else "unknown", f"volume {cluster.volume}", how)
    classes, _ = connection.read("/apis/storage.k8s.io/v1/storageclasses")
    names = [one["metadata"]["name"] for one in items_of(classes)]
    wanted = cluster.storage_class
    if classes is None:
        yield Finding("unknown", "storage class", f"this account may not look; the volume needs one with {SHARED}")
    elif wanted and wanted not in names:
        yield Finding("no", f"storage class {wanted}", f"there are {', '.join(names) or 'none'}")
    else:
        yield Finding("yes" if names else "no", "storage classes", f"{', '.join(names) or 'none'}; {SHARED} is needed")


def _account(connection: Connection, cluster: Cluster) -> Iterator[Finding]:
    yield _found(
        connection, f"/api/v1/namespaces/{connection.namespace}/serviceaccounts/default-editor",
        "service account default-editor", "the namespace is not that of a Kubeflow profile",
    )  # fmt: skip


def _rights(connection: Connection, cluster: Cluster) -> Iterator[Finding]:
    reviews = client.AuthorizationV1Api(connection.core.api_client)
    for kind, (group, plural) in MADE.items():
        attributes = {"verb": "create", "group": group, "resource": plural, "namespace": connection.namespace}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes}}  # fmt: skip
        try:
            review = reviews.create_self_subject_access_review(body, _request_timeout=REQUEST_TIMEOUT)
        except (client.ApiException, HTTPError):
            yield Finding("unknown", f"right to make {plural}")
            continue
        detail = "" if review.status.allowed else f"for {kind}; the role kubeflow-edit has it"
        yield Finding("yes" if review.status.allowed else "no", f"right to make {plural}", detail)


def _registry(connection: Connection, cluster: Cluster) -> Iterator[Finding]:
    image = cluster.image
    if "/" not in image:
        detail = "it names no registry: a node that does not have it cannot pull it; push it, and set cluster.image"
        yield Finding("no", f"image {image}", detail)
    else:
        yield Finding("unknown", f"image {image}", "whether nodes can pull it is seen when a pod starts")
    for name in cluster.image_pull_secrets:
        yield _found(
            connection, f"/api/v1/namespaces/{connection.namespace}/secrets/{name}", f"secret {name}",
            "named in cluster.image_pull_secrets",
        )  # fmt: skip


def _quota(connection: Connection, cluster: Cluster) -> Iterator[Finding]:
    found, _ = connection.read(f"/api/v1/namespaces/{connection.namespace}/resourcequotas")
    if found is None:
        yield Finding("unknown", "quota", "this account may not look")
        return
    if not found["items"]:
        yield Finding("yes", "quota", "none")
    asked = {"cpu": cluster.cpu, "memory": cluster.memory, "nvidia.com/gpu": str(cluster.gpus)}
    for quota in found["items"]:
        status = quota.get("status") or {}
        for name, hard in (status.get("hard") or quota.get("spec", {}).get("hard") or {}).items():
            kind = name.removeprefix("requests.").removeprefix("limits.")
            if kind not in asked:
                continue
            used = (status.get("used") or {}).get(name, "0")
            left, needs = parse_quantity(hard) - parse_quantity(used), parse_quantity(asked[kind])
            state: Literal["yes", "no"] = "yes" if needs <= left else "no"
            yield Finding(state, f"quota {name}", f"{used} of {hard} used; a training's pod asks for {asked[kind]}")


def _pod_security(connection: Connection, cluster: Cluster) -> Iterator[Finding]:
    namespace, _ = connection.read(f"/api/v1/namespaces/{connection.namespace}")
    if namespace is None:
        yield Finding("unknown", "pod security level", "this account may not look")
        return
    level = ((namespace.get("metadata") or {}).get("labels") or {}).get(LEVEL, "none")
    if level == "restricted":
        detail = (
            "restricted refuses Katib's collector (unless katib-config sets injectSecurityContext), KServe's "
            f"storage-initializer and TensorBoard; for these: {LEVEL}=baseline"
        )
        yield Finding("no", "pod security level", detail)
    else:
        yield Finding("yes", "pod security level", level)


def _found(connection: Connection, path: str, what: str, otherwise: str) -> Finding:
    """Whether there is something at an address."""
    found, status = connection.read(path)
    if found is not None:
        return Finding("yes", what)
    return Finding("no", what, otherwise) if status == 404 else Finding("unknown", what, "this account may not look")

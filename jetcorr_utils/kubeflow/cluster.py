"""A Kubernetes cluster, and the resources that are ours for a while: made, followed to their end, removed.

A resource lives as long as its `with` block, however that ends: done, failed, too late, or interrupted. In a pod it
belongs to that pod, and the cluster removes it with the pod. One that a process left behind because it was killed is
taken over, or replaced, by the next one of the same run folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from kubernetes import client, config, watch
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError

from ..config import ClusterSettings
from ..errors import ClusterError, InputError, JetcorrError
from ..files import parse_json
from ..processes import on_signals
from .pipeline_parameters import IMAGE
from .releases import has_kind
from .states import KINDS, progress
from .trouble import Pod, cannot_start, hindrance, oldest_failure

__all__ = [
    "Connection",
    "OwnPod",
    "RemovedError",
    "Resource",
    "connect",
    "exit_when_terminated",
    "items_of",
    "own_image",
]

T = TypeVar("T")

OWNER = "jetcorr/run-dir"
SPEC = "jetcorr/spec"  # a hash of what was asked for, by which a resource that is left behind is known again
POLL = 5.0  # seconds between two looks at the pods of a resource
SIDECARS = {"istio-proxy", "wait"}
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
ABSENCE = 5.0  # seconds without an answer of the API server, after which that is said
REQUEST_TIMEOUT = (5.0, 30.0)  # seconds to connect, and to wait for an answer


class RemovedError(ClusterError):
    """A resource was removed by someone else: a person, or the cluster with the pod that had made it."""


@dataclass(frozen=True)
class OwnPod:
    """The pod that this process runs in: whom its resources belong to, and the image that they have, too."""

    name: str
    uid: str
    image: str

    @property
    def reference(self) -> dict[str, str]:
        """As an owner of other resources."""
        return {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid}


@dataclass(frozen=True)
class Connection:
    """A cluster's API, and the namespace to work in; `pod` is None outside of the cluster.

    `patience` is how long to go on asking an API server that does not answer, in seconds.
    """

    custom: client.CustomObjectsApi
    core: client.CoreV1Api
    host: str
    namespace: str
    pod: OwnPod | None = None
    patience: float = ClusterSettings().patience

    def read(self, path: str) -> tuple[dict[str, Any] | None, int]:
        """What the API server has at an address, and the status of its answer; None where it has or shows nothing."""
        try:
            answer = self.core.api_client.call_api(
                path, "GET", response_type="object", auth_settings=["BearerToken"], _request_timeout=REQUEST_TIMEOUT,
                header_params={"Accept": "application/json"},
            )  # fmt: skip
        except (client.ApiException, HTTPError) as error:
            if (status := _status(error)) in (401, 403, 404):
                return None, status
            raise self.explain(error, "get", path) from None
        return (answer[0], 200) if isinstance(answer[0], dict) else (None, 200)

    def schema(self, version: str, kind: str) -> Mapping[str, Any] | None:
        """The schema of a kind as the API server has it; None if it does not know the kind."""
        listed, _ = self.read(f"/apis/{version}")
        if not any(one.get("kind") == kind for one in (listed or {}).get("resources", ())):
            return None
        document, _ = self.read(f"/openapi/v3/apis/{version}")
        return has_kind(document or {}, version, kind) or {}

    def pods(self, selector: str = "") -> list[Pod]:
        """Pods of the namespace, as the API server writes them."""
        return _items(self.core.list_namespaced_pod, self.namespace, label_selector=selector)

    def warnings(self) -> list[dict[str, Any]]:
        """The namespace's events of the last hour that are warnings, the latest last."""
        events = _items(self.core.list_namespaced_event, self.namespace, field_selector="type=Warning")
        return sorted(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")

    def require_volume(self, name: str) -> None:
        """Raise an `InputError` if there is no such volume claim, without which every pod would wait for ever."""
        try:
            self.core.read_namespaced_persistent_volume_claim(name, self.namespace, _request_timeout=REQUEST_TIMEOUT)
        except (client.ApiException, HTTPError) as error:
            if _status(error) == 404:
                raise InputError(
                    f"no volume claim {name!r} in namespace {self.namespace!r}: make it with "
                    "`kubectl apply -k pipelines/manifests/base`, or name another one in cluster.volume"
                ) from None
            if _status(error) != 403:  # who may not look may still be right
                raise self.explain(error, "read", "persistentvolumeclaims") from None

    def explain(self, error: Exception, verb: str, what: str) -> JetcorrError:
        """The error of a request in one line: an `InputError` where something is missing."""
        if isinstance(error, HTTPError):
            reason = str(getattr(error, "reason", None) or error).rpartition(": ")[2]
            return InputError(f"no Kubernetes cluster answers at {self.host}: {reason}; or use BACKEND = 'local'")
        message = _message(error)
        if error.status in (401, 403):
            return InputError(
                f"this account may not {verb} {what} in namespace {self.namespace!r} ({error.status}): it needs the "
                f"role kubeflow-edit there: {message}"
            )
        return ClusterError(f"the cluster could not {verb} {what}: {error.status} {message}")


def connect(namespace: str | None = None, patience: float = ClusterSettings().patience) -> Connection:
    """The cluster that this pod is part of, or else that of the kubeconfig; credentials as these give them.

    What is made there waits for an API server that is away, `patience` seconds.

    Raises
    ------
    InputError
        If there is neither.
    """
    settings = client.Configuration()
    settings.retries = False  # the requests below say how patient they are
    try:
        config.load_incluster_config(client_configuration=settings)
        own = NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except (config.ConfigException, OSError):
        try:
            config.load_kube_config(client_configuration=settings)
            own = config.list_kube_config_contexts()[1]["context"].get("namespace", "default")
        except (config.ConfigException, OSError) as error:
            raise InputError(
                f"no Kubernetes cluster: this is not a pod of one, and there is no usable kubeconfig ({error}); run it "
                "in a Kubeflow notebook server, or use BACKEND = 'local'"
            ) from None
    api = client.ApiClient(settings)
    custom, core = client.CustomObjectsApi(api), client.CoreV1Api(api)
    return Connection(custom, core, settings.host, namespace or own, _own_pod(core, own), patience)


def _own_pod(core: client.CoreV1Api, namespace: str) -> OwnPod | None:
    """The pod that this process runs in; None outside of the cluster, or where this account may not look."""
    name = os.environ.get("POD_NAME") or os.environ.get("KFP_POD_NAME")
    if not name and NAMESPACE_FILE.is_file():
        name = socket.gethostname()
    if not name:
        return None
    try:
        pod = core.read_namespaced_pod(name, namespace, _request_timeout=REQUEST_TIMEOUT)
    except (client.ApiException, HTTPError):
        return None
    images = [one.image for one in pod.spec.containers if one.name not in SIDECARS]
    return OwnPod(name, pod.metadata.uid, images[0]) if images else None


def own_image() -> str | None:
    """The image of the pod that this process runs in, as the cluster says, or else the server's environment."""
    with contextlib.suppress(InputError):
        if (pod := connect().pod) is not None:
            return pod.image
    return os.environ.get(IMAGE)


def _items(call: Callable[..., Any], namespace: str, **options: Any) -> list[dict[str, Any]]:
    """The items of a list as plain dictionaries; none where this account may not look or the server is away."""
    try:
        answer = call(namespace, _preload_content=False, _request_timeout=REQUEST_TIMEOUT, **options)
        found = parse_json(answer.data)
    except (client.ApiException, HTTPError, ValueError):
        return []
    return items_of(found)


def items_of(found: object) -> list[dict[str, Any]]:
    """The resources of an answer of the API server that is a list of them."""
    items = found.get("items") if isinstance(found, dict) else None
    return [item for item in items if _is_resource(item)] if isinstance(items, list) else []


def _is_resource(item: object) -> bool:
    """Whether an answer is a resource: a proxy before the API server may say something else, with status 200."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    return isinstance(metadata, dict) and isinstance(metadata.get("name"), str)


class Resource:
    """A resource of the cluster for the time of a `with` block.

    Parameters
    ----------
    connection
        The cluster.
    manifest
        What to make.
    run_dir
        The run's folder, which tells ours from those of others.
    adopt
        Go on with one that was left behind by this run if the same was asked for, rather than begin anew.
    asked
        What it is made for, such as the study that its pods read: what is made for another thing is not the same.
        Default: its specification.
    """

    def __init__(
        self, connection: Connection, manifest: dict[str, Any], run_dir: str, *, adopt: bool = False, asked: str = ""
    ) -> None:
        self.connection, self.run_dir, self.adopt = connection, run_dir, adopt
        asked = asked or json.dumps(manifest["spec"], sort_keys=True)
        spec = hashlib.sha256(asked.encode()).hexdigest()[:16]
        annotations = (manifest["metadata"].get("annotations") or {}) | {OWNER: run_dir, SPEC: spec}
        metadata = {**manifest["metadata"], "namespace": connection.namespace, "annotations": annotations}
        if connection.pod is not None:
            metadata["ownerReferences"] = [connection.pod.reference]
        self.manifest = {**manifest, "metadata": metadata}
        self.name, self.kind = metadata["name"], KINDS[manifest["kind"]]
        self._log = ""  # of a pod that failed: the cluster may have removed it by the time that the job has failed, too
        self._place = (*manifest["apiVersion"].split("/"), connection.namespace, self.kind.plural)

    def __str__(self) -> str:
        return f"{self.manifest['kind']} {self.name}"

    def __enter__(self) -> Self:
        """Make it, in place of one that an earlier run of this folder has left behind."""
        try:
            if self._create() is None and not self._adopt():
                self._remove()
                self._wait_until_gone()
                if self._create() is None:
                    raise InputError(f"{self} exists, and is not of {self.run_dir}: remove it, or rename the study")
        except (KeyboardInterrupt, SystemExit):
            self._remove()  # the request may have arrived
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def wait(self, timeout: float) -> dict[str, Any]:
        """Follow it until it is done, with a line of progress; the resource as it then is.

        Raises
        ------
        ClusterError
            If it fails, is not done within `timeout` seconds, or is removed by someone else.
        """
        state, trouble, looked = "no status yet", None, 0.0
        with tqdm(desc=str(self), bar_format="{desc}{postfix} [{elapsed}]") as bar:
            for resource in self._versions(time.monotonic() + timeout):
                status = resource.get("status") or {}
                why = self.kind.why_failed(status)
                if why is not None:
                    self._look_at_pods()
                    raise ClusterError(f"{self} failed: {why}{self._log}")
                state = progress(self.kind, status)
                bar.set_postfix_str(state)
                if self.kind.is_done(status):
                    return resource
                if time.monotonic() - looked >= POLL:
                    before, trouble = trouble, self._look_at_pods()
                    looked = time.monotonic()
                    if trouble not in (None, before):
                        bar.write(f"{self} waits: {trouble}")
        why = f"{state}{f'; {trouble}' if trouble else ''}"
        raise ClusterError(f"{self} is not done after {timeout:g} s ({why}){self._log}; it is removed")

    def _create(self) -> dict[str, Any] | None:
        """The new resource; None if the name is taken."""
        api, product = self.connection.custom, self.kind.product
        try:
            # Strict: the server would leave out a field that it does not know, without a word
            return self._patiently(
                lambda: api.create_namespaced_custom_object(
                    *self._place, self.manifest, field_validation="Strict", field_manager="jetcorr",
                    _request_timeout=REQUEST_TIMEOUT,
                )
            )  # fmt: skip
        except client.ApiException as error:
            if error.status == 409:
                return None
            if error.status == 404 and _details(error).get("kind") == "namespaces":
                raise InputError(f"the cluster has no namespace {self.connection.namespace!r}") from None
            if error.status == 404:
                missing = f"{self.manifest['kind']} ({self.manifest['apiVersion']})"
                raise InputError(f"the cluster has no {missing}: {product} has to be installed in it") from None
            if error.status in (400, 422):
                raise InputError(f"the cluster refuses {self}: {_message(error)}") from None
            raise self.connection.explain(error, "create", self.kind.plural) from None

    def _adopt(self) -> bool:
        """Take over what a process of this run that was killed has left behind, if it is to be and is the same."""
        known = self._get() if self.adopt else None
        metadata, ours = (known or {}).get("metadata", {}), self.manifest["metadata"]
        noted = metadata.get("annotations") or {}
        same = all(noted.get(key) == ours["annotations"][key] for key in (OWNER, SPEC))
        if known is None or not same or metadata.get("deletionTimestamp"):
            return False
        if self.kind.why_failed(known.get("status") or {}) is not None:
            return False
        try:
            # Before the cluster removes it with the pod that made it
            self._patiently(
                lambda: self.connection.custom.patch_namespaced_custom_object(
                    *self._place, self.name, {"metadata": {"ownerReferences": ours.get("ownerReferences")}},
                    field_manager="jetcorr", _request_timeout=REQUEST_TIMEOUT,
                )
            )  # fmt: skip
        except client.ApiException:
            return False
        return True

    def _get(self) -> dict[str, Any] | None:
        """The resource as it is; None if there is none."""
        api = self.connection.custom
        try:
            found: dict[str, Any] = self._patiently(
                lambda: api.get_namespaced_custom_object(*self._place, self.name, _request_timeout=REQUEST_TIMEOUT)
            )
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise self.connection.explain(error, "get", self.kind.plural) from None
        if not _is_resource(found):
            raise ClusterError(f"{self}: what answers at {self.connection.host} is no Kubernetes API server")
        return found

    def _versions(self, deadline: float) -> Iterator[dict[str, Any]]:
        """The resource as it is now, then after each change, until the deadline."""
        while (left := deadline - time.monotonic()) > 0:
            resource = self._get()
            if resource is None:
                raise RemovedError(f"{self} was removed by someone else")
            yield resource
            seconds = max(1, min(round(POLL), round(left)))
            try:
                for event in watch.Watch().stream(
                    self.connection.custom.list_namespaced_custom_object, *self._place,
                    field_selector=f"metadata.name={self.name}", timeout_seconds=seconds,
                    resource_version=resource["metadata"].get("resourceVersion"), _request_timeout=(5, seconds + 5),
                ):  # fmt: skip
                    if event["type"] == "DELETED":
                        break
                    yield event["object"]
            except (client.ApiException, HTTPError):
                time.sleep(min(1.0, max(0.0, left)))  # too old a version, or a lost connection: look again

    def _remove(self) -> None:
        """Remove it with all that it has made, if it is ours."""
        with contextlib.suppress(client.ApiException):
            resource = self._get()
            owner = ((resource or {}).get("metadata", {}).get("annotations") or {}).get(OWNER)
            if owner == self.run_dir:
                delete = self.connection.custom.delete_namespaced_custom_object
                self._patiently(
                    lambda: delete(
                        *self._place, self.name, propagation_policy="Background", _request_timeout=REQUEST_TIMEOUT
                    )
                )

    def _wait_until_gone(self, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and ((self._get() or {}).get("metadata", {}).get("deletionTimestamp")):
            time.sleep(0.5)

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call until the API server answers; say in a line that it is away."""
        start, pause, said = time.monotonic(), 0.2, False
        while True:
            try:
                return call()
            except (client.ApiException, HTTPError) as error:
                if _status(error) not in (None, 429, 500, 502, 503, 504):
                    raise
                away, patience = time.monotonic() - start, self.connection.patience
                if away + pause > patience:
                    raise self.connection.explain(error, "reach", self.kind.plural) from None
                if away >= ABSENCE and not said:
                    said = True
                    line = f"{self}: the cluster's API server does not answer; waiting for it, {patience:g} s at most"
                    tqdm.write(f"{line} (cluster.patience)")
            time.sleep(pause)
            pause = min(2 * pause, 10.0)

    def _pods(self) -> list[Pod]:
        """The pods that work for it."""
        if self.kind.pods is None:
            return [pod for pod in self.connection.pods() if pod["metadata"]["name"].startswith(f"{self.name}-")]
        return self.connection.pods(f"{self.kind.pods[0]}={self.name}")

    def _look_at_pods(self) -> str | None:
        """What keeps its pods from starting, in a line; keep the end of the log of one that has failed.

        Raises
        ------
        ClusterError
            If one of them will never start.
        """
        pods = self._pods()
        why = cannot_start(pods)
        if why is not None:
            raise ClusterError(f"{self} cannot start: {why}")
        self._keep_log(pods)
        return hindrance(self.name, pods, self.connection.warnings())

    def _keep_log(self, pods: list[Pod], lines: int = 5) -> None:
        """Keep the last lines of a pod that failed or was restarted, else of any."""
        pod = oldest_failure(pods)
        if pod is None or self.kind.pods is None:
            return
        name, core = pod["metadata"]["name"], self.connection.core
        options = {"container": self.kind.pods[1], "tail_lines": lines, "_request_timeout": REQUEST_TIMEOUT}
        for previous in (True, False):  # a container that was restarted says why in the log before
            with contextlib.suppress(client.ApiException, HTTPError):
                log = core.read_namespaced_pod_log(name, self.connection.namespace, previous=previous, **options)
                if log:
                    self._log = f"\n  the last lines of pod {name}:\n{log.rstrip()}"
                    return


def exit_when_terminated() -> contextlib.AbstractContextManager[None]:
    """Let SIGTERM end the `with` block as an interrupt would, so that no resource stays behind."""
    return on_signals(lambda number, frame: sys.exit(128 + number), signal.SIGTERM)


def _status(error: client.ApiException | HTTPError) -> Any:
    """The status of the API server's answer; None where there was none."""
    return error.status if isinstance(error, client.ApiException) else None


def _details(error: client.ApiException) -> dict[str, Any]:
    return (_body(error).get("details") or {}) if error.body else {}


def _message(error: client.ApiException) -> str:
    """What the API server says, in one line."""
    return " ".join(str(_body(error).get("message") or error.reason).split())[:500]


def _body(error: client.ApiException) -> dict[str, Any]:
    try:
        body = parse_json(error.body)
    except (TypeError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}

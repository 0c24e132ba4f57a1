"""A small Kubernetes API server for tests: its REST, spoken to by the real client and by kubectl.

It does what a real one does with resources: prunes or refuses unknown fields, fills in defaults, validates by the CRDs'
schemas (`crds`, `built_in`), keeps the status apart, selects by labels, watches from a version on and forgets old
versions, removes what has lost its owner, and lets an account do what its role says (`roles`). The work is left to
*operators*: functions that a test gives for each plural, started in a thread of their own when a resource is made.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

from tests.kubeflow.built_in import built_in_errors
from tests.kubeflow.crds import BUILT_IN, Definition, definitions, errors, prune, with_defaults
from tests.kubeflow.roles import ROLES, Rule, allows

Resource = dict[str, Any]
Operator = Callable[["FakeApi", Resource], None]
Answer = tuple[int, Resource]

NAMESPACE = "physics"


class FakeApi:
    """The server; an instance is a context in which it answers at `url`.

    Parameters
    ----------
    operators
        What is called with each new resource, by plural; None where nobody works. Other plurals are not installed.
    katib
        JSON schema of an Experiment, which Katib's own webhook checks, since its CRD leaves all fields open.
    trainer
        Version of Kubeflow Trainer, where it is installed.

    Attributes
    ----------
    resources
        What there is, by (plural, name).
    made
        Every resource of an installed plural, as it was made.
    requests
        What was asked for: method, path and query.
    refuse
        Answers given in place of the real ones: (method, plural) → (status, message, details).
    roles
        What an account may do, by its token.
    logs
        What a container of a pod has printed, by the pod's name, or by "NAME before" before its last restart.
    away
        While it is true, connections end without an answer.
    """

    def __init__(
        self, operators: Mapping[str, Operator | None], katib: Resource | None = None, trainer: str = "2.3"
    ) -> None:
        self.operators, self._katib = operators, katib
        known = definitions(trainer)
        self.kinds = {one.plural: one for one in BUILT_IN} | {plural: known[plural] for plural in operators}
        self.resources: dict[tuple[str, str], Resource] = {}
        self.made: list[Resource] = []
        self.requests: list[tuple[str, str, dict[str, list[str]]]] = []
        self.refuse: dict[tuple[str, str], tuple[int, str, dict]] = {}
        self.roles: dict[str, list[Rule]] = dict(ROLES)
        self.logs: dict[str, str] = {}
        self.away = False
        self.drop_watches = 0  # how many watches to break off after their first event
        self._changed, self._version, self._oldest = threading.Condition(threading.RLock()), 0, 0
        self._events: list[tuple[int, str, str, Resource]] = []  # version, type, plural, resource
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self.add("namespaces", {"metadata": {"name": NAMESPACE}})
        self.add(
            "persistentvolumeclaims", {"metadata": {"name": "jetcorr"}, "spec": {"accessModes": ["ReadWriteMany"]}}
        )

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._notify()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def running(self) -> bool:
        """Whether it still answers; operators end when it does not."""
        return not self._stopped

    def kubeconfig(self, path: Path, token: str = "default-editor") -> Path:
        """Write a kubeconfig that leads here, for an account."""
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me", "namespace": NAMESPACE}}],
        }  # fmt: skip
        path.write_text(yaml.safe_dump(content))
        return path

    # What operators, the kubelet and the scheduler do

    def add(self, plural: str, resource: Resource, status: Resource | None = None) -> Resource:
        """Put a resource there, as a controller would, whatever its schema."""
        one = self.kinds[plural]
        metadata = {"name": resource["metadata"]["name"], **self._birth(one), **resource["metadata"]}
        known = {"apiVersion": one.version, "kind": one.kind, **resource, "metadata": metadata}
        with self._changed:
            return self._record("ADDED", plural, {**known, **({"status": status} if status else {})})

    def add_pod(self, name: str, labels: Resource, log: str = "", owner: Resource | None = None, **status: Any) -> None:
        """Start a pod: `status` as the kubelet writes it."""
        references = {"ownerReferences": [_reference(owner)]} if owner else {}
        container = {"name": next(iter(status.pop("containers", ["node"])))}
        metadata = {"name": name, "labels": labels, **references}
        self.logs[name] = log
        self.add("pods", {"metadata": metadata, "spec": {"containers": [container]}}, {"phase": "Running", **status})

    def add_event(self, kind: str, name: str, reason: str, message: str) -> None:
        """Note a warning about a resource."""
        about = {"kind": kind, "name": name, "namespace": NAMESPACE}
        event = {"metadata": {"name": f"{name}.{uuid.uuid4().hex[:12]}"}, "involvedObject": about, "type": "Warning"}
        self.add("events", {**event, "reason": reason, "message": message, "lastTimestamp": _now()})

    def set_status(self, plural: str, name: str, **status: Any) -> None:
        """Change parts of a resource's status, as its operator would; nothing happens if it is gone."""
        with self._changed:
            if (plural, name) in self.resources:
                resource = self.resources[plural, name]
                self._record("MODIFIED", plural, {**resource, "status": resource.get("status", {}) | status})

    def exists(self, plural: str, name: str) -> bool:
        """Whether the resource is still there."""
        return (plural, name) in self.resources and not self._stopped

    def ours(self) -> list[tuple[str, str]]:
        """The resources that are not built in and that someone has made here."""
        built_in = {one.plural for one in BUILT_IN}
        return [key for key in self.resources if key[0] not in built_in]

    def compact(self) -> None:
        """Forget the versions before the present one, as etcd does every few minutes."""
        with self._changed:
            self._oldest = self._version
            self._events.clear()

    # Requests

    def create(self, plural: str, resource: Resource, strict: bool = False, manager: str = "") -> Answer:
        """Answer a POST."""
        one = self.kinds[plural]
        refusal, resource = self._admit(one, resource, strict)
        if refusal:
            return refusal
        metadata = resource["metadata"]
        if "name" not in metadata:
            metadata["name"] = f"{metadata['generateName']}{uuid.uuid4().hex[:5]}"
        with self._changed:
            name = metadata["name"]
            if (plural, name) in self.resources:
                return 409, failure(409, f"{plural} {name!r} already exists", {"name": name})
            resource.pop("status", None)
            fields = [{"manager": manager or "unknown", "operation": "Update", "apiVersion": one.version}]
            metadata |= {**self._birth(one), "managedFields": fields}
            made = self._record("ADDED", plural, resource)
            if plural in self.operators:
                self.made.append(made)
        self._start(self._collect_orphans)
        if (operator := self.operators.get(plural)) is not None:
            self._start(operator, self, made)
        return 201, made

    def replace(self, plural: str, name: str, new: Resource, strict: bool, part: str | None, manager: str) -> Answer:
        """Answer a PUT, or a PATCH once it is merged: of the resource, or of its status alone."""
        one = self.kinds[plural]
        with self._changed:
            old = self.resources.get((plural, name))
            if old is None:
                return 404, failure(404, f"{plural} {name!r} not found")
            version = new["metadata"].get("resourceVersion")
            if version not in (None, old["metadata"]["resourceVersion"]):
                return 409, failure(409, f"the object has been modified: {plural} {name!r}")
            refusal, new = self._admit(one, new, strict)
            if refusal:
                return refusal
            if part == "status":
                new = {**old, "status": new.get("status", {})}
            else:
                new = {**new, **({"status": old["status"]} if "status" in old else {})}
                if not one.has_status or "status" not in old:
                    new.pop("status", None)
            kept = {key: old["metadata"][key] for key in ("uid", "creationTimestamp")}
            fields = [f for f in old["metadata"].get("managedFields", []) if f["manager"] != manager]
            fields.append({"manager": manager, "operation": "Update", "apiVersion": one.version})
            generation = old["metadata"].get("generation", 1) + (new.get("spec") != old.get("spec"))
            metadata = new["metadata"] | kept | {"managedFields": fields, "generation": generation}
            new = self._record("MODIFIED", plural, {**new, "metadata": metadata})
            if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
                self._record("DELETED", plural, new)
        self._start(self._collect_orphans)
        return 200, new

    def delete(self, plural: str, name: str) -> Answer:
        """Answer a DELETE: what has finalizers waits for these, what it owned goes after it."""
        with self._changed:
            old = self.resources.get((plural, name))
            if old is None:
                return 404, failure(404, f"{plural} {name!r} not found")
            if old["metadata"].get("finalizers"):
                metadata = old["metadata"] | {"deletionTimestamp": _now()}
                return 200, self._record("MODIFIED", plural, {**old, "metadata": metadata})
            self._record("DELETED", plural, old)
        self._collect_orphans()
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def select(self, plural: str, query: Mapping[str, list[str]]) -> list[Resource]:
        """The resources that a list's selectors choose."""
        return [one for (kind, _), one in self.resources.items() if kind == plural and _selected(one, query)]

    def watch(self, plural: str, query: Mapping[str, list[str]]) -> Iterator[Resource]:
        """The events after a version, as they come, until the time is over; too old a version is said in an event."""
        seen = int(query.get("resourceVersion", ["0"])[0] or 0)
        if not seen:
            seen = self._version
            for one in self.select(plural, query):
                yield {"type": "ADDED", "object": one}
        elif seen < self._oldest:
            yield {"type": "ERROR", "object": failure(410, f"too old resource version: {seen} ({self._oldest})")}
            return
        end = time.monotonic() + float(query.get("timeoutSeconds", ["600"])[0])
        while time.monotonic() < end and not self._stopped and not self.away:
            with self._changed:
                new = [e for e in self._events if e[0] > seen and e[2] == plural and _selected(e[3], query)]
                if not new:
                    self._changed.wait(min(0.2, max(end - time.monotonic(), 0.001)))
            for version, event, _, resource in new:
                seen = version
                yield {"type": event, "object": resource}

    def discover(self, path: list[str]) -> Answer:
        """Answer what an account may always ask: groups, versions, kinds, and their schemas."""
        versions = {one.version for one in self.kinds.values() if one.group}
        if path == ["api"]:
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path == ["version"]:
            return 200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        if path == ["apis"]:
            groups = []
            for group, members in itertools.groupby(sorted(versions), lambda version: version.partition("/")[0]):
                listed = [{"groupVersion": v, "version": v.partition("/")[2]} for v in members]
                groups.append({"name": group, "versions": listed, "preferredVersion": listed[0]})
            return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        version = "/".join(path[1:])
        kinds = [one for one in self.kinds.values() if one.version == version]
        if not kinds:
            return 404, failure(404, "the server could not find the requested resource")
        verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
        listed = [
            {"name": one.plural, "singularName": "", "namespaced": one.namespaced, "kind": one.kind, "verbs": verbs}
            for one in kinds
        ]
        return 200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}

    def openapi(self, path: list[str]) -> Answer:
        """Answer /openapi/v3: the addresses of the groups' documents, or one of these."""
        versions = {one.version for one in self.kinds.values()}
        if not path:
            places = {("apis/" if "/" in v else "api/") + v: {} for v in versions}
            return 200, {"paths": {p: {"serverRelativeURL": f"/openapi/v3/{p}"} for p in places}}
        version = "/".join(path[1:])
        schemas, paths = {}, {}
        for one in (kind for kind in self.kinds.values() if kind.version == version):
            group, _, short = one.version.rpartition("/")
            gvk = {"group": group, "version": short, "kind": one.kind}
            name = ".".join([*reversed(group.split(".")), short, one.kind]).lstrip(".")
            schemas[name] = {**(one.schema or {"type": "object"}), "x-kubernetes-group-version-kind": [gvk]}
            where = ["/apis" if group else "/api", one.version, *(["namespaces/{namespace}"] * one.namespaced)]
            parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
            patch = {"parameters": parameters, "x-kubernetes-group-version-kind": gvk}
            paths["/".join([*where, one.plural, "{name}"])] = {"patch": patch}
        found = {"openapi": "3.0.0", "info": {"title": "fake", "version": "1"}, "paths": paths}
        return (200, {**found, "components": {"schemas": schemas}}) if schemas else (404, failure(404, "not found"))

    def may(self, token: str, verb: str, group: str, resource: str) -> bool:
        """Whether an account's role lets it do this in the namespace."""
        return allows(self.roles.get(token, []), verb, group, resource)

    def _admit(self, one: Definition, resource: Resource, strict: bool) -> tuple[Answer | None, Resource]:
        """The refusal of a body, if any; else what is stored of it."""
        resource = copy.deepcopy(resource)
        if (resource.get("apiVersion"), resource.get("kind")) != (one.version, one.kind):
            return (400, failure(400, f"the body is no {one.kind} of {one.version}")), resource
        if one.schema is not None:
            resource, unknown = prune(resource, one.schema)
            if unknown and strict:
                said = ", ".join(f'unknown field "{name}"' for name in unknown)
                text = f'{one.kind} in version "{one.version}" cannot be handled: strict decoding error: {said}'
                return (400, failure(400, text)), resource
            resource = with_defaults(resource, one.schema)
            for error in errors(resource, one.schema):
                name = resource["metadata"].get("name", "")
                return (422, failure(422, f"{one.kind}.{one.group} {name!r} is invalid: {error}")), resource
        elif strict and one in BUILT_IN:
            for error in built_in_errors(resource):
                name = resource["metadata"].get("name", "")
                return (422, failure(422, f"{one.kind} {name!r} is invalid: {error}")), resource
        if one.kind == "Experiment" and self._katib is not None:
            for error in jsonschema.Draft202012Validator(self._katib).iter_errors(resource):
                where = ".".join(map(str, error.absolute_path))
                return (400, failure(400, f"admission webhook denied the request: {where}: {error.message}")), resource
        if len(resource["metadata"].get("name", "")) > LIMITS.get(one.kind, 253):
            return (
                422,
                failure(422, f"metadata.name: Too long: may not be more than {LIMITS[one.kind]} bytes"),
            ), resource
        return None, resource

    def _collect_orphans(self) -> None:
        """Remove what has lost all its owners, until nothing has."""
        while True:
            with self._changed:
                living = {one["metadata"]["uid"] for one in self.resources.values()}
                orphans = [
                    key for key, one in self.resources.items()
                    if (owners := one["metadata"].get("ownerReferences")) and not living & {o["uid"] for o in owners}
                ]  # fmt: skip
                for plural, name in orphans:
                    self._record("DELETED", plural, self.resources[plural, name])
            if not orphans:
                return

    def _birth(self, one: Definition) -> Resource:
        place = {"namespace": NAMESPACE} if one.namespaced else {}
        return {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "generation": 1, **place}

    def _start(self, function: Callable[..., object], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _record(self, event: str, plural: str, resource: Resource) -> Resource:
        self._version += 1
        resource = {**resource, "metadata": {**resource["metadata"], "resourceVersion": str(self._version)}}
        key = plural, resource["metadata"]["name"]
        if event == "DELETED":
            self.resources.pop(key, None)
        else:
            self.resources[key] = resource
        self._events.append((self._version, event, plural, resource))
        self._changed.notify_all()
        return resource


REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired",
    422: "Invalid", 500: "InternalError", 503: "ServiceUnavailable",
}  # fmt: skip
LIMITS = {"Experiment": 40, "TrainJob": 63, "InferenceService": 63, "PyTorchJob": 63}


class _Handler(BaseHTTPRequestHandler):
    api: FakeApi
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Not on standard error."""

    def do_GET(self) -> None:
        path, query = self._read()
        if path is None:
            return
        if path[0] in ("version", "api") or path[0] == "apis":
            depth = 2 if path[0] == "api" else 3
            if len(path) <= depth:
                self._answer(*self.api.discover(path))
                return
        if path[0] == "openapi":
            self._answer(*(self.api.openapi(path[2:]) if path[1] == "v3" else (404, failure(404, "not found"))))
            return
        plural, name, part = self._place(path)
        if self._denied("GET", path, plural, name, part, query):
            return
        if name is None and query.get("watch", ["0"])[0] in ("1", "true", "True"):
            self._stream(plural, query)
        elif name is None:
            one, items = self.api.kinds[plural], self.api.select(plural, query)
            version = {"resourceVersion": str(self.api._version)}
            self._answer(
                200, {"kind": f"{one.kind}List", "apiVersion": one.version, "metadata": version, "items": items}
            )
        elif (plural, name) not in self.api.resources:
            self._answer(404, failure(404, f"{plural} {name!r} not found"))
        elif part == "log" and query.get("previous") in (["true"], ["True"]) and f"{name} before" not in self.api.logs:
            self._answer(400, failure(400, f"previous terminated container in pod {name!r} not found"))
        elif part == "log":
            name = f"{name} before" if query.get("previous") in (["true"], ["True"]) else name
            lines = self.api.logs.get(name, "").splitlines(keepends=True)
            self._answer(200, "".join(lines[-int(query.get("tailLines", ["1000"])[0]) :]), "text/plain")
        else:
            self._answer(200, self.api.resources[plural, name])

    def do_POST(self) -> None:
        path, query = self._read()
        if path is None:
            return
        body = self._body()
        if path[-1] == "selfsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            allowed = self.api.may(self._token(), asked["verb"], asked.get("group", ""), asked["resource"])
            self._answer(201, {**body, "status": {"allowed": allowed}})
            return
        plural, _, part = self._place(path)
        if not self._denied("POST", path, plural, None, part, query):
            self._answer(*self.api.create(plural, body, *self._how(query)))

    def do_PUT(self) -> None:
        path, query = self._read()
        if path is None:
            return
        body = self._body()
        plural, name, part = self._place(path)
        if not self._denied("PUT", path, plural, name, part, query):
            strict, manager = self._how(query)
            self._answer(*self.api.replace(plural, name, body, strict, part, manager))

    def do_PATCH(self) -> None:
        path, query = self._read()
        if path is None:
            return
        body = self._body()
        plural, name, part = self._place(path)
        if self._denied("PATCH", path, plural, name, part, query):
            return
        old = self.api.resources.get((plural, name))
        strict, manager = self._how(query)
        new = _merged(old, body) if old is not None else body
        self._answer(*self.api.replace(plural, name, new, strict, part, manager))

    def do_DELETE(self) -> None:
        path, query = self._read()
        if path is None:
            return
        self._body()
        plural, name, part = self._place(path)
        if not self._denied("DELETE", path, plural, name, part, query):
            self._answer(*self.api.delete(plural, name))

    def _place(self, path: list[str]) -> tuple[str, str | None, str | None]:
        """Plural, name and part (status, log) of an address."""
        rest = path[2:] if path[0] == "api" else path[3:]
        if rest[0] == "namespaces" and len(rest) > 2:
            rest = rest[2:]
        return rest[0], rest[1] if len(rest) > 1 else None, rest[2] if len(rest) > 2 else None

    def _denied(
        self, method: str, path: list[str], plural: str, name: str | None, part: str | None,
        query: Mapping[str, list[str]],
    ) -> bool:  # fmt: skip
        """Answer what needs no look at a resource: no rights, no such kind or namespace, or as a test wants it."""
        if (method, plural) in self.api.refuse:
            status, message, details = self.api.refuse[method, plural]
            self._answer(status, failure(status, message, details))
            return True
        group = "" if path[0] == "api" else path[1]
        one = self.api.kinds.get(plural)
        reads = ("get" if name else "watch" if query.get("watch") else "list")  # fmt: skip
        verb = {"GET": reads, "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[method]
        resource = f"{plural}/{part}" if part else plural
        if not self.api.may(self._token(), verb, group, resource):
            who = f"system:serviceaccount:{NAMESPACE}:{self._token()}"
            text = f'{resource} is forbidden: User "{who}" cannot {verb} resource "{resource}" in API group "{group}"'
            self._answer(403, failure(403, text))
        elif one is None or one.version != ("v1" if path[0] == "api" else "/".join(path[1:3])):
            self._answer(404, failure(404, "the server could not find the requested resource"))
        elif "namespaces" in path[:-1] and ("namespaces", path[path.index("namespaces") + 1]) not in self.api.resources:
            place = path[path.index("namespaces") + 1]
            details = {"kind": "namespaces", "name": place}
            self._answer(404, failure(404, f"namespaces {place!r} not found", details))
        else:
            return False
        return True

    def _how(self, query: Mapping[str, list[str]]) -> tuple[bool, str]:
        manager = query.get("fieldManager", [self.headers.get("User-Agent", "").partition("/")[0]])[0]
        return query.get("fieldValidation", [""])[0] == "Strict", manager

    def _token(self) -> str:
        # kubectl sends no token without TLS
        return self.headers.get("Authorization", "Bearer default-editor").removeprefix("Bearer ")

    def _body(self) -> Resource:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return yaml.safe_load(text) if text else {}

    def _stream(self, plural: str, query: Mapping[str, list[str]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for event in self.api.watch(plural, query):
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.flush()
                if self.api.drop_watches > 0 and event["type"] != "ERROR":
                    self.api.drop_watches -= 1
                    self.close_connection = True
                    return  # in the midst of the answer
            if self.api.away:
                self.close_connection = True
                return
            self.wfile.write(b"0\r\n\r\n")

    def _read(self) -> tuple[list[str] | None, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        self.api.requests.append((self.command, parts.path, query))
        if self.api.away:
            self.close_connection = True
            return None, {}
        return parts.path.strip("/").split("/"), query

    def _answer(self, status: int, body: Resource | str, content: str = "application/json") -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(data)


def failure(code: int, message: str, details: dict | None = None) -> Resource:
    """The body of an answer that is an error."""
    return {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": REASONS[code],
        "message": message, "details": details or {},
    }  # fmt: skip


def _reference(owner: Resource) -> Resource:
    metadata = owner["metadata"]
    return {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"], "uid": metadata["uid"]}


def _merged(old: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = _merged(new.get(key), value)
    return new


def _selected(resource: Resource, query: Mapping[str, list[str]]) -> bool:
    """Whether label and field selectors choose a resource."""
    labels = resource["metadata"].get("labels") or {}
    for term in filter(None, query.get("labelSelector", [""])[0].split(",")):
        name, equals, value = term.replace("==", "=").partition("=")
        if name.endswith("!"):
            if labels.get(name[:-1]) == value:
                return False
        elif (equals and labels.get(name) != value) or (
            not equals and (name.lstrip("!") in labels) == (name[0] == "!")
        ):
            return False
    for term in filter(None, query.get("fieldSelector", [""])[0].split(",")):
        path, _, value = term.partition("=")
        found: Any = resource
        for key in path.split("."):
            found = found.get(key, {}) if isinstance(found, dict) else {}
        if found != value:
            return False
    return True


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

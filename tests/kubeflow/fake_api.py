"""A small Kubernetes API server for tests: the REST of custom resources, spoken to by the real client.

It stores resources, answers create, get, list, watch and delete, refuses bodies that are not valid by the recorded
schemas of their kinds (where these are at hand), and leaves the work to *operators*: functions that a test gives for
each plural, started in a thread of their own when a resource is made, which change its status as they go.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

Resource = dict[str, Any]
Operator = Callable[["FakeApi", Resource], None]


class FakeApi:
    """The server; an instance is a context in which it answers at `url`.

    Attributes
    ----------
    resources
        What there is, by (plural, name).
    operators
        What is called with each new resource, by plural. Plurals without one are not installed.
    schemas
        JSON schemas by (apiVersion, kind).
    requests
        What was asked for: method, path and query.
    refuse
        Answers given in place of the real ones: (method, plural) → (status, message, details).
    """

    def __init__(self, operators: dict[str, Operator], schemas: dict[tuple[str, str], dict] | None = None) -> None:
        self.operators, self.schemas = operators, schemas or {}
        self.resources: dict[tuple[str, str], Resource] = {}
        self.made: list[Resource] = []
        self.requests: list[tuple[str, str, dict[str, list[str]]]] = []
        self.refuse: dict[tuple[str, str], tuple[int, str, dict]] = {}
        self.volumes, self.pods = {"jetcorr"}, {}
        self.drop_watches = 0  # how many watches to break off after their first event
        self._changed, self._version = threading.Condition(), 0
        self._events: list[tuple[int, str, str, Resource]] = []  # version, type, plural, resource
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        with self._changed:
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def kubeconfig(self, path: Path, namespace: str = "physics") -> Path:
        """Write a kubeconfig that leads here."""
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": "secret"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me", "namespace": namespace}}],
        }  # fmt: skip
        path.write_text(yaml.safe_dump(content))
        return path

    def set_status(self, plural: str, name: str, **status: Any) -> None:
        """Change parts of a resource's status, as its operator would; nothing happens if it is gone."""
        with self._changed:
            if (plural, name) in self.resources:
                resource = self.resources[plural, name]
                new = {**resource, "status": resource.get("status", {}) | status}
                self._record("MODIFIED", plural, new)

    def exists(self, plural: str, name: str) -> bool:
        """Whether the resource is still there."""
        return (plural, name) in self.resources and not self._stopped

    def create(self, plural: str, resource: Resource) -> tuple[int, Resource]:
        """Answer a POST."""
        kind = resource["apiVersion"], resource["kind"]
        if kind in self.schemas:
            for error in jsonschema.Draft202012Validator(self.schemas[kind]).iter_errors(resource):
                where = ".".join(map(str, error.absolute_path))
                return 422, _failure(422, f"{where}: {error.message}")
        with self._changed:
            name = resource["metadata"]["name"]
            if (plural, name) in self.resources:
                return 409, _failure(409, f"{plural} {name!r} already exists")
            self._record("ADDED", plural, resource)
            made = self.resources[plural, name]
            self.made.append(made)
        thread = threading.Thread(target=self.operators[plural], args=(self, made), daemon=True)
        self._threads.append(thread)
        thread.start()
        return 201, made

    def delete(self, plural: str, name: str) -> tuple[int, Resource]:
        """Answer a DELETE."""
        with self._changed:
            if (plural, name) not in self.resources:
                return 404, _failure(404, f"{plural} {name!r} not found")
            self._record("DELETED", plural, self.resources[plural, name])
            return 200, {"kind": "Status", "status": "Success"}

    def watch(self, plural: str, name: str | None, since: int, seconds: float) -> Iterator[Resource]:
        """The events after a version, as they come, until the time is over."""
        deadline, seen = threading.Event(), since
        timer = threading.Timer(seconds, lambda: (deadline.set(), self._notify()))
        timer.start()
        try:
            while not deadline.is_set() and not self._stopped:
                with self._changed:
                    new = [e for e in self._events if e[0] > seen and e[2] == plural]
                    new = [e for e in new if name in (None, e[3]["metadata"]["name"])]
                    if not new:
                        self._changed.wait(1)
                for version, event, _, resource in new:
                    seen = version
                    yield {"type": event, "object": resource}
        finally:
            timer.cancel()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _record(self, event: str, plural: str, resource: Resource) -> None:
        self._version += 1
        resource = {**resource, "metadata": {**resource["metadata"], "resourceVersion": str(self._version)}}
        key = plural, resource["metadata"]["name"]
        if event == "DELETED":
            del self.resources[key]
        else:
            self.resources[key] = resource
        self._events.append((self._version, event, plural, resource))
        self._changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    api: FakeApi
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Not on standard error."""

    def do_GET(self) -> None:
        path, query = self._read()
        if path[:2] == ["api", "v1"]:
            self._core(path[4:], query)
            return
        plural, name = path[5], path[6] if len(path) > 6 else None
        if self._refused("GET", plural):
            return
        if query.get("watch"):
            selector = query.get("fieldSelector", [""])[0].removeprefix("metadata.name=") or None
            self._stream(plural, selector, query)
        elif name is None:
            self._answer(200, {"items": [r for (p, _), r in self.api.resources.items() if p == plural]})
        elif (plural, name) in self.api.resources:
            self._answer(200, self.api.resources[plural, name])
        else:
            self._answer(404, _failure(404, f"{plural} {name!r} not found"))

    def do_POST(self) -> None:
        path, _ = self._read()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        plural = path[5]
        if self._refused("POST", plural):
            return
        if plural not in self.api.operators:
            self._answer(404, _failure(404, "the server could not find the requested resource"))
        else:
            self._answer(*self.api.create(plural, body))

    def do_DELETE(self) -> None:
        path, _ = self._read()
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._refused("DELETE", path[5]):
            self._answer(*self.api.delete(path[5], path[6]))

    def _core(self, path: list[str], query: dict[str, list[str]]) -> None:
        """Volume claims, pods and their logs."""
        if path[0] == "persistentvolumeclaims":
            known = path[1] in self.api.volumes
            self._answer(*((200, {"metadata": {"name": path[1]}}) if known else (404, _failure(404, "not found"))))
        elif path[0] == "pods" and len(path) == 1:
            owner = query["labelSelector"][0].partition("=")[2]
            pods = [
                {"metadata": {"name": name}, "status": {"phase": phase}}
                for name, (of, phase, _) in self.api.pods.items()
                if of == owner
            ]
            self._answer(200, {"kind": "PodList", "apiVersion": "v1", "items": pods})
        else:
            self._answer(200, self.api.pods[path[1]][2], "text/plain")

    def _stream(self, plural: str, name: str | None, query: dict[str, list[str]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        since, seconds = int(query["resourceVersion"][0]), float(query["timeoutSeconds"][0])
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for event in self.api.watch(plural, name, since, seconds):
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.flush()
                if self.api.drop_watches > 0:
                    self.api.drop_watches -= 1
                    self.close_connection = True
                    return  # in the midst of the answer
            self.wfile.write(b"0\r\n\r\n")

    def _read(self) -> tuple[list[str], dict[str, list[str]]]:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        self.api.requests.append((self.command, parts.path, query))
        return parts.path.strip("/").split("/"), query

    def _refused(self, method: str, plural: str) -> bool:
        if (method, plural) not in self.api.refuse:
            return False
        status, message, details = self.api.refuse[method, plural]
        self._answer(status, _failure(status, message, details))
        return True

    def _answer(self, status: int, body: Resource | str, content: str = "application/json") -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(data)


def _failure(code: int, message: str, details: dict | None = None) -> Resource:
    return {"kind": "Status", "status": "Failure", "code": code, "message": message, "details": details or {}}

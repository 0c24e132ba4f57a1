"""The exported models in a Model Registry: its own client, against a small server with its REST."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import checksum
from jetcorr_utils.kubeflow.registry import keep_models, register_models
from jetcorr_utils.run import RunFolder

REFERENCE = project_root() / "results" / "reference"
ROOT = "/api/model_registry/v1/"
CHILDREN = {"model_versions": "registeredModelId", "artifacts": "model_version"}


class Registry(BaseHTTPRequestHandler):
    """Models, their versions and the versions' artefacts, each with an identifier; names are given once."""

    made: dict[str, list[dict]]
    numbers: Iterator[int]
    tokens: list[str | None] = []  # noqa: RUF012

    def log_message(self, *_: object) -> None:
        """Not on standard error."""

    def parse_request(self) -> bool:
        """As every server does; notes who asks."""
        understood = super().parse_request()
        self.tokens.append(self.headers.get("Authorization"))
        return understood

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        kind, query = parts.path.removeprefix(ROOT), {key: value[0] for key, value in parse_qs(parts.query).items()}
        if kind == "registered_models":
            items = self.made[kind]
            self.answer(200, {"items": items, "size": len(items), "pageSize": 1, "nextPageToken": ""})
            return
        found = [
            one for one in self.made.get(f"{kind}s", ())
            if one["name"] == query.get("name") and one.get("registeredModelId") == query.get("parentResourceId")
        ]  # fmt: skip
        self.answer(*((200, found[0]) if found else (404, {"code": "404", "message": "not found"})))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind, *rest = urlsplit(self.path).path.removeprefix(ROOT).split("/")
        if rest:
            body["model_version"], kind = rest[0], rest[1]
        owner = CHILDREN.get(kind)
        if any((one["name"], one.get(owner)) == (body["name"], body.get(owner)) for one in self.made[kind]):
            self.answer(409, {"code": "409", "message": f"{body['name']} is there"})
            return
        body["id"] = str(next(self.numbers))
        self.made[kind].append(body)
        self.answer(201, body)

    def answer(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def registry() -> Iterator[tuple[str, dict[str, list[dict]]]]:
    """The address of a registry, and what was made in it."""
    pytest.importorskip("model_registry")
    made = {"registered_models": [], "model_versions": [], "artifacts": []}
    handler = type("Handler", (Registry,), {"made": made, "numbers": itertools.count(1)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", made
        server.shutdown()


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A run with two models on a volume of the cluster."""
    run = RunFolder(tmp_path / "results" / "reference")
    shutil.copytree(REFERENCE / "model_repository", run.model_repository)
    shutil.copy(REFERENCE / "metrics.json", run.metrics)
    return run


def test_the_exported_models_are_registered_once_with_their_figures(registry, run, tmp_path):
    address, made = registry
    study = load_study("default", {"cluster.model_registry": address, "cluster.mount": str(tmp_path)})
    new = register_models(study, run)
    file = run.model_repository / "pfn" / "1" / "model.onnx"
    assert f"jetcorr-default-pfn {checksum(file)[:12]}" in new
    assert [one["name"] for one in made["registered_models"]] == ["jetcorr-default-particlenet", "jetcorr-default-pfn"]
    version, artefact = made["model_versions"][1], made["artifacts"][1]
    assert version["name"] == checksum(file)[:12]
    values = {name: next(v for key, v in one.items() if key.endswith("_value"))
              for name, one in version["customProperties"].items()}  # fmt: skip
    told = json.loads(run.metrics.read_text())["pfn"]
    assert values["resolution_gain"] == told["resolution_gain"]["0-2.5"]["30-inf"]["value"]
    assert values["mae"] == told["mae"]
    assert artefact["uri"] == "pvc://jetcorr/results/reference/model_repository/pfn"
    assert (artefact["modelFormatName"], artefact["modelFormatVersion"]) == ("onnx", "18")
    assert register_models(study, run) == []  # a step that is tried again
    assert len(made["model_versions"]) == 2
    file.write_bytes(file.read_bytes() + b"another training")
    assert len(register_models(study, run)) == 1
    assert len(made["registered_models"]) == 2


def test_a_notebook_whose_loop_runs_can_register(registry, run):
    async def cell() -> list[str]:
        return register_models(load_study("default", {"cluster.model_registry": registry[0]}), run)

    assert len(asyncio.run(cell())) == 2


def test_no_token_goes_to_a_registry_in_clear(registry, run, tmp_path, monkeypatch):
    """The client's own habit is to send that of the pod, by which all of the pod's account can be done."""
    (tmp_path / "token").write_text("header.payload.signature")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(Registry, "tokens", tokens := [])
    register_models(load_study("default", {"cluster.model_registry": registry[0]}), run)
    assert len(tokens) > 4
    assert set(tokens) == {None}


def test_without_an_address_nothing_is_registered_nor_imported(run):
    assert register_models(load_study("default"), run) == []


def test_a_registry_that_is_not_there_is_a_line(run):
    pytest.importorskip("model_registry")
    study = load_study("default", {"cluster.model_registry": "http://127.0.0.1:9"})
    with pytest.raises(InputError, match=r"the Model Registry at http://127.0.0.1:9 \(cluster"):
        register_models(study, run)


def test_the_models_are_an_artefact_of_the_step(run, tmp_path):
    artefact = SimpleNamespace(path=str(tmp_path / "models"), metadata={})
    keep_models(str(run.path), artefact)
    for name in ("pfn", "particlenet"):
        kept = Path(artefact.path) / name / "1" / "model.onnx"
        assert checksum(kept) == checksum(run.model_repository / name / "1" / "model.onnx")
    assert artefact.metadata == {"framework": "onnx", "models": "particlenet, pfn"}

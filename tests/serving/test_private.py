"""What another account of this machine, and a web page, can do with a server that was started here."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from jetcorr_utils.errors import InputError, ServerError
from jetcorr_utils.export import add_model
from jetcorr_utils.inference import TritonPredictor
from jetcorr_utils.inference.triton_connection import KEY_HEADER, Connection
from jetcorr_utils.serving import TritonServer, guard, server_available
from tests.networks import some_clouds
from tests.reliability.account import as_nobody
from tests.reliability.machine import is_root
from tests.web import web_server


def _memory(server) -> list[Path]:
    """The memory that a server shares with its models' processes."""
    port = server.http_url.rpartition(":")[2]
    found = list(Path("/dev/shm").glob(f"jetcorr_{os.getpid()}_{port}_*"))
    assert found
    return found


def _as_nobody(code: str, *arguments: object) -> str:
    if not is_root():
        pytest.skip("only root can be somebody else")
    return as_nobody(code, *arguments)


def _ask(url: str, method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> int:
    connection = HTTPConnection(url, timeout=30)
    connection.request(method, path, body, headers or {})
    status = connection.getresponse().status
    connection.close()
    return status


def test_all_shared_memory_is_of_this_account_alone(server, monkeypatch):
    modes = []
    unlink = Path.unlink  # a client's memory has a name until the server has mapped it

    def look(path, **options):
        if path.parent == Path("/dev/shm") and path.exists():
            modes.append(stat.S_IMODE(path.stat().st_mode))
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", look)
    with TritonPredictor(server.http_url, "pfn", shared_memory="on") as predictor:
        predictor.predict(some_clouds(2000), batch_size=2000)
    assert len(modes) >= 1
    assert set(modes) | {stat.S_IMODE(path.stat().st_mode) for path in _memory(server)} == {0o600}


def test_memory_that_grew_and_that_of_a_new_process_are_of_this_account_alone(make_repository):
    with TritonServer(make_repository("pfn")) as server, TritonPredictor(server.http_url, "pfn") as predictor:
        before = _memory(server)
        sizes = {path: path.stat().st_size for path in before}
        predictor.predict(some_clouds(4000, mean=60), batch_size=4000)
        assert any(path.stat().st_size > sizes[path] for path in before if path.exists())
        assert {stat.S_IMODE(path.stat().st_mode) for path in _memory(server)} == {0o600}


def test_another_account_opens_no_memory_and_finds_no_key(server):
    code = """
        import glob, sys
        opened = []
        for path in sys.argv[2:]:
            try:
                opened.append(open(path, "rb").read(1))
            except PermissionError:
                pass
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
            try:
                found.append(sys.argv[1][::-1] in open(path, errors="replace").read())
            except OSError:
                pass
        print(len(opened), any(found), len(found) > 0)
    """
    (key,) = Connection(server.http_url).key.values()
    assert len(key) == 64
    assert _as_nobody(code, key[::-1], *_memory(server)).split() == ["0", "False", "True"]  # its own arguments hold it


def test_another_account_has_no_memory_mapped_by_the_server(server):
    """Not by what stands in the list of processes, either."""
    memory, host = _memory(server)[0], server.http_url
    code = """
        import glob, http.client, json, sys
        host, memory, process = sys.argv[1:]
        arguments = open(f"/proc/{process}/cmdline").read().split("\\0")
        shown = next(text for text in arguments if "restricted-api" in text).rpartition("=")[2]
        for headers in ({}, {"jetcorr-key": shown.strip()}, {"jetcorr-key": ""}, {"jetcorr-key": "\\t"}):
            connection = http.client.HTTPConnection(host)
            body = json.dumps({"key": "/" + memory, "offset": 0, "byte_size": 1024})
            connection.request("POST", "/v2/systemsharedmemory/region/stolen/register", body, headers)
            print(connection.getresponse().status)
            connection.close()
    """
    assert set(_as_nobody(code, host, memory.name, server.pid).split()) <= {"403", "400"}
    region = {"key": f"/{memory.name}", "offset": 0, "byte_size": 1024}
    path = "/v2/systemsharedmemory/region/stolen/register"
    form = {"Content-Type": "text/plain", "Origin": "http://evil.example"}  # what a web page may send
    assert _ask(host, "POST", path, json.dumps(region), form) == 403
    with grpc.InferenceServerClient(server.grpc_url) as client:
        for key in (None, {f"triton-grpc-protocol-{KEY_HEADER}": "x"}):
            with pytest.raises(InferenceServerException, match="restricted"):
                client.register_system_shared_memory("stolen", f"/{memory.name}", 1024, headers=key)
    key = Connection(host).key
    assert _ask(host, "POST", path, json.dumps(region), key) == 200  # the key is what it takes
    assert _ask(host, "POST", path.replace("/register", "/unregister"), "", key) == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/systemsharedmemory/status"), ("POST", "/v2/systemsharedmemory/unregister"), ("GET", "/v2/logging"),
     ("POST", "/v2/logging"), ("GET", "/v2/trace/setting"), ("POST", "/v2/trace/setting"),
     ("GET", "/v2/cudasharedmemory/status")],
)  # fmt: skip
def test_only_predictions_and_what_describes_them_are_open(server, method, path):
    assert _ask(server.http_url, method, path, "{}") == 403
    assert _ask(server.http_url, "POST", "/v2/repository/models/pfn/unload", "{}") >= 400
    assert _ask(server.http_url, "GET", "/v2/health/ready") == 200


def test_another_account_gets_predictions_without_shared_memory(server, monkeypatch):
    clouds = some_clouds(50)
    with TritonPredictor(server.http_url, "pfn") as ours:
        expected = ours.predict(clouds)
    monkeypatch.setattr(Connection, "key", {})
    for url, protocol in ((server.http_url, "http"), (server.grpc_url, "grpc")):
        with TritonPredictor(url, "pfn", protocol) as predictor:
            assert not predictor.memory_shared
            np.testing.assert_allclose(predictor.predict(clouds), expected, rtol=1e-6)
        with pytest.raises(InputError, match="shared memory"):
            TritonPredictor(url, "pfn", protocol, shared_memory="on")


def test_where_arguments_cannot_be_hidden_shared_memory_is_closed_to_all(make_repository, tmp_path, monkeypatch):
    source = Path(guard.__file__).read_text(encoding="utf-8")
    changed = source.replace("PTRACE_TRACEME, PTRACE_DETACH = 0, 17", "PTRACE_TRACEME, PTRACE_DETACH = 0x7FFF, 17")
    assert changed != source
    (tmp_path / "guard.py").write_text(changed, encoding="utf-8")  # no such request
    monkeypatch.setattr(guard, "__file__", str(tmp_path / "guard.py"))
    with TritonServer(make_repository("pfn")) as server:
        (key,) = Connection(server.http_url).key.values()
        assert _ask(server.http_url, "GET", "/v2/systemsharedmemory/status", headers={KEY_HEADER: key}) == 403
        with TritonPredictor(server.http_url, "pfn") as predictor:
            assert not predictor.memory_shared
            assert np.isfinite(predictor.predict(some_clouds(5))).all()


THIEF = """
    import http.server, sys

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready)
    print("listens", flush=True)
    server.serve_forever()
"""


@pytest.fixture
def thief():
    """Starts a program that takes a port and says that it is ready."""
    processes = []

    def start(port: int) -> None:
        command = [sys.executable, "-c", textwrap.dedent(THIEF), str(port)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        assert processes[-1].stdout.readline() == "listens\n"

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("which", ["http_url", "metrics_url"])
def test_who_takes_a_port_is_not_taken_for_the_server(make_repository, thief, which):
    server = TritonServer(make_repository("pfn"))
    thief(int(getattr(server, which).rpartition(":")[2]))
    with pytest.raises(ServerError, match=r"another program has taken a port|did not start"):
        server.start()
    assert not server.running


def test_who_takes_the_port_of_a_server_that_died_is_not_asked(make_repository, thief):
    with TritonServer(make_repository("pfn")) as server:
        predictor = TritonPredictor(server.http_url, "pfn", server=server, shared_memory="off")
        os.kill(server.pid, signal.SIGKILL)
        server._guard.wait(30)
        thief(int(server.http_url.rpartition(":")[2]))
        with pytest.raises(ServerError, match="died"):
            predictor.predict(some_clouds(5))
        predictor.close()


def test_nothing_on_this_machine_is_asked_for_through_a_proxy(make_repository, tmp_path):
    """A whole service, by both protocols, and its metrics: the proxy hears of nothing; of another machine it does."""
    code = f"""
        from jetcorr_utils.errors import JetcorrError
        from jetcorr_utils.inference import TritonPredictor
        from jetcorr_utils.serving import open_service
        for protocol in ("http", "grpc"):
            with open_service({str(make_repository("pfn"))!r}, protocol=protocol) as service:
                assert service.server is not None
                assert len(service.metrics())
        for protocol in ("http", "grpc"):
            try:
                TritonPredictor("triton.example.invalid:8001", "pfn", protocol, patience=1, timeout=5)
            except JetcorrError:
                pass
            print(protocol, flush=True)
    """
    with web_server(tmp_path / "proxy") as proxy:
        names = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy.url)
        environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"} | names
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment, timeout=300)
        asked = {target for _, target, _ in proxy.requests()}
    assert {target for target in asked if "triton.example.invalid:8001" not in target} == set()
    assert any(target.startswith("http://triton.example.invalid:8001/v2/models/pfn") for target in asked)
    assert "triton.example.invalid:8001" in asked  # gRPC's CONNECT


@pytest.fixture(scope="module")
def private_server(files, tmp_path_factory):
    """A server for its caller alone, as notebooks start it."""
    if reason := server_available():
        pytest.skip(reason)
    repository = tmp_path_factory.mktemp("private")
    add_model(repository, "pfn", files["pfn"])
    with TritonServer(repository, private=True, poll_seconds=None) as running:
        yield running


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_private_server_answers_its_own_account(private_server, protocol):
    url = private_server.http_url if protocol == "http" else private_server.grpc_url
    for memory in ("on", "off"):
        with TritonPredictor(url, "pfn", protocol, shared_memory=memory) as predictor:
            assert np.isfinite(predictor.predict(some_clouds(50))).all()


@pytest.mark.parametrize(
    "path",
    ["/v2/health/ready", "/v2", "/v2/models/pfn", "/v2/models/pfn/config", "/v2/models/pfn/stats", "/v2/models/stats",
     "POST /v2/models/pfn/infer", "POST /v2/repository/index"],
)  # fmt: skip
def test_a_private_server_answers_no_other_account_and_no_web_page(private_server, path):
    method, _, path = path.rpartition(" ")
    form = {"Content-Type": "text/plain", "Origin": "http://evil.example"}
    assert _ask(private_server.http_url, method or "GET", path, "{}" if method else "", form) == 403
    code = """
        import http.client, sys
        connection = http.client.HTTPConnection(sys.argv[1])
        connection.request(sys.argv[2], sys.argv[3], "{}")
        print(connection.getresponse().status)
    """
    assert _as_nobody(code, private_server.http_url, method or "GET", path).strip() == "403"
    key = Connection(private_server.http_url).key
    assert _ask(private_server.http_url, method or "GET", path, "{}" if method else "", key) != 403


def test_a_private_server_answers_no_other_account_by_grpc(private_server):
    with grpc.InferenceServerClient(private_server.grpc_url) as client:
        for ask in (client.is_server_ready, client.get_server_metadata, client.get_inference_statistics):
            with pytest.raises(InferenceServerException, match="restricted"):
                ask()


def test_where_its_key_cannot_be_hidden_a_private_server_is_open(make_repository, tmp_path, monkeypatch):
    source = Path(guard.__file__).read_text(encoding="utf-8")
    changed = source.replace("PTRACE_TRACEME, PTRACE_DETACH = 0, 17", "PTRACE_TRACEME, PTRACE_DETACH = 0x7FFF, 17")
    (tmp_path / "guard.py").write_text(changed, encoding="utf-8")
    monkeypatch.setattr(guard, "__file__", str(tmp_path / "guard.py"))
    with (
        TritonServer(make_repository("pfn"), private=True) as server,
        TritonPredictor(server.http_url, "pfn") as predictor,
    ):
        assert not predictor.memory_shared
        assert np.isfinite(predictor.predict(some_clouds(5))).all()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_key_of_a_server_that_took_the_place_of_another_is_found(make_repository, protocol):
    repository, clouds = make_repository("pfn"), some_clouds(20)
    with TritonServer(repository, private=True) as first:
        ports = {
            "http_port": int(first.http_url.rpartition(":")[2]),
            "grpc_port": int(first.grpc_url.rpartition(":")[2]),
        }
        url = first.http_url if protocol == "http" else first.grpc_url
        predictor = TritonPredictor(url, "pfn", protocol)
        expected = predictor.predict(clouds)
    with TritonServer(repository, private=True, **ports), predictor:
        np.testing.assert_allclose(predictor.predict(clouds), expected, rtol=1e-6)

"""The image's notebook server: whom it lets in, behind Kubeflow's gateway, beside a forwarded port, and alone."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import websocket
import zmq

from jetcorr_utils.config import project_root
from tests.data.conftest import free_port

COMMAND = project_root() / "pipelines" / "image" / "notebook-server"
PREFIX = "/notebook/ns/name"

pytestmark = pytest.mark.slow  # JupyterLab takes seconds to start


@dataclass
class Server:
    """A running notebook server."""

    port: int
    prefix: str
    log: Path

    def ask(self, path: str, method: str = "GET", *, host: str | None = None, **headers: str) -> requests.Response:
        """The answer to a request."""
        with requests.Session() as session:
            session.trust_env = False  # no proxy
            return self._ask(session, path, method, {"Host": host or f"localhost:{self.port}"} | headers)

    def _ask(self, session: requests.Session, path: str, method: str, headers: dict[str, str]) -> requests.Response:
        url = f"http://127.0.0.1:{self.port}{self.prefix}{path}"
        return session.request(method, url, headers=headers, data=None if method == "GET" else "{}", timeout=30)

    def start(self, what: str) -> dict[str, str]:
        """A kernel or a terminal, started as JupyterLab does it: with the cookie and the header against forgery."""
        with requests.Session() as session:
            session.trust_env = False
            self._ask(session, "/lab", "GET", {})
            own = {"Origin": f"http://127.0.0.1:{self.port}", "X-XSRFToken": session.cookies["_xsrf"]}
            answer = self._ask(session, f"/api/{what}", "POST", own)
        assert answer.ok, answer.text
        return answer.json()

    def connect(self, path: str, origin: str) -> websocket.WebSocket:
        """A connection such as that by which code gets to a kernel, as a page of `origin` opens it."""
        url = f"ws://localhost:{self.port}{self.prefix}{path}"
        return websocket.create_connection(url, origin=origin, timeout=30, http_no_proxy=["localhost"])


@contextlib.contextmanager
def running(folder: Path, prefix: str = PREFIX, **variables: str) -> Iterator[Server]:
    """The image's command, on loopback, as there is no gateway here."""
    port = free_port()
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(folder), "NB_PREFIX": prefix, "JUPYTER_IP": "127.0.0.1", "JUPYTER_PORT": str(port), **variables,
    }  # fmt: skip
    server = Server(port, prefix.rstrip("/"), folder / "server.log")
    with open(server.log, "w") as log:
        process = subprocess.Popen([COMMAND], env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while not (_listens(port) and f":{port}{server.prefix}/lab" in server.log.read_text()):
            assert process.poll() is None, server.log.read_text()
            assert time.monotonic() < end, server.log.read_text()
            time.sleep(0.1)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def behind_gateway(tmp_path_factory) -> Iterator[Server]:
    """The server as the notebook controller starts it."""
    with running(tmp_path_factory.mktemp("gateway")) as server:
        yield server


def test_the_owner_whom_the_gateway_lets_through_needs_no_token(behind_gateway):
    assert behind_gateway.ask("/lab").status_code == 200
    # The gateway passes on the name that the browser asked for; the controller asks without an origin.
    assert (
        behind_gateway.ask("/api/kernels", host="kubeflow.example", Origin="https://kubeflow.example").status_code
        == 200
    )
    assert behind_gateway.ask("/api/kernels", host="name.ns.svc.cluster.local").status_code == 200


def test_a_page_of_another_site_beside_a_forwarded_port_reaches_no_kernel(behind_gateway):
    kernel, own = behind_gateway.start("kernels")["id"], f"http://localhost:{behind_gateway.port}"
    terminal = f"/terminals/websocket/{behind_gateway.start('terminals')['name']}"
    paths = (f"/api/kernels/{kernel}/channels", terminal, "/api/events/subscribe")
    for path in paths:
        with contextlib.closing(behind_gateway.connect(path, own)) as connection:
            assert connection.connected
    for origin in ("https://evil.example", "http://localhost:1", "null"):
        for path in paths:
            with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
                behind_gateway.connect(path, origin)
        for method, path in (("GET", "/api/kernels"), ("POST", "/api/kernels"), ("POST", "/api/terminals")):
            answer = behind_gateway.ask(path, method, Origin=origin)
            assert answer.status_code in (403, 404), (origin, method, path)
            assert kernel not in answer.text
            assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_form_of_another_site_is_refused_also_where_the_browser_names_no_origin(behind_gateway):
    for path in ("/api/kernels", "/api/contents/notebooks", "/api/shutdown"):
        answer = behind_gateway.ask(path, "POST", **{"Content-Type": "text/plain"})
        assert answer.status_code == 403, answer.text
        assert "_xsrf" in answer.text


PAGE = """<script>
const server = new URLSearchParams(location.search).get("server");
const kernel = new URLSearchParams(location.search).get("kernel");
async function attempt(what) { try { return await what(); } catch (error) { return "refused"; } }
async function attack() {
  return [
    await attempt(async () => (await fetch(`http://${server}/api/kernels`)).text()),
    await attempt(async () => (await fetch(`http://${server}/api/kernels`, {method: "POST", body: "{}"})).text()),
    await attempt(() => new Promise((resolve, reject) => {
      const socket = new WebSocket(`ws://${server}/api/kernels/${kernel}/channels`);
      socket.onopen = () => resolve("open");
      socket.onerror = reject;
    })),
  ];
}
</script>"""


def test_a_real_browser_is_refused_from_a_page_of_another_origin(behind_gateway, page):
    class Evil(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_: object) -> None:
            pass

    kernel, target = behind_gateway.start("kernels")["id"], f"localhost:{behind_gateway.port}{PREFIX}"
    with socketserver.TCPServer(("127.0.0.1", 0), Evil) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/?server={target}&kernel={kernel}")
        assert page.evaluate("attack()") == ["refused"] * 3
        server.shutdown()
    kernels = behind_gateway.ask("/api/kernels").json()
    assert len({one["id"] for one in kernels if one["connections"]}) == 0


def test_only_who_has_the_file_of_a_kernel_hears_what_it_says(behind_gateway):
    """Its ports are open to all accounts of the machine, with `make lab` as well."""
    kernel = behind_gateway.start("kernels")["id"]
    (file,) = behind_gateway.log.parent.rglob(f"kernel-{kernel}.json")
    connection = json.loads(file.read_text())
    strangers, owner = zmq.Context(), (connection["curve_publickey"].encode(), connection["curve_secretkey"].encode())
    heard = []
    for keys in ((), owner):
        listener = strangers.socket(zmq.SUB)
        if keys:
            listener.curve_publickey, listener.curve_secretkey, listener.curve_serverkey = *keys, keys[0]
        listener.subscribe(b"")
        listener.connect(f"tcp://127.0.0.1:{connection['iopub_port']}")
        heard.append(listener)
    own = f"http://localhost:{behind_gateway.port}"
    with contextlib.closing(behind_gateway.connect(f"/api/kernels/{kernel}/channels", own)):  # asks for its name
        assert heard[1].poll(30_000)
        assert heard[0].poll(500) == 0
    strangers.destroy(0)
    recipe = (project_root() / "Makefile").read_text(encoding="utf-8").partition("\nlab:")[2].partition("\n\n")[0]
    assert "--KernelManager.transport_encryption=auto" in recipe


def test_without_the_gateway_the_server_has_a_token(tmp_path):
    home = tmp_path / "my $(touch HIT) 'home'; é"  # which no shell takes apart
    home.mkdir()
    with running(home, prefix="/") as server:
        assert {path.name for path in (home / "jetcorr").iterdir()} >= {"notebooks", "jetcorr_utils", "data", "results"}
        assert server.ask("/api/contents").status_code == 403
        token = re.search(r"/lab\?token=([0-9a-f]{40,})", server.log.read_text())[1]
        assert server.ask("/api/contents", Authorization=f"token {token}").status_code == 200


def test_a_token_that_is_given_is_asked_for_behind_the_gateway_as_well(tmp_path):
    with running(tmp_path, JUPYTER_TOKEN="0123456789abcdef") as server:
        assert server.ask("/api/contents").status_code == 403
        assert server.ask("/api/contents", Authorization="token 0123456789abcdef").status_code == 200


def test_where_the_gateway_is_named_no_other_name_reaches_the_server(tmp_path):
    """A page whose own name leads to this machine (DNS rebinding) has the same origin as a forwarded port."""
    with running(tmp_path, JETCORR_GATEWAY="kubeflow.example") as server:
        evil = f"evil.example:{server.port}"
        assert server.ask("/api/kernels", host=evil, Origin=f"http://{evil}").status_code == 403
        for host in ("kubeflow.example", f"localhost:{server.port}", "name.ns.svc.cluster.local"):
            assert server.ask("/api/kernels", host=host).status_code == 200, host


def test_the_workspace_is_copied_whole_or_not_at_all_and_never_through_a_link(tmp_path):
    elsewhere, home = tmp_path / "elsewhere", tmp_path / "home"
    home.mkdir()
    (home / "jetcorr").symlink_to(elsewhere)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "NB_PREFIX": PREFIX}
    result = subprocess.run([COMMAND], env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode != 0
    assert result.stderr.count("\n") == 1
    assert f"{home}/jetcorr" in result.stderr
    assert not elsewhere.exists()
    assert [path.name for path in home.iterdir()] == ["jetcorr"]

"""A web server, or a proxy, for tests: a process on loopback that says what it is told, and records what it is asked.

``python web.py PORT FOLDER``: FOLDER has ``files/`` to serve, ``answers`` with one status a line, each given to one
request before files are served (a status may be followed by headers, as JSON), ``marks`` with the headers that tell
one version of a file from another, ``certificate.pem`` for TLS, and gets ``requests``, one JSON list a request: method,
target, headers. A request for a whole URL, as a proxy gets it, is for the file of that name.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["Web", "web_server"]

FOLDER = Path(sys.argv[2]) if __name__ == "__main__" else Path()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with open(FOLDER / "requests", "a", encoding="utf-8") as record:
            record.write(json.dumps([self.command, self.path, dict(self.headers)]) + "\n")
        answers = (FOLDER / "answers").read_text(encoding="utf-8").splitlines()
        if answers:
            (FOLDER / "answers").write_text("\n".join(answers[1:]), encoding="utf-8")
            status, _, headers = answers[0].partition(" ")
            return self._answer(int(status), b"no", json.loads(headers or "{}"))
        file = FOLDER / "files" / Path(urlsplit(self.path).path).name
        if not file.is_file():
            return self._answer(404, b"no", {})
        content = file.read_bytes()
        values = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "Content-MD5": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "Digest": "sha-256=" + base64.b64encode(hashlib.sha256(content).digest()).decode(),
            "Last-Modified": formatdate(file.stat().st_mtime, usegmt=True),
        }
        marks = {name: values[name] for name in (FOLDER / "marks").read_text(encoding="utf-8").split()}
        wanted = self.headers.get("Range")
        if wanted is None:
            return self._answer(200, content, marks)
        first, last = wanted.removeprefix("bytes=").split("-")
        piece = content[int(first) : int(last) + 1]
        place = {"Content-Range": f"bytes {first}-{int(first) + len(piece) - 1}/{len(content)}"}
        return self._answer(206, piece, marks | place)

    do_HEAD = do_POST = do_CONNECT = do_GET

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Web:
    """The server of this file, seen from a test."""

    def __init__(self, folder: Path, port: int, scheme: str) -> None:
        self.folder, self.port, self.url = folder, port, f"{scheme}://127.0.0.1:{port}"

    def put(self, path: Path) -> str:
        """Serve a copy of a file; its URL."""
        shutil.copy(path, self.folder / "files")
        return f"{self.url}/{path.name}"

    def mark(self, *names: str) -> None:
        """The headers that tell one version of a file from another; by default the ETag."""
        (self.folder / "marks").write_text(" ".join(names), encoding="utf-8")

    def answer(self, *answers: int | str) -> None:
        """What the next requests get instead of files."""
        (self.folder / "answers").write_text("\n".join(map(str, answers)), encoding="utf-8")

    def requests(self) -> list[tuple[str, str, dict[str, str]]]:
        """What was asked so far: method, target, headers."""
        record = self.folder / "requests"
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        return [tuple(json.loads(line)) for line in lines]


@contextlib.contextmanager
def web_server(folder: Path, *, tls: bool = False) -> Iterator[Web]:
    """Run the server; with `tls`, the certificate is its own CA: ``folder/certificate.pem``."""
    (folder / "files").mkdir(parents=True)
    (folder / "answers").touch()
    (folder / "marks").write_text("ETag", encoding="utf-8")
    if tls:
        file = str(folder / "certificate.pem")
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", file, "-out",
                   file + ".crt", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        with open(file, "a", encoding="utf-8") as both:
            both.write(Path(file + ".crt").read_text(encoding="utf-8"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, str(port), str(folder)])
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield Web(folder, port, "https" if tls else "http")
    finally:
        process.kill()
        process.wait()


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    if (FOLDER / "certificate.pem").exists():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(FOLDER / "certificate.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""A real Triton inference server on this machine, for notebooks, tests and `jetcorr serve`.

The binary comes with the wheel nvidia-pytriton, which pins numpy below 2 and therefore lives in an environment of its
own, made by ``make .venv-triton/.ready``. It has Triton's Python backend only; see `export.repository` for how one
folder of a model serves here and in NVIDIA's container. It runs on Linux x86-64 with glibc 2.35 or newer.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..config import project_root
from ..errors import InputError, ServerError
from ..export.repository import LOCAL_CONFIG
from ..files import scratch_folder
from . import guard

__all__ = ["ENVIRONMENT_VARIABLE", "TritonServer", "find_environment", "server_available"]

ENVIRONMENT_VARIABLE = "JETCORR_TRITON_ENV"
"""Names a server environment (a virtual environment with nvidia-pytriton and onnxruntime) other than the default."""


def find_environment(environment: str | Path | None = None) -> Path:
    """The virtual environment that holds the server.

    Parameters
    ----------
    environment
        Its folder; default: the folder named by the variable JETCORR_TRITON_ENV, or .venv-triton in the project.

    Raises
    ------
    InputError
        If there is no server in it; the message says how to get one.
    """
    folder = Path(environment or os.environ.get(ENVIRONMENT_VARIABLE) or project_root() / ".venv-triton")
    if not list(folder.glob("lib/python3*/site-packages/pytriton/tritonserver/bin/tritonserver")):
        raise InputError(
            f"{folder}: no Triton server in it: `make .venv-triton/.ready` installs one (Linux x86-64, glibc 2.35 or "
            "newer); elsewhere give the URL of a running server, or let the models run in process"
        )
    return folder.absolute()


def server_available() -> str | None:
    """None if a local server can run here, else the reason why not, in one line."""
    try:
        find_environment()
    except InputError as error:
        return str(error)
    return None


class TritonServer:
    """A Triton server that runs while the `with` block does.

    Parameters
    ----------
    repository
        Folder of the models, as `export.add_model` makes it.
    host
        Address to listen on; only this machine can reach the default.
    http_port, grpc_port, metrics_port
        Ports; default: free ones.
    log
        File for what the server says; default: a new one in the folder for temporary files.
    poll_seconds
        How often the repository is looked at for new versions and models; None: never.
    environment
        The server's environment, see `find_environment`.
    timeout
        Seconds that it may take to become ready.

    Raises
    ------
    InputError
        If the repository or the environment cannot be used, or a port is taken.
    ServerError
        From `start` (or entering the block) if the server does not become ready: names the server and its log.
    """

    def __init__(
        self,
        repository: str | Path,
        *,
        host: str = "127.0.0.1",
        http_port: int | None = None,
        grpc_port: int | None = None,
        metrics_port: int | None = None,
        log: str | Path | None = None,
        poll_seconds: int | None = 2,
        environment: str | Path | None = None,
        timeout: float = 120.0,
    ) -> None:
        self.repository = Path(repository).absolute()
        if not any(self.repository.glob("*/config.pbtxt")):
            raise InputError(
                f"{repository}: not a model repository: no */config.pbtxt in it; `jetcorr export` makes one"
            )
        self.environment = find_environment(environment)
        self.host = host
        ports = _ports(host, http_port, grpc_port, metrics_port)
        self.http_url, self.grpc_url, self.metrics_url = (f"{host}:{port}" for port in ports)
        self.log = Path(log).absolute() if log else _new_log()
        self.poll_seconds = poll_seconds
        self.timeout = timeout
        self.pid: int | None = None
        self._guard: subprocess.Popen | None = None
        self._stack = contextlib.ExitStack()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"TritonServer({str(self.repository)!r}, {state}, http={self.http_url}, grpc={self.grpc_url})"

    def __enter__(self) -> TritonServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> TritonServer:
        """Start the server and return it when it is ready."""
        if self.running:
            return self
        backends = _backends_folder(self.environment, self._stack.enter_context(scratch_folder()))
        prefix = f"jetcorr_{os.getpid()}_{self.http_url.rpartition(':')[2]}_"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, prefix, *self._command(backends, prefix)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=_variables(self.environment),
                start_new_session=True,  # an interrupt in a notebook or terminal is not meant for the server
            )  # fmt: skip
        self.pid = int(self._guard.stdout.readline() or 0)
        self._guard.stdout.close()
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server and return when no process of it is left; does nothing if it is not running."""
        if self._guard is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.close()
            try:
                self._guard.wait(guard.PATIENCE + 5)
            finally:
                self._guard.kill()
                self._guard.wait()
        self._stack.close()
        self._guard = None

    def wait(self, announce: Callable[[], object] | None = None) -> None:
        """Block until an interrupt (Ctrl-C) or a termination signal, then return.

        Parameters
        ----------
        announce
            Called once signals are heeded: who is told of the server by it can end it at once.

        Raises
        ------
        ServerError
            If the server dies in the meantime.
        """
        asked = threading.Event()
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, lambda *_: asked.set()) for number in numbers]
        try:
            if announce is not None:
                announce()
            while not asked.wait(0.5):
                if not self.running:
                    raise ServerError(f"{self.describe()} died; its log: {self.log}")
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def describe(self) -> str:
        """The server in a few words, for messages."""
        return f"Triton server (process {self.pid}) at {self.http_url} for {self.repository}"

    def log_tail(self, lines: int = 4) -> str:
        """The last lines of the log that report an error or a warning, or the last lines of any kind."""
        text = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        errors = [line for line in text if re.match(r"[EF]\d{4} |.*(error|failed)", line, re.IGNORECASE)]
        return "\n".join((errors or text)[-lines:])

    def _command(self, backends: Path, prefix: str) -> list[str]:
        host, http_port = self.http_url.rsplit(":", 1)
        command = [
            str(_package(self.environment) / "tritonserver/bin/tritonserver"),
            f"--model-repository={self.repository}", f"--backend-directory={backends}",
            f"--model-config-name={LOCAL_CONFIG}",
            f"--http-address={host}", f"--http-port={http_port}",
            f"--grpc-address={host}", f"--grpc-port={self.grpc_url.rsplit(':', 1)[1]}",
            f"--metrics-address={host}", f"--metrics-port={self.metrics_url.rsplit(':', 1)[1]}",
            f"--backend-config=python,shm-region-prefix-name={prefix}", "--exit-timeout-secs=5",
        ]  # fmt: skip
        if self.poll_seconds is not None:
            command += ["--model-control-mode=poll", f"--repository-poll-secs={self.poll_seconds}"]
        return command

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.timeout
        while not _is_ready(self.http_url):
            if not self.running:
                raise ServerError(f"{self.describe()} did not start; its log: {self.log}\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{self.describe()} not ready after {self.timeout:g} s; its log: {self.log}\n{self.log_tail()}"
                )
            time.sleep(0.1)


def _is_ready(url: str) -> bool:
    connection = http.client.HTTPConnection(url, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _new_log() -> Path:
    handle, name = tempfile.mkstemp(prefix="jetcorr-triton-", suffix=".log")
    os.close(handle)
    return Path(name)


def _ports(host: str, *wanted: int | None) -> list[int]:
    """The wanted ports, with free ones where none is given; all held at once, so that no two are equal."""
    with contextlib.ExitStack() as stack:
        ports = []
        for port in wanted:
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port or 0))
            except OSError as error:
                raise InputError(f"port {port} of {host}: {error.strerror}; choose another") from None
            ports.append(sock.getsockname()[1])
        return ports


def _package(environment: Path) -> Path:
    """The folder of the package pytriton in the server's environment."""
    return next(environment.glob("lib/python3*/site-packages/pytriton"))


def _backends_folder(environment: Path, folder: Path) -> Path:
    """Triton's folder of backends: the Python backend with the stub for the environment's Python version."""
    package = _package(environment)
    version = package.parents[1].name.removeprefix("python")
    python = folder / "backends" / "python"
    python.mkdir(parents=True)
    for source in (package / "tritonserver/backends/python").iterdir():
        if source.is_file():
            (python / source.name).symlink_to(source)
    # Triton looks for the stub by its real path, hence a copy
    shutil.copy(package / f"tritonserver/python_backend_stubs/{version}/triton_python_backend_stub", python)
    return folder / "backends"


def _variables(environment: Path) -> dict[str, str]:
    """Environment variables of the server: its own libraries and Python, nothing of the caller's Python."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    libraries = _package(environment).parent / "nvidia_pytriton.libs"
    return variables | {
        "LD_LIBRARY_PATH": str(libraries),
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "VIRTUAL_ENV": str(environment),
    }

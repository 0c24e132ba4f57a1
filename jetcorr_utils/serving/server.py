"""A real Triton inference server on this machine, for notebooks, tests and `jetcorr serve`.

See `environment` for where its binary comes from, `served` for what it serves of a repository, and `guard` for how it
ends.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from ..errors import InputError, ServerError
from ..export.triton_repository import LOCAL_CONFIG
from ..files import open_own, scratch_folder
from ..inference.triton_connection import KEY_HEADER, KEY_VARIABLE
from ..listening import listens
from ..processes import on_signals
from . import guard
from .served_repository import ServedRepository
from .server_environment import find_environment, prepare, private_place, variables

__all__ = ["TritonServer"]

FATAL = re.compile(
    r"error while loading shared libraries: .*|failed to load '.*|error: creating server: .*|^bash: .*", re.MULTILINE
)
"""What the log says of a server that will never be ready, but may wait for minutes before it says so itself."""


class TritonServer:
    """A Triton server that runs while the `with` block does.

    Parameters
    ----------
    repository
        Folder of the models, as `export.add_model` makes it.
    host
        Address to listen on; only this machine can reach the default.
    http_port, grpc_port
        Ports; default: free ones, as that of the metrics is.
    log
        File for what the server says; default: one that is removed with the server's other files when it stops.
    poll_seconds
        How often the repository is looked at for new versions and models; None: never.
    environment
        The server's environment, see `find_environment`.
    private
        Answer only who knows the server's key, which `Connection` does in processes of this account. Where the key
        cannot be hidden (see `guard`), and for the metrics, all accounts are answered.
    timeout
        Seconds that it may take to become ready.

    Raises
    ------
    InputError
        If the repository or the environment cannot be used, or a port is taken.
    ServerError
        From `start` (or entering the block) if the server does not become ready: names the server, and says what its
        log does.
    """

    def __init__(
        self,
        repository: str | Path,
        *,
        host: str = "127.0.0.1",
        http_port: int | None = None,
        grpc_port: int | None = None,
        log: str | Path | None = None,
        poll_seconds: int | None = 2,
        environment: str | Path | None = None,
        private: bool = False,
        timeout: float = 120.0,
    ) -> None:
        self.repository = Path(repository).absolute()
        if not any(self.repository.glob("*/config.pbtxt")):
            raise InputError(
                f"{repository}: not a model repository: no */config.pbtxt in it; `jetcorr export` makes one"
            )
        if not host.strip():
            raise InputError("host: an empty name; give an address of this machine, such as 127.0.0.1")
        self.environment = find_environment(environment)
        self.host = host
        ports = _ports(host, http_port, grpc_port, None)
        self.http_url, self.grpc_url, self.metrics_url = (f"{host}:{port}" for port in ports)
        self.log = self._kept_log = Path(log).absolute() if log else None
        self.poll_seconds, self.private = poll_seconds, private
        self._key = secrets.token_hex(32)
        self.timeout = timeout
        self.pid: int | None = None
        self._guard: subprocess.Popen | None = None
        self._log_begin = 0
        self._stack = contextlib.ExitStack()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"TritonServer({str(self.repository)!r}, {state}, http={self.http_url}, grpc={self.grpc_url})"

    def __enter__(self) -> Self:
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
        try:
            self._start()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        folder = self._stack.enter_context(scratch_folder(private_place()))
        binary, backends = prepare(self.environment, folder)
        (folder / "models").mkdir()
        served = ServedRepository(self.repository, folder / "models")
        if problems := served.update():
            raise InputError(problems[0])
        self.log = self._kept_log or folder / "triton.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"jetcorr_{os.getpid()}_{self.http_url.rpartition(':')[2]}_"
        command = [str(binary), *self._arguments(served.folder, backends, prefix)]
        with open_own(self.log) as log:
            self._log_begin = log.tell()
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, prefix, KEY_VARIABLE, *command],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True,  # an interrupt in a notebook or terminal is not meant for the server
            )  # fmt: skip
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            given = variables(folder) | {KEY_VARIABLE: self._key}
            self._guard.stdin.write(json.dumps(given).encode() + b"\n")
            self._guard.stdin.flush()
        self.pid = int(self._guard.stdout.readline() or 0)
        self._guard.stdout.close()
        if self.poll_seconds is not None:
            self._stack.enter_context(self._followed(served, self.poll_seconds))

    @contextlib.contextmanager
    def _followed(self, served: ServedRepository, seconds: float) -> Iterator[None]:
        """Have what is served follow the repository for the time of the block."""
        ended = threading.Event()

        def follow() -> None:
            while not ended.wait(seconds):
                try:
                    problems = served.update()
                except OSError as error:  # a full disk, or a folder that changed while it was read: later, then
                    problems = [str(error)]
                if problems:
                    with open_own(self.log, "a") as log:
                        log.writelines(f"jetcorr: not served: {problem}\n" for problem in problems)

        thread = threading.Thread(target=follow, name="jetcorr-served", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

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
        with on_signals(lambda *_: asked.set(), signal.SIGINT, signal.SIGTERM):
            if announce is not None:
                announce()
            while not asked.wait(0.5):
                if not self.running:
                    raise ServerError(f"{self.describe()} died{self._log_text()}")

    def describe(self) -> str:
        """The server in a few words, for messages."""
        return f"Triton server (process {self.pid}) at {self.http_url} for {self.repository}"

    def log_tail(self, lines: int = 4) -> str:
        """The last lines of the log that report an error or a warning, or the last lines of any kind."""
        text = self._said().splitlines()
        errors = [line for line in text if re.match(r"[EF]\d{4} |.*(error|failed)", line, re.IGNORECASE)]
        return "\n".join((errors or text)[-lines:])

    def _said(self) -> str:
        """What the log says since the start."""
        if self.log is None or not self.log.exists():
            return ""
        with open(self.log, "rb") as log:
            log.seek(self._log_begin)
            return log.read().decode(errors="replace")

    def _log_text(self) -> str:
        """Where the log is, if it stays, and on lines of their own its last lines."""
        place = f"; its log: {self._kept_log}" if self._kept_log else ""
        return f"{place}\n{self.log_tail()}".rstrip()

    def _arguments(self, models: Path, backends: Path, prefix: str) -> list[str]:
        host, http_port = self.http_url.rsplit(":", 1)
        closed = f"{guard.USE if self.private else ''}shared-memory,trace,logging:{KEY_HEADER}{guard.NO_KEY}"
        arguments = [
            f"--model-repository={models}", f"--backend-directory={backends}",
            f"--model-config-name={LOCAL_CONFIG}",
            f"--http-address={host}", f"--http-port={http_port}",
            f"--grpc-address={host}", f"--grpc-port={self.grpc_url.rsplit(':', 1)[1]}",
            f"--metrics-address={host}", f"--metrics-port={self.metrics_url.rsplit(':', 1)[1]}",
            f"--backend-config=python,shm-region-prefix-name={prefix}", "--exit-timeout-secs=5",
            f"--http-restricted-api={closed}", f"--grpc-restricted-protocol={closed}",
        ]  # fmt: skip
        if self.poll_seconds is not None:
            arguments += ["--model-control-mode=poll", f"--repository-poll-secs={self.poll_seconds}"]
        return arguments

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.timeout
        while not _is_ready(self.http_url, self._key):
            fatal = FATAL.search(self._said())
            if fatal is not None or not self.running:
                reason = f": {fatal.group()}" if fatal else ""
                raise ServerError(f"{self.describe()} did not start{reason}{self._log_text()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.describe()} not ready after {self.timeout:g} s{self._log_text()}")
            time.sleep(0.1)
        ports = [int(url.rpartition(":")[2]) for url in (self.http_url, self.grpc_url, self.metrics_url)]
        while not listens(self.pid, *ports):  # of the three, Triton opens that for HTTP before the last one
            if not self.running or time.monotonic() > deadline:
                raise ServerError(f"another program has taken a port of {self.describe()}{self._log_text()}")
            time.sleep(0.1)


def _is_ready(url: str, key: str) -> bool:
    connection = http.client.HTTPConnection(url, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready", headers={KEY_HEADER: key})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _ports(host: str, *wanted: int | None) -> list[int]:
    """The wanted ports, with free ones where none is given; all held at once, so that no two are equal."""
    with contextlib.ExitStack() as stack:
        ports = []
        for port in wanted:
            if port and port in ports:
                raise InputError(f"port {port} is given twice; each of the server's ports is another")
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port or 0))
            except socket.gaierror as error:
                raise InputError(
                    f"host {host}: {error.strerror}; give an address of this machine, such as 127.0.0.1"
                ) from None
            except (OSError, OverflowError) as error:
                raise InputError(
                    f"port {port} of {host}: {getattr(error, 'strerror', error)}; choose another"
                ) from None
            ports.append(sock.getsockname()[1])
        return ports

"""TensorBoard beside a notebook: started on the logs of a run, on local folders or on ``s3://`` ones.

A process of its own on loopback; on a cluster, the Tensorboard resource of pipelines/manifests shows the same logs.
Reading S3 needs the s3 extra and credentials in the usual environment variables (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL).
Any account of the machine can open the port and see the curves: TensorBoard cannot listen on a Unix socket.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .addresses import direct_environment, open_directly, refuse_secrets
from .errors import InputError, ServerError
from .listening import listens

__all__ = ["TensorBoard"]

START = 120.0  # seconds until the server must answer


class TensorBoard:
    """A TensorBoard server, as a context manager or until `stop` is called.

    Parameters
    ----------
    log_dir
        Folder of the logs, or its ``s3://`` address.
    port
        Where to listen on 127.0.0.1; default: any free port.
    reload_interval
        Seconds between two looks for new entries.
    address
        Where a browser finds the port, if not on 127.0.0.1: ``/proxy/{port}/`` behind jupyter-server-proxy.

    Raises
    ------
    InputError
        If a local folder is not there, the port is taken, or a secret stands in the address of the logs.
    ServerError
        If the server ends or does not answer in time, or another program answers in its place; the message quotes the
        end of its log, which is removed with the server.
    """

    def __init__(
        self, log_dir: str | Path, *, port: int | None = None, reload_interval: float = 5.0, address: str | None = None
    ) -> None:
        refuse_secrets(str(log_dir))
        if "://" not in str(log_dir) and not Path(log_dir).is_dir():
            raise InputError(f"TensorBoard: there is no folder {log_dir}; train a model first (notebook 02)")
        self.port = _free_port(port or 0)
        self.url = f"http://127.0.0.1:{self.port}/"
        self.address = address.format(port=self.port) if address else self.url
        with tempfile.NamedTemporaryFile(prefix="tensorboard-", suffix=".log", delete=False) as log:
            self.log = Path(log.name)
            command = [
                sys.executable, "-P", "-m", "tensorboard.main", "--logdir", str(log_dir), "--host", "127.0.0.1",
                "--port", str(self.port), "--reload_interval", str(reload_interval), "--load_fast", "false",
            ]  # fmt: skip
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | direct_environment()
            )
        atexit.register(self.stop)  # it ends with the notebook's kernel
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"TensorBoard at {self.url}"

    def _repr_html_(self) -> str:
        """A link, and TensorBoard itself in the output of a cell."""
        return (
            f'<a href="{self.address}" target="_blank">TensorBoard</a><br>'
            f'<iframe src="{self.address}" width="100%" height="800" style="border: 0"></iframe>'
        )

    def stop(self) -> None:
        """End the server and wait for its end."""
        atexit.unregister(self.stop)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.log.unlink(missing_ok=True)

    def _failed(self, what: str) -> ServerError:
        said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        return ServerError("\n".join([f"TensorBoard {what}", *said]))

    def _wait(self) -> None:
        end = time.monotonic() + START
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise self._failed(f"ended with exit code {self._process.returncode}")
            with contextlib.suppress(OSError), open_directly(self.url, timeout=5):
                if listens(self._process.pid, self.port):
                    return
                raise self._failed(f"has not got port {self.port}: another program has taken it")
            time.sleep(0.2)
        raise self._failed(f"did not answer at {self.url} in {START:.0f} s")


def _free_port(port: int) -> int:
    """The port if it is free, or any free one for 0."""
    with socket.socket() as server:
        try:
            server.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(f"TensorBoard: port {port} cannot be used: {error.strerror}") from None
        return server.getsockname()[1]

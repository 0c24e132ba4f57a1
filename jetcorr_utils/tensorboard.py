"""TensorBoard beside a notebook: started on the logs of a run, on local folders or on ``s3://`` ones.

A process of its own on loopback; on a cluster, the Tensorboard resource of pipelines/manifests shows the same logs.
Reading S3 needs the s3 extra and credentials in the usual environment variables (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL).
What is written after it was opened appears there within half a minute or so.
Any account of the machine and any page in the browser can reach the port: all that it has stands below a path that is a
key, which only the notebook shows.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import secrets
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import urlsplit

from .addresses import direct_environment, refuse_secrets
from .errors import InputError
from .files import scratch_folder
from .processes import worker_processes

__all__ = ["TensorBoard"]

RELOAD = """
const key = "_tb_global_settings", known = JSON.parse(localStorage.getItem(key) || "{}");
if (!("autoReload" in known)) localStorage.setItem(key, JSON.stringify({...known, autoReload: true}));
"""


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
    JetcorrError
        If the process ends before it listens.
    """

    def __init__(
        self, log_dir: str | Path, *, port: int | None = None, reload_interval: float = 5.0, address: str | None = None
    ) -> None:
        refuse_secrets(str(log_dir))
        if "://" not in str(log_dir) and not Path(log_dir).is_dir():
            raise InputError(f"TensorBoard: there is no folder {log_dir}; train a model first (notebook 02)")
        self._process = contextlib.ExitStack()
        scratch = self._process.enter_context(scratch_folder())
        worker = self._process.enter_context(worker_processes(1))
        atexit.register(self.stop)  # it ends with the notebook's kernel
        try:
            self.url = worker.submit(_launch, str(log_dir), port or 0, reload_interval, str(scratch)).result()
        except BaseException:
            self.stop()
            raise
        parts = urlsplit(self.url)
        self.port = parts.port
        self.address = address.format(port=self.port).rstrip("/") + parts.path if address else self.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"TensorBoard at {self.url}"

    def _repr_html_(self) -> str:
        """A link, and TensorBoard itself in the output of a cell."""
        return (
            f'<a href="{self.address}#scalars" target="_blank">TensorBoard</a><br>'
            f'<iframe src="{self.address}#scalars" width="100%" height="800" style="border: 0"></iframe>'
        )

    def stop(self) -> None:
        """End the server and wait for its end."""
        atexit.unregister(self.stop)
        self._process.close()


def _reloading_pages() -> Callable[[], BinaryIO]:
    """TensorBoard's own pages, which then look for new entries by themselves.

    That is a setting which a browser keeps for each address, off at first; who switches it off finds it off again.
    """
    from tensorboard import assets

    changed = io.BytesIO()
    original = assets.get_default_assets_zip_provider()
    with original() as file, zipfile.ZipFile(file) as pages, zipfile.ZipFile(changed, "w") as written:
        for name in pages.namelist():
            content = pages.read(name)
            if name == "index.html":
                content = content.replace(b"<head>", b'<head><script src="reload.js"></script>', 1)
            written.writestr(name, content)
        written.writestr("reload.js", RELOAD)
    return lambda: io.BytesIO(changed.getvalue())


def _launch(log_dir: str, port: int, reload_interval: float, scratch: str) -> str:
    """Start the server in a thread of this worker process, which has the port from then on; its URL.

    TensorBoard has a folder of a fixed name where temporary files go, and trusts what is there: it gets its own.
    """
    os.environ.update(direct_environment() | {"TMPDIR": scratch})
    tempfile.tempdir = scratch
    with open(os.devnull, "wb") as nowhere:  # its log, which else would stand in the notebook
        os.dup2(nowhere.fileno(), 2)
    from tensorboard import program

    board = program.TensorBoard(assets_zip_provider=_reloading_pages())
    board.configure(
        logdir=log_dir, host="127.0.0.1", port=port, reload_interval=reload_interval, load_fast="false",
        path_prefix=f"/{secrets.token_hex(16)}",
    )  # fmt: skip
    try:
        return board.launch()
    except program.TensorBoardServerException as error:
        raise InputError(f"TensorBoard: port {port} cannot be used: {error.msg}") from None

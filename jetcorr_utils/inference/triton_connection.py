"""Connections to a Triton server, over HTTP or gRPC: one for each thread, and calls that survive a lost connection.

A call is tried again, at growing intervals, while the server cannot be reached, starts, or has too much to do. It is
given up at once when the request is at fault.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from ..addresses import is_loopback, proxy_for, refuse_secrets, without_secrets
from ..errors import InputError, JetcorrError, ServerError
from ..files import PATIENCE
from ..listening import listener

__all__ = ["KEY_HEADER", "KEY_VARIABLE", "Connection", "LocalServer", "may_pass"]

log = logging.getLogger(__name__)

KEY_HEADER = "jetcorr-key"
"""The header by which the servers that are started here know who may use them, and have them map shared memory."""
KEY_VARIABLE = "JETCORR_TRITON_KEY"
"""The variable of such a server's environment that has the header's value."""


T = TypeVar("T")

_TRANSIENT_GRPC = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED")
_TRANSIENT_HTTP = ("429", "502", "503", "504")
_TRANSIENT_TEXT = (
    "unavailable", "not ready", "exceeds maximum queue size", "no available versions", "shutting down",
    "unable to find shared memory region",  # the server was started again and does not know it
)  # fmt: skip
_RESTRICTED = "is restricted"  # gRPC says that it is unavailable
_DIRECT = [  # gRPC would ask the proxy that the environment names; the sizes are those of tritonclient
    ("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)
]  # fmt: skip
_LONGEST_PAUSE = 2.0  # seconds between two attempts


class LocalServer(Protocol):
    """A server that was started here, `serving.TritonServer`."""

    running: bool
    log: Path

    def describe(self) -> str:
        """The server in a few words."""


class Connection:
    """A Triton server, on this machine or elsewhere.

    Parameters
    ----------
    url
        ``host:port``.
    protocol
        ``"http"`` or ``"grpc"``.
    patience
        Seconds to go on trying when the connection is lost or the server is overloaded.
    timeout
        Seconds that one call may take.
    server
        The server itself, if it was started here: when it dies, errors come at once and name its log.

    Raises
    ------
    InputError
        If there is no such protocol, or a secret stands in the address.
    """

    def __init__(
        self, url: str, protocol: str = "http", *, patience: float = 30.0, timeout: float = 120.0,
        server: LocalServer | None = None,
    ) -> None:  # fmt: skip
        if protocol not in ("http", "grpc"):
            raise InputError(f"protocol {protocol!r}: must be http or grpc")
        refuse_secrets(f"{protocol}://{url}")
        port = url.partition("/")[0].rpartition(":")[2]
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise InputError(f"{url}: has no port from 1 to 65535; expected host:port")
        self.url, self.protocol, self.patience, self.timeout, self.server = url, protocol, patience, timeout, server
        self.api = _api(protocol)
        self._clients: list[Any] = []
        self._shown: dict[str, str] | None = None
        self._own = threading.local()

    @property
    def client(self) -> Any:
        """This thread's client of tritonclient: that for HTTP is made of greenlets, which threads must not share."""
        if not hasattr(self._own, "client"):
            self._own.client = self.new_client(self.timeout)
            self._clients.append(self._own.client)
        return self._own.client

    def new_client(self, timeout: float) -> Any:
        """A client of one's own, to be closed by the caller; it shows the server's key with every request."""
        client = self._new_client(timeout)
        client.register_plugin(self._show_key)
        return client

    def _show_key(self, request: Any) -> None:
        """Put the key into a request that has none."""
        if self._shown is None:
            self._shown = self.key
        request.headers = self._shown | request.headers

    def _has_new_key(self) -> bool:
        """Whether the server has another key than it had, since it is another one."""
        before, self._shown = self._shown, self.key
        return self._shown != before

    def _new_client(self, timeout: float) -> Any:
        if self.protocol == "http":
            limits = {"connection_timeout": timeout, "network_timeout": timeout}
            client = self.api.InferenceServerClient(self.url, **limits)
            if proxy := _proxy(self.url):  # tritonclient looks for none, and takes none
                from geventhttpclient import HTTPClient

                client._client_stub = HTTPClient.from_url(client._parsed_url, **limits, **proxy)
            return client
        return self.api.InferenceServerClient(self.url, channel_args=_DIRECT if is_loopback(self.url) else None)

    @property
    def key(self) -> dict[str, str]:
        """The header that opens what is closed to others, if this account has started the server, on this machine."""
        number = self.url.rpartition(":")[2]
        if not is_loopback(self.url) or not number.isdecimal() or (process := listener(int(number))) is None:
            return {}
        with contextlib.suppress(OSError):
            for variable in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
                name, _, value = variable.partition(b"=")
                if name == KEY_VARIABLE.encode():
                    prefix = "triton-grpc-protocol-" if self.protocol == "grpc" else ""
                    return {prefix + KEY_HEADER: value.decode()}
        return {}

    @property
    def as_json(self) -> dict[str, bool]:
        """What makes tritonclient's answers dictionaries with either protocol."""
        return {"as_json": True} if self.protocol == "grpc" else {}

    def close(self) -> None:
        """Close the connections of all threads."""
        for client in self._clients:
            client.close()

    def call(self, function: Callable[[], T], about: str) -> T:
        """Call until it succeeds; give up at once if the request is at fault, or when patience is at its end.

        Parameters
        ----------
        function
            What to do with the client.
        about
            What it concerns, for messages.

        Raises
        ------
        InputError
            If the server says that the request is wrong.
        ServerError
            If the server does not answer.
        """
        begin, pause, told = time.monotonic(), 0.05, False
        deadline = begin + self.patience
        while True:
            if not told and time.monotonic() - begin > PATIENCE:
                told = True
                log.warning("waiting for the Triton server at %s, %s", self.url, about)
            if self.server is not None and not self.server.running:  # another program may have its port by now
                raise ServerError(f"{self.server.describe()} died; its log: {self.server.log}")
            try:
                return function()
            except JetcorrError:
                raise
            except Exception as error:
                if not may_pass(error) and not (_RESTRICTED in str(error).lower() and self._has_new_key()):
                    raise InputError(f"Triton server at {self.url}, {about}: {_reason(error)}") from None
                dead = self.server is not None and not self.server.running
                if not dead and time.monotonic() + pause > deadline:
                    raise ServerError(
                        f"Triton server at {self.url} does not answer, {about} ({self.patience:g} s of trying): "
                        f"{_reason(error)}{f'; its log: {self.server.log}' if self.server else ''}"
                    ) from None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _proxy(url: str) -> dict[str, Any]:
    """geventhttpclient's options for the proxy that the environment names for ``host:port``, none for this machine."""
    if (given := proxy_for(f"http://{url}")) is None:
        return {}
    proxy = urlsplit(given)
    names = {"proxy_user": proxy.username, "proxy_password": proxy.password}
    names = {name: unquote(value) for name, value in names.items() if value is not None}
    return {"proxy_host": proxy.hostname, "proxy_port": proxy.port or 80, **names}


def may_pass(error: Exception) -> bool:
    """Whether a call may succeed later: the connection was lost, or the server is starting or overloaded."""
    from tritonclient.utils import InferenceServerException

    if not isinstance(error, InferenceServerException):
        return True
    if _RESTRICTED in str(error.message()).lower():
        return False
    status = str(error.status() or "")
    if status.removeprefix("StatusCode.") in _TRANSIENT_GRPC or status in _TRANSIENT_HTTP:
        return True
    return any(text in str(error.message()).lower() for text in _TRANSIENT_TEXT)


def _api(protocol: str) -> Any:
    if protocol == "grpc":
        from tritonclient import grpc as api
    else:
        from tritonclient import http as api
    return api


def _reason(error: Exception) -> str:
    message = getattr(error, "message", lambda: str(error))()
    return without_secrets(" ".join(str(message).split()))[:300] or type(error).__name__

"""Addresses of files and servers: what in them is secret, and which are on this machine.

An address is written down (study.yaml, run.json, notebooks, logs) and shown (errors, `ps`), so nothing secret may stand
in it. `refuse_secrets` is called where an address comes in, before anything is written; `without_secrets` where a text
goes out that may quote an address of somebody else: what a library says, where a server redirects to.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import urllib.request
from collections.abc import Mapping, Sequence
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from .errors import InputError

__all__ = ["is_loopback", "open_directly", "refuse_secrets", "texts", "without_secrets"]

_USER = re.compile(r"(?<=://)(?:[^/?#\s'\"<>]*@|[^/?#\s'\"<>@:\[\]]+:(?!\d+[/?#])[^\s'\"<>]*@)")
"""Before an @, in any text: all that stands before the host, also a password that has a slash in it."""
_USER_OF_ONE = re.compile(r"(?<=://)(?:[^/]*@|[^/?#@:\[\]]+:(?!\d+[/?#]).*@)", re.DOTALL)
"""The same in an address alone, where a password may have a blank or a quote, too."""
_PARAMETER = re.compile(r"([?&;#])([^=?&;#\s'\"<>]+)=([^&;#\s'\"<>)\]]+)")
_SECRET_NAME = re.compile(
    r"sig$|signature|token|secret|pass|pwd|key|credential|auth|session|jwt|bearer|policy", re.IGNORECASE
)
"""AWS's, Google's, Azure's, CloudFront's and XRootD's parameters of signed addresses, and common names of tokens."""
_SECRET_VALUE = re.compile(r"(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[\w+=-]{24,}(?:\.[\w+=-]+)*", re.ASCII)
"""Long, without a slash, of letters and digits: nobody types it, whatever its name."""


def without_secrets(text: str) -> str:
    """A text with ``…`` in the place of all that is secret in its addresses: user, password, token, signature."""
    return _PARAMETER.sub(_masked, _USER.sub("…@", text))


def _masked(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    secret = _SECRET_NAME.search(unquote(name)) or _SECRET_VALUE.fullmatch(unquote(value))
    return f"{mark}{name}=…" if secret else found.group()


def refuse_secrets(text: str) -> None:
    """Check an address before it is used.

    Raises
    ------
    InputError
        If there is something secret in it, which the message does not repeat.
    """
    masked = without_secrets(_USER_OF_ONE.sub("…@", text))
    if masked != text:
        raise InputError(
            f"{masked}: a password, token or signature does not belong in an address, which is written down and shown; "
            "set the credentials in the environment (AWS_…, BEARER_TOKEN, NETRC), or copy the file first"
        )


def texts(value: Any) -> list[str]:
    """All texts in settings or parameters, however deep."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.items() for part in item for text in texts(part)]
    return [text for part in value for text in texts(part)] if isinstance(value, Sequence | set) else []


def is_loopback(address: str) -> bool:
    """Whether a URL, or ``host:port``, is of this machine by its name or number: no proxy can reach what it means."""
    try:
        host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return False
    if host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost"):
        return True
    try:  # 127.1 and 0x7f000001 are addresses, too
        number = ipaddress.ip_address(host) if ":" in host else ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return False
    number = getattr(number, "ipv4_mapped", None) or number
    return number.is_loopback or number.is_unspecified


def open_directly(url: str, timeout: float) -> IO[bytes]:
    """Open the URL of a server that was started here, whatever proxy the environment names."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=timeout)

"""Addresses of files and servers: what in them is secret, and which are on this machine.

An address is written down (study.yaml, run.json, notebooks, logs) and shown (errors, `ps`), so nothing secret may stand
in it: `refuse_secrets` and `check_no_secrets` are called where addresses come in, before anything is written,
`without_secrets` where a text goes out that may quote one: what a library says, where a server has sent us.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from .errors import InputError

__all__ = [
    "check_no_secrets", "direct_environment", "is_loopback", "open_directly", "proxy_for", "refuse_secrets",
    "without_secrets",
]  # fmt: skip

_USER = re.compile(r"(?<=://)(?:[^/?#\s'\"<>]*@|[^/?#\s'\"<>@:\[\]]+:(?!\d+[/?#])[^\s'\"<>]*@)")
"""Before an @, in any text: all that stands before the host, also a password that has a slash in it."""
_USER_OF_ONE = re.compile(r"(?<=://)(?:[^/]*@|[^/?#@:\[\]]+:(?!\d+[/?#]).*@)", re.DOTALL)
"""The same in an address alone, where a password may have a blank or a quote, too."""
_ADDRESS = re.compile(r"[\w+.-]+(::?[\w+.-]+)*://")
_PARAMETER = re.compile(r"([?&;#])((?:[^=?&;#\s'\"<>]+=)?)([^&;#\s'\"<>)\]]+)")
_SECRET_NAME = re.compile(
    r"sig$|signature|token|secret|pass|pwd|key|credential|auth|sessi|jwt|bearer|policy|ticket|hmac|cookie"
    r"|(^|[^a-z])(pw|otp|sid|code|cap)$",
    re.IGNORECASE,
)
"""AWS's, Google's, Azure's, CloudFront's and XRootD's parameters of signed addresses, and common names of tokens."""
_SHORTEST = 4  # characters of a password that is looked for in texts: one letter would be found everywhere
_SECRET_VALUE = re.compile(r"[\w+=-]{24,}")
"""Of letters and digits, long, without a slash or a dot: nobody types it, whatever its name."""


_JWT = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*")
"""A token that says who it is for: JSON in base64, which begins with ``{"``."""


def without_secrets(text: str) -> str:
    """A text with ``…`` in the place of all that is secret in its addresses: user, password, token, signature.

    Also of the passwords of proxies and S3 servers that the environment names, which libraries quote in any form.
    """
    for secret in _of_the_environment():
        text = text.replace(secret, "…")
    return _JWT.sub("…", _PARAMETER.sub(_masked, _USER.sub("…@", text)))


def _of_the_environment() -> Iterator[str]:
    """What stands before the @ in the addresses of the environment, and the password in it."""
    for name, value in os.environ.items():
        known = name.lower()
        if (known.endswith("_proxy") and known != "no_proxy") or known.startswith("aws_endpoint_url"):
            user, _, _ = value.rpartition("@")
            user = user.rpartition("://")[2]
            password = user.partition(":")[2] or user
            yield from (text for text in (user, password, unquote(password)) if len(text) >= _SHORTEST)


def _masked(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    plain = _unquoted(value)
    long = _SECRET_VALUE.match(plain)
    typed = long is None or long.group().isalpha() or long.group().isdigit()
    inside = plain != value and without_secrets(plain) != plain  # an address in an address
    secret = not value.startswith("…") and (_SECRET_NAME.search(_unquoted(name).rstrip("=")) or not typed or inside)
    return f"{mark}{name}…" if secret else found.group()


def _unquoted(text: str) -> str:
    """A text whose percent signs were quoted any number of times."""
    while (plain := unquote(text)) != text:
        text = plain
    return text


def refuse_secrets(address: str) -> None:
    """Check an address before it is used.

    Raises
    ------
    InputError
        If there is something secret in it, which the message does not repeat.
    """
    _refuse(address, without_secrets(_USER_OF_ONE.sub("…@", address)))


def check_no_secrets(value: Any) -> None:
    """Check all texts of settings, parameters or arguments, however deep, for addresses with secrets.

    Raises
    ------
    InputError
        If there is one; the message does not repeat the secret.
    """
    for text in _texts(value):
        _refuse(text, without_secrets(text))
        if _ADDRESS.match(text):
            refuse_secrets(text)


def _refuse(text: str, masked: str) -> None:
    if masked != text:
        raise InputError(
            f"{masked}: a password, token or signature does not belong in an address, which is written down and shown; "
            "set the credentials in the environment (AWS_…, BEARER_TOKEN, NETRC), or copy the file first"
        )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, Sequence | set):
        for part in value:
            yield from _texts(part)


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


def direct_environment() -> dict[str, str]:
    """The environment variables by which a process does not ask a proxy for what is on this machine."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if given.strip() != "*":
        names = [name.strip() for name in given.split(",") if name.strip()]
        given = ",".join(dict.fromkeys([*names, "localhost", "127.0.0.1", "::1"]))
    return {"no_proxy": given, "NO_PROXY": given}


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL, with its scheme; None for what is on this machine."""
    parts = urlsplit(url)
    given = urllib.request.getproxies().get(parts.scheme)
    if not given or is_loopback(url) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return given if "://" in given else f"http://{given}"


def open_directly(url: str, timeout: float) -> IO[bytes]:
    """Open the URL of a server that was started here, whatever proxy the environment names."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(url, timeout=timeout)

"""Files at a distance (``s3://``, ``root://``, ``https://``, whatever fsspec knows): copied once, piece by piece.

A study reads its files from a local copy: the cache of clouds is named by their content, so that the same study gives
the same cache from any place. A copy that was interrupted goes on where it stopped, also in another run, if the server
tells one version of the file from another; else it is made in one request. Credentials
come from the environment only (AWS_…, X509_…, BEARER_TOKEN, a mounted secret), as the client libraries read it; the
address of an S3 server that is not Amazon's is AWS_ENDPOINT_URL. Proxies are those of the environment (http_proxy,
https_proxy, no_proxy); this machine itself is never asked for through one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import netrc
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec.callbacks import Callback
from fsspec.core import url_to_fs
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential
from tqdm.auto import tqdm

from ..addresses import is_loopback, proxy_for, refuse_secrets, without_secrets
from ..config import RemoteSettings
from ..errors import InputError
from ..files import known_shape, locked, open_own, read_json, scratch_folder, write_json
from ..terminal import printable
from .fingerprints import Fingerprints

SCHEMES = ("s3", "s3a", "root", "http", "https")

__all__ = ["client_options", "expand", "explain", "fetch", "fetch_bytes", "is_remote", "origin", "reason_of"]

log = logging.getLogger(__name__)

BLOCK = 1 << 24
"""Bytes of one request: what is lost at most when a connection breaks."""
LARGEST = 1 << 26
"""Bytes of an answer that is kept in memory and whose size was not known before; the portal's have some 100 kB."""

_META = "origin.json"
_PARTIAL = "partial"
_TAGS, _TIMES = ("ETag", "etag", "Content-MD5", "Digest"), ("LastModified", "mtime", "last_modified", "Last-Modified")
_XROOTD_ABSENT = "[3011]"
_ABSENT, _DENIED = (404, 410), (401, 403, 407)
_PASSING = (408, 421, 425, 429)
"""Answers of a web server that are worth a second attempt, beside all from 500 on."""
_PACKAGES = {"s3": "s3fs (pip install 'jetcorr[s3]')", "root": "fsspec-xrootd (pip install 'jetcorr[xrootd]')"}

T = TypeVar("T")


def is_remote(path: str | Path) -> bool:
    """Whether a path is a URL of another machine.

    Raises
    ------
    InputError
        If it is of a kind that is not known here, or a chain of several: fsspec has kinds that run what a server sends.
    """
    scheme, mark, rest = str(path).partition("://")
    if mark and (scheme not in (*SCHEMES, "file") or "::" in rest):
        known = ", ".join(SCHEMES)
        raise InputError(f"{without_secrets(str(path))}: this kind of address is not read; known are {known} and file")
    return bool(mark) and scheme != "file"


def expand(url: str, settings: RemoteSettings) -> list[str]:
    """The files behind a URL that may have wildcards, sorted."""
    refuse_secrets(url)
    if "*" not in url and not re.search(r"\[[^]]+\]", url):
        return [url]
    found = _Remote(url, settings).ask(_glob)
    if not found:
        raise InputError(f"{url}: no file matches")
    return found


def fetch(url: str, folder: Path, settings: RemoteSettings, progress: bool = True) -> Path:
    """The local copy of a remote file, made or completed if need be.

    Parameters
    ----------
    url
        Of one file.
    folder
        Of all copies; each lies in a folder of its own, beside a record of its origin and checksum.
    settings
        How long and how often to try.
    progress
        Show a progress bar.

    Raises
    ------
    InputError
        If the file cannot be had; the message names the URL. What arrived is kept for the next run.
    """
    refuse_secrets(url)
    place = folder / hashlib.sha256(url.encode()).hexdigest()[:16]
    target = place / (Path(urlsplit(url).path).name or "file.root")
    place.mkdir(parents=True, exist_ok=True)
    remote = _Remote(url, settings)
    with locked(place, "download"):
        known = Fingerprints(place / "checksums.json")
        try:
            version = remote.ask(_version)
        except InputError as error:
            if not _is_whole(target, None, known):
                raise
            log.warning("%s; its local copy %s is used", error, target)
            return target
        if not _is_whole(target, version, known):
            version = _copy(remote, place / _PARTIAL, version, progress)
            (place / _PARTIAL).replace(target)
            write_json(place / _META, {"url": url, "version": version, "checksum": known.of(target)})
        elif not _is_marked(version):
            log.warning(
                "%s: the server tells neither tag nor time of the file; its local copy %s, as large, is used: delete "
                "it if the file is another by now", url, target,
            )  # fmt: skip
    return target


def fetch_bytes(url: str, settings: RemoteSettings) -> bytes:
    """A short answer, as it is now; it is not kept.

    Raises
    ------
    InputError
        If it cannot be had.
    """
    refuse_secrets(url)
    return bytes(_Remote(url, settings).ask(_content))


def _content(remote: _Remote) -> bytes:
    filesystem, path = remote.connect()
    return bytes(filesystem.cat_file(path))


def _copy(remote: _Remote, partial: Path, version: dict[str, str], progress: bool) -> dict[str, str]:
    """Make `partial` a copy of one version of the file, and return which; it is begun anew when the file is replaced.

    Raises
    ------
    InputError
        If the file is replaced during each of the attempts.
    """
    for _ in range(remote.settings.attempts):
        _download(remote, partial, version, progress)
        before, version = version, remote.ask(_version)
        if version == before:
            return version
        log.warning("%s: was replaced while it was copied; it is copied anew", remote.url)
    partial.unlink()
    raise InputError(f"{remote.url}: is replaced again and again while it is copied; try again when it is left alone")


def _is_marked(version: dict[str, str]) -> bool:
    """Whether more than its size tells a version of a file from another."""
    return not version.keys() <= {"size"}


def origin(path: str | Path) -> str:
    """The URL that a local copy was made from, or the path itself."""
    record = Path(path).parent / _META
    if not record.exists():
        return str(path)
    with known_shape(record):
        return without_secrets(read_json(record)["url"])


def _is_whole(target: Path, version: dict[str, str] | None, known: Fingerprints) -> bool:
    """Whether the copy is of this version and still has its checksum."""
    record = target.parent / _META
    if not (target.exists() and record.exists()):
        return False
    with known_shape(record):
        made = read_json(record)
        return (version is None or made["version"] == version) and known.of(target) == made["checksum"]


def explain(error: BaseException) -> str | None:
    """Why a file cannot be had, if trying again does not help, in a few words; None for what may pass.

    fsspec raises FileNotFoundError whatever went wrong with a web server: what it was is the cause of that error.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            return f"there is no host {_host(causes) or 'of this name'}"
        if isinstance(cause, ssl.SSLCertVerificationError):
            found = getattr(cause, "certificate_error", cause)  # aiohttp has it within an error of its own
            return f"the server's certificate is not valid ({found.verify_message}); SSL_CERT_FILE may name another CA"
        if type(cause).__name__ == "NoCredentialsError":
            return "no credentials in the environment"
        status = getattr(cause, "status", None)
        if status in _ABSENT:
            return "there is no such file"
        if status in _DENIED:
            return f"access denied ({reason_of(cause)}); are the credentials set in the environment?"
        if isinstance(status, int) and 400 <= status < 500 and status not in _PASSING:
            return f"the server refuses ({reason_of(cause)})"
    if isinstance(error, PermissionError):
        return f"access denied; are the credentials set in the environment? ({reason_of(error)})"
    if _XROOTD_ABSENT in str(error) or (isinstance(error, FileNotFoundError) and len(causes) == 1):
        return "there is no such file"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _host(causes: list[BaseException]) -> str:
    return next((str(host) for cause in causes if (host := getattr(cause, "host", None))), "")


def reason_of(error: BaseException) -> str:
    """The first line of an error, and the next one after a colon; or of that which fsspec has made "not found" of."""
    error = (isinstance(error, FileNotFoundError) and error.__cause__) or error
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return f"{status} {getattr(error, 'message', '')}".strip()
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
    proxy = "the proxy that the environment names: " if "Proxy" in type(error).__name__ else ""
    return without_secrets(proxy + line)


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt can help."""
    return isinstance(error, Exception) and not isinstance(error, InputError | MemoryError) and explain(error) is None


def _retry_after(error: BaseException, longest: float) -> float:
    """Seconds that the server asks to be left alone, `longest` at most."""
    for cause in _causes(error):
        given = (getattr(cause, "headers", None) or {}).get("Retry-After", "")
        if given.isdecimal():
            return min(float(given), longest)
    return 0.0


class _Remote:
    """A connection to where a URL lies, made anew after a failure: an old one may wait for a server that died."""

    def __init__(self, url: str, settings: RemoteSettings) -> None:
        if not is_remote(url):  # a server may have named it
            raise InputError(f"{url}: is not the address of a file of another machine")
        self.url, self.settings = url, settings
        self._connection: tuple[fsspec.AbstractFileSystem, str] | None = None

    def connect(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """The file system and the path on it."""
        if self._connection is None:
            scheme = self.url.split("://", 1)[0]
            try:
                options = client_options(self.url, self.settings.timeout)
                filesystem, path = url_to_fs(self.url, skip_instance_cache=True, **options)
            except ImportError as error:
                raise InputError(f"{self.url}: needs {_PACKAGES.get(scheme, error)}") from None
            except ValueError as error:
                raise InputError(f"{self.url}: {error}") from None
            if hasattr(filesystem, "retries"):
                filesystem.retries = 1  # s3fs: the tries are counted here
            self._connection = filesystem, path
        return self._connection

    def ask(self, action: Callable[..., T], *arguments: Any) -> T:
        """`action(self, *arguments)`, tried again after 1, 2, 4, … seconds when the connection or the server fails."""
        attempts = self.settings.attempts
        retrying = Retrying(
            retry=retry_if_exception(_may_pass), stop=stop_after_attempt(attempts), wait=self._pause,
            before_sleep=self._begin_anew, reraise=True,
        )  # fmt: skip
        try:
            return retrying(action, self, *arguments)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # each protocol has exceptions of its own
            why = explain(error) or f"cannot be read after {attempts} attempts ({reason_of(error)})"
            raise InputError(f"{self.url}: {why}") from None

    def _pause(self, failed: RetryCallState) -> float:
        """Seconds until the next attempt: twice as long after each, and as long as the server asks for."""
        growing = wait_exponential(self.settings.wait)(failed)
        return max(growing, _retry_after(failed.outcome.exception(), self.settings.timeout))

    def _begin_anew(self, failed: RetryCallState) -> None:
        reason = reason_of(failed.outcome.exception())
        log.info("%s: attempt %d failed (%s)", self.url, failed.attempt_number, reason)
        self._connection = None


def client_options(url: str, timeout: float) -> dict[str, Any]:
    """What fsspec needs for a URL: to give up after `timeout` seconds without an answer, not to try again by itself,
    and to ask the proxy that the environment names, unless the server is on this machine.
    """
    scheme = url.split("://", 1)[0]
    if scheme in ("s3", "s3a"):
        limits = {"connect_timeout": timeout, "read_timeout": timeout, "retries": {"max_attempts": 1}}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
        return {"config_kwargs": limits | ({"proxies": {}} if is_loopback(endpoint) else {})}
    if scheme in ("http", "https"):
        import aiohttp

        waits = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
        options = {"timeout": waits, "base_url": f"{scheme}://{urlsplit(url).netloc}/", "auth": _login(url)}
        options["response_class"] = _bounded()
        if proxy := proxy_for(url):
            given = urlsplit(proxy)
            named = given._replace(netloc=given.netloc.rpartition("@")[2]).geturl()
            names = (unquote(given.username or ""), unquote(given.password or ""))
            options |= {"proxy": named, "proxy_auth": aiohttp.BasicAuth(*names) if any(names) else None}
        return {"client_kwargs": options}
    if scheme == "root":
        with contextlib.suppress(ImportError):  # reported with the name of the package where the connection is made
            from XRootD import client

            # this library looks at its clock each 15 seconds, and remembers a dead server for half an hour
            for name, value in (("TimeoutResolution", 1), ("ConnectionWindow", timeout), ("StreamErrorWindow", 1)):
                client.EnvPutInt(name, max(1, round(value)))
        return {"timeout": max(1, round(timeout))}
    return {}


@functools.cache
def _bounded() -> type:
    """aiohttp's class of answers, which reads no more of one than was asked for: a server may never end it."""
    import aiohttp

    class Bounded(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            answer = await super().start(connection)
            if self.url.scheme == "https" and self.headers.get("Location", "").lower().startswith("http://"):
                _say_plain(self.url.host or "")
            return answer

        async def read(self) -> bytes:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.request_info.headers.get("Range", ""))
            if self.status >= 400:
                most = 1 << 16
            elif asked is None:  # of an unknown size: a list of files, or what is known of them
                most = LARGEST
            else:  # without ranges, the file from its beginning
                most = int(asked[2]) + 1 - (int(asked[1]) if self.status == 206 else 0)
            body = bytearray()
            async for piece in self.content.iter_any():
                body += piece
                if len(body) > most:
                    self.close()
                    break
            if asked is None and self.status < 400 and len(body) > most:
                raise InputError(f"{without_secrets(str(self.url))}: the answer has more than {most >> 20} MiB")
            self._body = bytes(body[:most])
            return self._body

    return Bounded


@functools.cache
def _say_plain(host: str) -> None:
    log.warning("%s: sends us on to an address without TLS: what comes can be read and changed on the way", host)


def _login(url: str) -> Any:
    """The login for a web server in the user's netrc file, for aiohttp, which sends it to this server only.

    It would be readable on the way to a server without TLS, and by a proxy.
    """
    import aiohttp

    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    try:
        found = netrc.netrc(os.environ.get("NETRC") or None).authenticators(parts.hostname or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return found and aiohttp.BasicAuth(found[0], found[2] or "")


def _glob(remote: _Remote) -> list[str]:
    filesystem, path = remote.connect()
    found = filesystem.glob(path)
    if not found:  # it says nothing of a server that does not answer
        filesystem.ls(re.split(r"[^/]*[*[]", path, maxsplit=1)[0], detail=False)
    return sorted(filesystem.unstrip_protocol(name) for name in found)


def _version(remote: _Remote) -> dict[str, str]:
    """What tells one state of a remote file from another: its size and, where the server gives it, tag or time."""
    filesystem, path = remote.connect()
    filesystem.invalidate_cache()
    info = filesystem.info(path)
    if info.get("type") == "directory":
        raise InputError(
            f"{remote.url}: is a folder; give the files in it, for example '{remote.url.rstrip('/')}/*.root'"
        )
    given = {name: str(value) for name, value in info.items() if value is not None}
    tags = [name for name in _TAGS if name in given] or [name for name in _TIMES if name in given]
    return {name: given[name] for name in ("size", *tags) if name in given}


def _block(remote: _Remote, start: int, stop: int) -> bytes:
    filesystem, path = remote.connect()
    block = filesystem.cat_file(path, start=start, end=stop)
    if len(block) != stop - start:
        if len(block) < stop:  # neither the piece nor the whole file
            raise OSError(f"asked for {stop - start} bytes at {start}, got {len(block)}")
        block = block[start:stop]  # a server that knows no ranges sends the whole file
    return block


def _is_own(partial: Path) -> bool:
    """Whether there is the beginning of a copy to go on with: no link, and no other account's."""
    try:
        open_own(partial, "rb+").close()
    except (InputError, FileNotFoundError):
        return False
    return True


def _whole(remote: _Remote, partial: Path, version: dict[str, str], bar: tqdm) -> None:
    """Copy the file in one request, whose bytes are all of one version."""
    filesystem, path = remote.connect()
    expected = int(version["size"]) if "size" in version else None
    bar.reset(bar.total)

    def seen(size: int | None, value: int) -> None:
        if expected is not None and value > expected:  # a server may never end
            raise OSError(f"asked for {expected} bytes, and there are more")
        bar.update(value - bar.n)

    with scratch_folder(partial.parent) as private:  # not every file system writes into a file that is open
        filesystem.get_file(path, str(private / partial.name), callback=Callback(hooks={"bar": seen}))
        os.replace(private / partial.name, partial)
    if expected is not None and partial.stat().st_size != expected:
        raise OSError(f"asked for {expected} bytes, got {partial.stat().st_size}")


def _download(remote: _Remote, partial: Path, version: dict[str, str], progress: bool) -> None:
    """Append to `partial` until it is complete; at once where versions cannot be told apart, or have no size."""
    mark = partial.with_suffix(".json")
    if not (_is_own(partial) and mark.exists() and read_json(mark) == version and _is_marked(version)):
        partial.unlink(missing_ok=True)
        open_own(partial).close()
        write_json(mark, version)
    size = int(version["size"]) if "size" in version else None
    name = printable(Path(urlsplit(remote.url).path).name)
    start = partial.stat().st_size
    with tqdm(desc=name, total=size, initial=start, unit="B", unit_scale=True, disable=not progress) as bar:
        if size is None or not _is_marked(version):
            remote.ask(_whole, partial, version, bar)
        else:
            with open_own(partial) as file:
                while file.tell() < size:
                    block = remote.ask(_block, file.tell(), min(file.tell() + BLOCK, size))
                    file.write(block)
                    file.flush()
                    bar.update(len(block))
    mark.unlink()

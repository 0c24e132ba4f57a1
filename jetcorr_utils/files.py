"""Files that are complete or absent: written beside their place, then renamed; and their checksums.

A process that is killed cannot tidy up. Temporary files and folders are therefore marked by name and locked while they
are in use, and whoever writes in the same folder next removes those that are left over.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import xxhash
from filelock import FileLock

from .errors import InputError

__all__ = [
    "MARK",
    "atomic_folder",
    "atomic_path",
    "checksum",
    "fingerprint",
    "known_shape",
    "locked",
    "read_json",
    "remove_leftovers",
    "scratch_folder",
    "sole_user",
    "where_writable",
    "write_json",
    "write_text",
]

MARK = ".jetcorr-"
"""How the names of temporary files and folders begin."""


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, renamed to `path` on success and removed on failure.

    The temporary name keeps the suffix of `path`, so that writers that look at it (matplotlib, uproot) work.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)

    def make() -> tuple[int, str]:
        return tempfile.mkstemp(prefix=f"{MARK}{path.stem}-", suffix=path.suffix, dir=path.parent)

    with _named(path), _temporary(path.parent, make) as temporary:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, renamed to `path` on success and removed on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path), scratch_folder(path.parent) as temporary:
        yield temporary
        temporary.chmod(0o755)
        temporary.replace(path)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of the system name what does not fit on a full disk, not a temporary name or none."""
    try:
        yield
    except OSError as error:
        if error.filename is None or MARK in str(error.filename):
            error.filename = str(path)
        raise


@contextlib.contextmanager
def scratch_folder(parent: str | Path | None = None) -> Iterator[Path]:
    """Yield an empty folder in `parent` (default: that of the system for temporary files), removed in the end."""
    parent = Path(parent or tempfile.gettempdir())

    def make() -> tuple[int, str]:
        name = tempfile.mkdtemp(prefix=MARK, dir=parent)
        return os.open(name, os.O_RDONLY), name

    with _temporary(parent, make) as temporary:
        yield temporary


@contextlib.contextmanager
def sole_user(folder: str | Path, work: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder, made if need be, for the time of the block; the kernel lets it go if the process dies.

    Raises
    ------
    InputError
        If another process holds it and this one is not to `wait`; `work` says in the message what that does.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder}: another {work} is at work here; wait for it or choose another folder"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """One process at a time in `folder`, which keeps a file ``.lock``; the others wait.

    A process that may only read there has no lock and needs none: what it finds is complete.
    """
    lock = FileLock(Path(folder) / ".lock")
    with where_writable():
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def where_writable() -> Iterator[None]:
    """Leave the block without an error where it may not write: on a read-only disk, or for lack of permission."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files and folders in `folder` whose process was killed before it could do so itself."""
    for entry in [entry for entry in os.scandir(folder) if entry.name.startswith(MARK)]:
        with contextlib.suppress(OSError):  # of another user, or removed by another process in this moment
            handle = os.open(entry.path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(Path(entry.path))
            finally:
                os.close(handle)


@contextlib.contextmanager
def _temporary(parent: Path, make: Callable[[], tuple[int, str]]) -> Iterator[Path]:
    """A temporary file or folder that `make` opens; locked while it is in use, so that one without a lock is left over.

    The kernel frees the lock of a process that dies.
    """
    remove_leftovers(parent)
    while True:
        handle, name = make()
        with contextlib.suppress(OSError):  # a file system without locks: nothing is ever taken to be left over there
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.lexists(name):
            break
        os.close(handle)  # another process took it for left over before it was locked
    try:
        yield Path(name)
    finally:
        _remove(Path(name))
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` to `path` atomically and return the path."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` as indented JSON to `path` atomically and return the path."""
    return write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def read_json(path: str | Path) -> Any:
    """The JSON value in the file `path`.

    Raises
    ------
    InputError
        If it is not JSON: we write no such file, so it was damaged later.
    """
    try:
        return json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError(f"{path}: damaged, it is not JSON; delete it to have it made again") from None


@contextlib.contextmanager
def known_shape(path: str | Path) -> Iterator[None]:
    """Take apart, in the block, what was read from the JSON file `path`, whose values may not be those that we write.

    Raises
    ------
    InputError
        For a key that is missing or a value of another kind.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError):  # ValueError: also pydantic's ValidationError
        raise InputError(
            f"{path}: damaged, values are missing in it or of another kind; delete it to have it made again"
        ) from None


def fingerprint(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(path: str | Path) -> str:
    """XXH3 (128 bits) of a file's bytes, as hexadecimal text: many times faster than `fingerprint`.

    It tells whether a file has changed; unlike SHA-256 it does not withstand someone who wants to deceive.
    """
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

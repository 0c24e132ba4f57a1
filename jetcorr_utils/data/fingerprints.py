"""Checksums of files, remembered: reading 10 GB only to see that nothing has changed takes longer than mapping a cache.

A checksum is taken again when the size or a time of change of a file differs from what was remembered: any writing to
it changes those, also where someone sets the time back. Only what a disk itself gets wrong goes unseen. It is XXH3,
which is as fast as the memory: SHA-256 takes a quarter as long as decompressing the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError
from ..files import checksum, read_json, where_writable, write_json

__all__ = ["Fingerprints"]


class Fingerprints:
    """XXH3 (128 bits) by file.

    Parameters
    ----------
    path
        Where they are remembered; default: in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.known: dict[str, list] = {}
        if path is not None:
            with contextlib.suppress(FileNotFoundError, InputError):
                content = read_json(path)
                self.known = content if isinstance(content, dict) else {}

    def of(self, file: str | Path) -> str:
        """The checksum of a local file."""
        name, state = _state(file)
        known = self.known.get(name)
        if not isinstance(known, list) or known[:-1] != state:
            self.remember({file: checksum(file)})
        return self.known[name][-1]

    def remember(self, checksums: Mapping[str | Path, str]) -> None:
        """Take these checksums for those of the files as they are now."""
        for file, value in checksums.items():
            name, state = _state(file)
            self.known[name] = [*state, value]
        if self.path is not None:
            with where_writable():  # then they are taken again in the next process
                write_json(self.path, self.known)


def _state(file: str | Path) -> tuple[str, list[int]]:
    """The name of a file, and what any writing to it changes."""
    status = Path(file).stat()
    return str(Path(file).resolve()), [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]

"""Checksums of files, remembered: reading 10 GB only to see that nothing has changed takes longer than mapping a cache.

A checksum is taken again when the size or a time of change of a file differs from what was remembered. It is XXH3,
which is as fast as the memory: SHA-256 takes a quarter as long as decompressing the file.
"""

from __future__ import annotations

import contextlib
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
                self.known = read_json(path)

    def of(self, file: str | Path) -> str:
        """The checksum of a local file."""
        name = str(Path(file).resolve())
        status = Path(file).stat()
        state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        if self.known.get(name, [None])[:-1] != state:
            self.known[name] = [*state, checksum(file)]
            if self.path is not None:
                with where_writable():  # then they are taken again in the next process
                    write_json(self.path, self.known)
        return self.known[name][-1]

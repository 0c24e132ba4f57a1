"""Checksums of files, remembered: reading 10 GB only to see that nothing has changed takes longer than mapping a cache.

A checksum is taken again when the size or the time of change of a file differs from what was remembered.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from ..files import fingerprint, read_json, write_json

__all__ = ["Fingerprints"]


class Fingerprints:
    """SHA-256 by file.

    Parameters
    ----------
    path
        Where they are remembered; default: in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.known: dict[str, list] = {}
        if path is not None:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                self.known = read_json(path)

    def of(self, file: str | Path) -> str:
        """The checksum of a local file."""
        name = str(Path(file).resolve())
        status = Path(file).stat()
        state = [status.st_size, status.st_mtime_ns, status.st_ino]
        if self.known.get(name, [None])[:-1] != state:
            self.known[name] = [*state, fingerprint(file)]
            if self.path is not None:
                write_json(self.path, self.known)
        return self.known[name][-1]

"""Files of corrections that somebody may have sent: unpacked and opened without more memory or stack than they need.

The parser of correctionlib, and that of the formulas in it, call themselves for each level of what they read: the
process would end without a word in a file of many. A gzip file can hold a thousand times its size.
"""

from __future__ import annotations

import gzip
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import InputError

if TYPE_CHECKING:
    import correctionlib

__all__ = ["content_of", "read_corrections", "say_if_mixed_up", "unpacked"]

log = logging.getLogger(__name__)

_LARGEST = 1 << 28
"""Bytes; CMS's largest files have some 10 MB."""
_DEEPEST = 100
"""Lists and mappings within each other; in CMS's files there are nine."""
_LONGEST = 2000
"""Bytes of a text, such as a formula; CMS's have up to 300."""
_TEXT = re.compile(rb'"((?:[^"\\]|\\.)*+)"?', re.DOTALL)


def unpacked(path: str | Path, most: int = _LARGEST) -> bytes:
    """The content of a file, which may be compressed by gzip.

    Raises
    ------
    InputError
        If there are more than `most` bytes of it.
    """
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with (gzip.open if packed else open)(path, "rb") as file:
        content: bytes = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"corrections {path}: unpacked, it has more than {most >> 20} MiB, as no file of corrections")
    return content


def content_of(path: str | Path) -> str:
    """The text of a correctionlib file, .json or .json.gz, that its parsers can read.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, is no UTF-8, or could take the parsers too deep.
    InputError
        As of `unpacked`.
    """
    content = unpacked(path)
    if (longest := max((len(text) for text in _TEXT.findall(content)), default=0)) > _LONGEST:
        raise ValueError(f"it has a text of {longest} characters")
    marks = np.frombuffer(_TEXT.sub(b"", content), dtype=np.uint8)
    steps = np.isin(marks, list(b"[{")).astype(np.int8) - np.isin(marks, list(b"]}")).astype(np.int8)
    if (depth := int(steps.cumsum(dtype=np.int64).max(initial=0))) > _DEEPEST:
        raise ValueError(f"it has {depth} lists and mappings within each other")
    return content.decode()


def read_corrections(path: str | Path) -> correctionlib.CorrectionSet:
    """The corrections in a correctionlib file, .json or .json.gz.

    Raises
    ------
    InputError
        If it is missing, or is none.
    """
    import correctionlib  # half a second that other commands need not take

    if not Path(path).is_file():
        raise InputError(f"corrections {path}: there is no such file")
    try:
        return correctionlib.CorrectionSet.from_string(content_of(path))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # of whatever type its parser raises
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"corrections {path}: cannot be read as correctionlib ({reason})") from None


def say_if_mixed_up(name: str, kind: str | None, *, simulation: bool) -> None:
    """Warn if a correction of data is used for simulated jets, or the other way round.

    Parameters
    ----------
    name
        Of the correction.
    kind
        What its name says: ``MC``, ``DATA`` or something else.
    simulation
        Whether the jets are simulated.
    """
    if kind == ("DATA" if simulation else "MC"):
        log.warning("corrections %s: are applied to jets of %s", name, "simulation" if simulation else "data")

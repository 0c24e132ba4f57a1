"""A value that runs code when it is read from a pickle: it makes a folder, so that a test can see whether it ran."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Maker"]


class Maker:
    """Makes the folder `mark` where its pickle is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)

"""The folder of what torch compiles: one of this process and of those that it starts, removed when it ends.

What lies there is run. torch would take a folder of a fixed name where temporary files go, whoever has made it, and
makes it as soon as its compiler is imported, which torch_geometric does.
"""

from __future__ import annotations

import atexit
import contextlib
import os

from ..files import scratch_folder

__all__ = ["VARIABLE", "have_own_folder"]

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def have_own_folder() -> None:
    """Have torch use a folder of ours, if the user has named none; before its compiler is imported."""
    if VARIABLE in os.environ:
        return
    kept = contextlib.ExitStack()
    os.environ[VARIABLE] = str(kept.enter_context(scratch_folder()))
    atexit.register(_remove, kept, os.getpid())


def _remove(kept: contextlib.ExitStack, process: int) -> None:
    if os.getpid() == process:  # not a fork of it
        kept.close()

"""The user's own environment: what is set there for other programs must not shape, or stop, what jetcorr makes.

A backend of matplotlib that needs a window, ``text.usetex`` in a matplotlibrc, start-up files of IPython, warnings that
are errors: commands and the notebooks of a batch run do without them. JupyterLab is used as its user has set it up.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LONGEST_SOCKET", "for_commands", "for_kernels", "socket_parent"]

#: pattern of what the variables may hold
_THREADS = {
    "OMP_NUM_THREADS": r"\s*0*[1-9]\d{0,5}(\s*,\s*0*[1-9]\d*)*\s*",
    "NUMBA_NUM_THREADS": r"\s*0*[1-9]\d{0,5}\s*",
}
_FOR_OTHERS = ("PYTHONWARNINGS", "PYTHONSTARTUP", "PYTHONINSPECT")
_OWN_MODULES = {"PYTHONSAFEPATH": "1"}  # processes that we start import nothing from the current folder
LONGEST_SOCKET = 103  # characters of a socket's path: 107 on Linux, 103 on macOS


def for_commands() -> None:
    """Make this process independent of the user's settings, before matplotlib and torch are imported."""
    if os.environ.get("PYTHONWARNINGS"):
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)  # as Python has it without the variable
    for name, pattern in _THREADS.items():
        value = os.environ.get(name)
        if value is not None and not re.fullmatch(pattern, value):
            print(f"jetcorr: {name}={value!r} is no number of threads and is ignored", file=sys.stderr)
            del os.environ[name]
    for name in (*_FOR_OTHERS, "JUPYTER_PATH"):
        os.environ.pop(name, None)
    # Kernels of Kale's steps, and templates of reports: those of this environment before the user's own
    os.environ.update(_figures("agg") | {"JUPYTER_PREFER_ENV_PATH": "1"} | _OWN_MODULES)


def for_kernels(scratch: Path) -> dict[str, str]:
    """The environment of a notebook's kernel; `scratch` is an empty folder that lives as long as the kernel."""
    variables = {name: value for name, value in os.environ.items() if name not in _FOR_OTHERS}
    if entries := variables.get("PYTHONPATH"):  # relative ones count from here, and the kernel runs elsewhere
        variables["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in entries.split(os.pathsep))
    figures = _figures("module://matplotlib_inline.backend_inline")
    return variables | figures | _OWN_MODULES | {"IPYTHONDIR": str(scratch / "ipython")}


def _figures(backend: str) -> dict[str, str]:
    found = importlib.util.find_spec("matplotlib")
    folders = found and found.submodule_search_locations
    own = {"MATPLOTLIBRC": f"{folders[0]}/mpl-data/matplotlibrc"} if folders else {}
    return {"MPLBACKEND": backend} | own


def socket_parent(name: str) -> Path | None:
    """A folder for temporary files, where the path of a socket `name` is short enough; None if there is none.

    That of the system (TMPDIR), unless its own path is too long.
    """
    return next((folder for folder in _folders() if len(os.fsencode(folder / name)) <= LONGEST_SOCKET), None)


def _folders() -> Iterator[Path]:
    yield Path(tempfile.gettempdir())
    for folder in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp"):
        if folder and os.path.isabs(folder) and os.access(folder, os.W_OK | os.X_OK):
            yield Path(folder)

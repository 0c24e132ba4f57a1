"""Where the Triton server of this machine comes from, and what it gets to see of the machine.

The binary comes with the wheel nvidia-pytriton, in an environment of its own that ``make environment`` fills. It has
Triton's Python backend only. It runs on Linux x86-64 with glibc 2.35 or newer, and its processes load the shared
library of the environment's Python.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..config import project_root
from ..errors import InputError

__all__ = ["ENVIRONMENT_VARIABLE", "find_environment", "prepare", "private_place", "server_available", "variables"]

ENVIRONMENT_VARIABLE = "JETCORR_TRITON_ENV"
"""Names a server environment (a virtual environment with nvidia-pytriton and onnxruntime) other than the default."""
PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
"""Paths that mean the same to a shell: Triton's Python backend starts its processes by a line of bash."""
BINARY = "tritonserver/bin/tritonserver"
STUB = "triton_python_backend_stub"


def find_environment(environment: str | Path | None = None) -> Path:
    """The virtual environment that holds the server.

    Parameters
    ----------
    environment
        Its folder; default: the folder named by the variable JETCORR_TRITON_ENV, or .venv-triton in the project.

    Raises
    ------
    InputError
        If there is no server in it; the message says how to get one.
    """
    folder = Path(environment or os.environ.get(ENVIRONMENT_VARIABLE) or project_root() / ".venv-triton")
    if not list(folder.glob(f"lib/python3*/site-packages/pytriton/{BINARY}")):
        raise InputError(
            f"{folder}: no Triton server in it: `make .venv-triton/.ready` installs one (Linux x86-64, glibc 2.35 or "
            "newer, Python 3.11 to 3.13); elsewhere give the URL of a running server, or let the models run in process"
        )
    return folder.absolute()


def server_available() -> str | None:
    """None if a local server can run here, else the reason why not, in one line."""
    try:
        environment = find_environment()
        _stub(environment)
        _python_library(environment)
        private_place()
    except InputError as error:
        return str(error)
    return None


def private_place() -> Path:
    """The folder for the server's own files: the usual one for temporary files if it will do, else one of the system's.

    Raises
    ------
    InputError
        If there is none that can be written to, lets programs run, and has a name that a shell takes as it is.
    """
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):
        if PLAIN.fullmatch(folder) and os.access(folder, os.W_OK | os.X_OK) and _runs_programs(folder):
            return Path(folder)
    raise InputError(
        f"{tempfile.gettempdir()}: no place for a Triton server's files, nor are /tmp and the like: set TMPDIR to a "
        "folder that can be written to, from which programs may run, and whose path has letters, digits and _./- only"
    )


def _runs_programs(folder: str) -> bool:
    return not os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0)


def prepare(environment: Path, folder: Path) -> tuple[Path, Path]:
    """Lay out in an empty folder what the server needs of its environment, under names that a shell takes as they are.

    Returns
    -------
    Path, Path
        The server's binary, and its folder of backends: the Python backend with the stub for the environment's Python.

    Raises
    ------
    InputError
        If the server cannot run with the environment's Python.
    """
    link, libraries, python = folder / "environment", folder / "libraries", folder / "backends" / "python"
    stub, library = _stub(environment), _python_library(environment)
    link.symlink_to(environment)
    package = link / _package(environment).relative_to(environment)
    libraries.mkdir()
    # The one library, not its folder: that of conda has others that the server would take in place of the system's
    (libraries / library.name).symlink_to(library)
    (libraries / "wheel").symlink_to(package.parent / "nvidia_pytriton.libs")
    python.mkdir(parents=True)
    for source in (package / "tritonserver/backends/python").iterdir():
        if source.is_file():
            (python / source.name).symlink_to(source)
    shutil.copy(stub, python)  # Triton looks for the stub by its real path
    return package / BINARY, python.parent


def variables(folder: Path) -> dict[str, str]:
    """All environment variables of a server whose files `prepare` laid out: nothing of the caller's keys and settings.

    Only what the Makefile sets for the allocator is the caller's: it doubles the speed.
    """
    allocator = {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")}
    return allocator | {
        "HOME": str(folder), "LANG": "C.UTF-8", "LD_LIBRARY_PATH": f"{folder}/libraries/wheel:{folder}/libraries",
        "PATH": f"{folder}/environment/bin:/usr/local/bin:/usr/bin:/bin", "TMPDIR": str(folder),
        "VIRTUAL_ENV": f"{folder}/environment",
    }  # fmt: skip


def _package(environment: Path) -> Path:
    """The folder of the package pytriton in the server's environment."""
    return next(environment.glob("lib/python3*/site-packages/pytriton"))


def _version(environment: Path) -> str:
    """The version of the environment's Python, like 3.12."""
    return _package(environment).parents[1].name.removeprefix("python")


def _stub(environment: Path) -> Path:
    """The program that runs a model in the environment's Python."""
    stub = _package(environment) / "tritonserver/python_backend_stubs" / _version(environment) / STUB
    if not stub.is_file():
        raise InputError(f"{environment}: its Triton server cannot run models in Python {_version(environment)}")
    return stub


def _python_library(environment: Path) -> Path:
    """The shared library of the environment's Python, beside that Python: the system's loader does not know those of
    pyenv, conda and uv.
    """
    python, name = environment / "bin" / "python", f"libpython{_version(environment)}.so.1.0"
    code = "import sys, sysconfig; print(sysconfig.get_config_var('LIBDIR'), sys.base_prefix + '/lib', sep='\\n')"
    try:
        found = subprocess.run(
            [python, "-I", "-S", "-c", code], capture_output=True, text=True, encoding="utf-8", errors="replace",
            check=True, timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        raise InputError(f"{python} does not run: `make .venv-triton/.ready` makes the environment anew") from None
    for folder in os.fsdecode(found.stdout).splitlines():
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise InputError(
        f"{environment}: its Python has no shared library {name}, which the Triton server needs; Debian and Ubuntu "
        f"have it in a package of its own, {name.partition('.so')[0]}"
    )

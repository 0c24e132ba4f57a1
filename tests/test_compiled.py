"""Kernels work where their compiled code cannot be kept."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jetcorr_utils.config import project_root

MODULE = """
from jetcorr_utils.compiled import compiled

@compiled(nogil=True)
def double(x):
    return 2 * x
"""
USE = "import kernel; print(kernel.double(21), kernel.double.stats.cache_hits.total())"


@pytest.fixture
def place(tmp_path) -> Path:
    (tmp_path / "kernel.py").write_text(MODULE, encoding="utf-8")
    return tmp_path


def _use(place: Path, prefix: tuple[str, ...] = (), **options) -> str:
    variables = options.pop("variables", {})
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{place}:{project_root()}"} | variables
    result = subprocess.run(
        [*prefix, sys.executable, "-B", "-c", USE], capture_output=True, text=True, encoding="utf-8", cwd=place,
        env=environment, **options,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def _without_rights() -> tuple[str, ...]:
    """How to start a command as a user without a name, who may not override permissions."""
    prefix = ("unshare", "--user", "--map-user=12345", "--map-group=0")
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    return prefix


def test_compiled_code_is_kept_where_there_is_a_place(place):
    variables = {"NUMBA_CACHE_DIR": str(place / "cache"), "HOME": str(place)}
    assert _use(place, variables=variables) == "42 0"
    assert _use(place, variables=variables) == "42 1"


def test_a_read_only_install_and_home_of_a_user_without_a_name(place):
    prefix = _without_rights()
    place.chmod(0o555)
    try:
        assert _use(place, prefix, variables={"HOME": str(place)}) == "42 0"
    finally:
        place.chmod(0o755)


def test_without_a_home_no_compiled_code_is_taken_from_the_current_folder(place):
    prefix = _without_rights()
    assert _use(place, prefix) == "42 0"
    assert not (place / "~").exists()


def test_a_home_whose_quota_is_used_up(place):
    """A limit of the size of files stands for the quota: a file can be made there, but not filled."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # noqa: E731
    variables = {"NUMBA_CACHE_DIR": str(place / "cache"), "HOME": str(place)}
    assert _use(place, variables=variables, preexec_fn=limit) == "42 0"


@pytest.mark.parametrize("size", [0, 5, 60])
def test_a_damaged_cache_is_compiled_anew(place, size):
    variables = {"NUMBA_CACHE_DIR": str(place / "cache"), "HOME": str(place)}
    _use(place, variables=variables)
    for file in (place / "cache").rglob("*.nb?"):
        os.truncate(file, size)
    assert _use(place, variables=variables) == "42 0"


def test_all_kernels_are_compiled_in_this_way():
    package = project_root() / "jetcorr_utils"
    others = [path for path in package.rglob("*.py") if re.search(r"@(numba\.)?n?jit|njit\(", path.read_text("utf-8"))]
    assert others == [package / "compiled.py"]

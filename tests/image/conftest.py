"""The image, built from the Dockerfile by buildah on a Debian base made by mmdebstrap; no daemon, no image registry.

The base has what Debian's packages give, and pip is told by this machine's own settings where packages come from. All
that the build leaves lies in a folder of its own, in memory where there is enough, and is removed at the end.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from jetcorr_utils.config import project_root

DOCKERFILE = project_root() / "pipelines" / "image" / "Dockerfile"
DISK_GB = 20
MEMORY = Path("/dev/shm")
MEMORY_GB = 8  # what the store takes; the files that buildah copies through lie on the disk


@dataclass
class Buildah:
    """buildah with a store of its own."""

    store: Path

    def __call__(self, *arguments: object) -> str:
        return _output(self.command(*arguments), timeout=1500)

    def command(self, *arguments: object) -> list[str]:
        roots = ["--root", self.store / "images", "--runroot", self.store / "run"]
        return [str(part) for part in ("buildah", *roots, *arguments)]


@dataclass
class Image:
    """The built image, and a container of it in which commands run as a pipeline pod would run them."""

    buildah: Buildah
    name: str
    container: str

    @property
    def settings(self) -> dict[str, Any]:
        """User, environment and command of a container."""
        return json.loads(self.buildah("inspect", "--type=image", self.name))["Docker"]["config"]

    def command(
        self, *arguments: object, user: str = "65534:100", environment: dict[str, str] | None = None
    ) -> list[str]:
        """The command line that runs `arguments` in the container, by default as the user of a pipeline's pod."""
        variables = {"HOME": "/tmp", "OMP_NUM_THREADS": "1"} | (environment or {})
        settings = [f"--env={name}={value}" for name, value in variables.items()]
        return self.buildah.command(
            "run", "--isolation=chroot", f"--user={user}", *settings, self.container, "--", *arguments
        )

    def run(self, *arguments: object, user: str = "65534:100") -> str:
        """What a command in the container prints."""
        return _output(self.command(*arguments, user=user), timeout=900)


def _output(command: list[str], timeout: float, **environment: str) -> str:
    """What a command prints; its last lines if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=os.environ | environment)
    if result.returncode:
        raise AssertionError(f"{shlex.join(command)}:\n{(result.stdout + result.stderr)[-5000:]}")
    return result.stdout.strip()


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Iterator[Image]:
    """The image as the Dockerfile makes it, for the tests of one module."""
    _skip_where_impossible()
    # A hundred thousand small files: on a slow disk, half of the time of the build.
    folder = Path(tempfile.mkdtemp(dir=MEMORY)) if _has_memory() else tmp_path_factory.mktemp("image")
    folder.chmod(0o755)  # apt works as a user of its own
    buildah = Buildah(folder / "store")
    try:
        base = _debian(buildah, folder)
        mounts = [f"--volume={source}:{target}:ro" for source, target in _pip_settings(folder / "pip.conf").items()]
        name = "localhost/jetcorr:test"
        buildah(
            "bud", "--isolation=chroot", "--network=host", *mounts, "--build-arg", f"BASE={base}",
            "--file", DOCKERFILE, "--tag", name, project_root(),
        )  # fmt: skip
        yield Image(buildah, name, buildah("from", name))
    finally:
        subprocess.run(buildah.command("rm", "--all"), capture_output=True)
        subprocess.run(buildah.command("rmi", "--all", "--force"), capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _skip_where_impossible() -> None:
    for program in ("buildah", "mmdebstrap"):
        if not shutil.which(program):
            pytest.skip(f"no {program}: the image cannot be built here")
    if os.geteuid():
        pytest.skip("mmdebstrap and the build of the image need root")
    if shutil.disk_usage(project_root()).free < DISK_GB * 1e9:
        pytest.skip(f"less than {DISK_GB} GB of free disk for the build of the image")


def _has_memory() -> bool:
    """Whether the store of images fits into memory, with as much left to the other tests."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < MEMORY_GB * 1e9:
        return False
    return psutil.virtual_memory().available > 2 * MEMORY_GB * 1e9


def _debian(buildah: Buildah, folder: Path) -> str:
    """The name of a base image with Debian's Python."""
    suite = re.search(r"slim-(\w+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)[1]
    packages = "ca-certificates,libpython3.11,python3,python3-venv"
    archive = folder / "debian.tar"
    command = ["mmdebstrap", "--variant=minbase", f"--include={packages}", suite, str(archive)]
    _output(command, timeout=600, TMPDIR=str(folder))
    container = buildah("from", "scratch")
    buildah("add", container, archive, "/")
    buildah("commit", "--rm", container, "localhost/debian:test")
    archive.unlink()
    return "localhost/debian:test"


def _pip_settings(path: Path) -> dict[str, str]:
    """What to mount for pip in the build, by the place here: this machine's settings and the files that they name."""
    listed = _output([sys.executable, "-m", "pip", "config", "list"], timeout=60)
    settings = dict(re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", listed, flags=re.MULTILINE))
    path.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    words = [word for value in settings.values() for word in value.split()]
    # A local index refers to files beside it.
    named = [Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word) for word in words]
    files = {str(place) for place in named if place.is_absolute() and place.exists()}
    return {str(path): "/etc/pip.conf"} | {name: name for name in files}

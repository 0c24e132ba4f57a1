"""The image: built, and used as Kubeflow's pods use it, by a user who is nobody in it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from jetcorr_utils.config import project_root
from tests.data.conftest import free_port
from tests.image.conftest import DOCKERFILE

PREFIX = "/notebook/ns/name"

# The build of the image takes minutes, in the first test that asks for it.
built = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_the_files_of_the_build_name_no_index_and_no_secret():
    ignored = (project_root() / ".dockerignore").read_text()
    assert not re.findall(r"https?://|TOKEN|PASSWORD|SECRET|pip\.conf", DOCKERFILE.read_text() + ignored)
    assert ignored.splitlines()[1] == "*"  # all that may be copied is listed below that line


class TestBuilt:
    """What needs the built image."""

    pytestmark = built

    def test_its_settings_are_those_of_the_file_and_nothing_of_the_build_stays(self, image, record_property):
        record_property("size of the image", image.buildah("images", "--format", "{{.Size}}", image.name))
        settings = image.settings
        assert settings["User"] == "1000:100"
        assert {name.partition("=")[0] for name in settings["Env"]} == {
            "HOME", "JETCORR_TRITON_ENV", "NB_PREFIX", "PATH", "PYTHONUNBUFFERED",
        }  # fmt: skip
        caches = ["/root", "/home", "/tmp", "/var/lib/apt/lists", "/etc/pip.conf"]
        found = image.run("find", *caches, "-type", "f", "-size", "+0", "-not", "-name", ".*", user="0:0")
        assert not found
        assert image.run("ls", "data", "results").split() == ["data:", "README.md", "sample", "results:", "reference"]

    def test_nobody_imports_the_package_and_cannot_change_it(self, image):
        told = image.run("python3", "-c", "import os, jetcorr_utils as j, torch; print(os.getuid(), j.__file__)")
        assert told == "65534 /opt/jetcorr/jetcorr_utils/__init__.py"
        assert image.run("sh", "-c", "test -w /opt/jetcorr/jetcorr_utils || echo read-only") == "read-only"

    def test_nobody_runs_all_notebooks(self, image):
        image.run("jetcorr", "run", "--study", "smoke", "--out", "/tmp/run")
        metrics = json.loads(image.run("cat", "/tmp/run/metrics.json"))
        assert metrics["pfn"]["jets"] > 0
        assert metrics["inference"]["pfn"]  # from the Triton server of the image

    def test_its_command_is_a_notebook_server_under_the_prefix(self, image):
        port = free_port()
        # There is no gateway here that lets only the owner through: loopback.
        environment = {"NB_PREFIX": PREFIX, "JUPYTER_IP": "127.0.0.1", "JUPYTER_PORT": str(port)}
        command = image.command(*image.settings["Cmd"], environment=environment)
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            assert "jupyter-config-data" in _page(f"http://127.0.0.1:{port}{PREFIX}/lab/tree/notebooks", server)
            assert _page(f"http://127.0.0.1:{port}{PREFIX}/api/contents/notebooks/01_data_exploration.ipynb", server)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def _page(url: str, server: subprocess.Popen) -> str:
    """A page of a server that may still be starting."""
    end = time.monotonic() + 180
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.read().decode()
        except (OSError, urllib.error.URLError):
            if server.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.5)

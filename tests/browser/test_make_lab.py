"""JupyterLab as `make lab` starts it: on notebook 01, in the repository's folder, without a dialog."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from jetcorr_utils.config import project_root
from tests.lab import recipe
from tests.waiting import wait_for

pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
pytestmark = pytest.mark.slow

DIALOGS = """
window.dialogs = [];
new MutationObserver(() => {
    for (const dialog of document.querySelectorAll(".jp-Dialog"))
        if (!dialog.textContent.includes("taking a long time"))  // of a slow machine
            window.dialogs.push(dialog.textContent);
}).observe(document, {childList: true, subtree: true});
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    more = ["--no-browser", f"--port={port}", "--IdentityProvider.token=", "--allow-root", "--expose-app-in-browser"]
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ} | {
        "HOME": str(home)
    }
    with open(home / "server.log", "w") as log:
        server = subprocess.Popen(
            [*recipe(), *more], cwd=project_root(), env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{address}/api/status") or server.poll() is not None, 300)
        assert server.poll() is None, (home / "server.log").read_text()
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def answers(url: str) -> bool:
    """Whether a server is there."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def test_it_opens_notebook_01_of_the_repository_without_a_dialog(url, page, keep_picture):
    page.add_init_script(DIALOGS)
    page.goto(url)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
    current = "jupyterapp.shell.currentWidget.context"
    assert page.evaluate(f"{current}.path") == "notebooks/01_data_exploration.ipynb"
    page.wait_for_timeout(5000)  # Kale's dialog and its change of the notebook came a moment later
    assert page.evaluate("window.dialogs") == []
    assert page.get_by_text("Jupyter news").count() == 0
    assert page.evaluate(f"{current}.model.getMetadata('kubeflow_notebook') ?? null") is None  # what Kale writes
    assert page.locator("[data-id*=kubeflow], [data-id*=kale]").count() == 0
    found = page.evaluate("jupyterapp.serviceManager.contents.get('').then(folder => folder.content.map(f => f.name))")
    assert {"notebooks", "pipelines", "results", "data"} <= set(found)
    keep_picture(page, "make_lab")

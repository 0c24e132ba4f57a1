"""JupyterLab as the notebook server of the image starts it, under a path as Kubeflow gives it, seen in a browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

from jetcorr_utils.config import project_root
from jetcorr_utils.kubeflow.pipeline import NOTEBOOK, PIPELINE, _adapt
from jetcorr_utils.notebooks import NOTEBOOKS

pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")

PREFIX = "/notebook/ns/name"

pytestmark = pytest.mark.slow


# Run here: widgets to turn, and figures that are drawn while a training runs. The others are run by papermill alone.
RUN_HERE = ("01", "02")
# Notebooks whose screenshot is kept, with the figure that is scrolled to.
SHOWN_IN_THE_GUIDE = {"01": 1, "06": 1}
SHOWN = ".jp-NotebookPanel:not(.lm-mod-hidden)"


@dataclass
class Lab:
    """JupyterLab in a page of the browser, and the folder that it shows."""

    page: Any
    workspace: Path
    url: str

    def load(self) -> None:
        """Load the page anew, with the notebook that is tagged for Kale."""
        self.page.goto(self.url)
        self.page.locator(f"{SHOWN} .jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()

    def open(self, path: str) -> None:
        """Open one notebook and wait for its kernel: without one, JupyterLab would ask which to start."""
        self.execute("docmanager:open", path=path)
        self.page.wait_for_function(
            """path => {
                const notebook = [...jupyterapp.shell.widgets("main")].find(one => one.context?.path == path);
                if (!notebook || jupyterapp.shell.currentWidget !== notebook) {
                    if (notebook) jupyterapp.shell.activateById(notebook.id);  // another tab has come to the front
                    return false;
                }
                return notebook.context.sessionContext.session?.kernel?.status == "idle";
            }""",
            arg=path,
        )

    def execute(self, command: str, **arguments: str) -> None:
        """Execute a command of JupyterLab's to its end, as its menus do; a dialog of Kale's cannot come in between."""
        call = "async ([name, options]) => { await jupyterapp.commands.execute(name, options); }"
        self.page.evaluate(call, [command, arguments])

    def run_all(self) -> None:
        """Run all cells, wait until none waits any more, and save the notebook."""
        self.execute("runmenu:run-all")
        self.execute("docmanager:save")

    def close(self, path: str) -> None:
        """Close the notebook and end its kernel."""
        self.page.evaluate(
            """async () => {
                const notebook = jupyterapp.shell.currentWidget;
                await notebook.context.sessionContext.shutdown();
                notebook.dispose();
            }"""
        )
        self.tab(path).wait_for(state="detached")

    def tab(self, path: str) -> Any:
        return self.page.locator("#jp-main-dock-panel .lm-TabBar-tab").filter(has_text=Path(path).name)

    def notebook(self, path: str) -> nbformat.NotebookNode:
        return nbformat.read(self.workspace / path, as_version=4)


@pytest.fixture(scope="module")
def server(smoke_run, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """The image's command on its copy of the notebooks, with study `smoke` as their parameter: address and folder.

    The folder of the run has the trainings of that which all tests share, so that notebooks find them done.
    """
    home = tmp_path_factory.mktemp("home")
    # The tests give JupyterLab its commands by name.
    (home / ".jupyter").mkdir()
    (home / ".jupyter" / "jupyter_lab_config.json").write_text(json.dumps({"LabApp": {"expose_app_in_browser": True}}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(home),
        "NB_PREFIX": PREFIX,
        "JETCORR_TRITON_ENV": str(project_root() / ".venv-triton"),
        "JUPYTER_IP": "127.0.0.1",  # there is no gateway here that lets only the owner through
        "JUPYTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "KF_PIPELINES_ENDPOINT": "http://127.0.0.1:9",  # refused at once; to look for a name can take a minute
    }
    url = f"http://127.0.0.1:{port}{PREFIX}"
    with open(home / "server.log", "w") as log:
        command = project_root() / "pipelines" / "image" / "notebook-server"
        server = subprocess.Popen([command], env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(f"{url}/api/status", server, home / "server.log")
        workspace = home / "jetcorr"
        for name in (notebook.name for notebook in NOTEBOOKS.values()):
            _set_parameters(workspace / "notebooks" / f"{name}.ipynb")
        run = workspace / "results" / "smoke"
        for name in ("model", "tuning", "notebooks"):
            shutil.copytree(smoke_run.folder.path / name, run / name)
        yield url, workspace
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


@pytest.fixture(scope="module")
def lab(server, page) -> Lab:
    """One page for all tests, as a physicist has it, on the notebook that is tagged for Kale."""
    url, workspace = server
    # Kale says in a dialog that it finds no Kubeflow Pipelines here; whenever it does, a user closes it.
    page.add_init_script(
        """setInterval(() => {
            for (const dialog of document.querySelectorAll(".jp-Dialog")) {
                if (dialog.textContent.includes("kale.log")) dialog.querySelector("button").click();
            }
        }, 100)"""
    )
    lab = Lab(page, workspace, f"{url}/lab/tree/pipelines/{NOTEBOOK.name}?reset")
    lab.load()
    return lab


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            if server.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the notebook server does not answer:\n{log.read_text()}") from None
            time.sleep(0.2)


def _set_parameters(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    assert cell.source.count("quick") == 2
    cell.source = cell.source.replace("quick", "smoke")
    nbformat.write(notebook, path)


def _press(button, shown) -> None:
    """Press until something shows: Kale can drop a press while it still asks for its server; a user presses again."""
    from playwright.sync_api import TimeoutError as NotShown

    for last in (False, False, False, False, True):
        button.click()
        try:
            return shown.wait_for(timeout=20_000)
        except NotShown:
            if last:
                raise


def _figures(page) -> int:
    """How many pictures stand on the page, all of them rendered."""
    sizes = page.evaluate(
        "shown => [...document.querySelectorAll(`${shown} .jp-OutputArea-output img`)].map(p => p.naturalWidth)", SHOWN
    )
    assert all(size > 100 for size in sizes)
    return len(sizes)


def _turn_the_pages_of_the_display(page) -> None:
    """Another jet by the slider, another bin by the list: each time another picture."""
    display = page.locator(f"{SHOWN} .jp-OutputArea-output .widget-vbox").filter(has=page.locator("select"))
    cloud = display.locator("img")
    first = cloud.get_attribute("src")
    display.get_by_role("slider").press("PageUp")
    page.wait_for_function("([image, old]) => image.src != old", arg=[cloud.element_handle(), first])
    second = cloud.get_attribute("src")
    display.locator("select").select_option(index=1)
    page.wait_for_function("([image, old]) => image.src != old", arg=[cloud.element_handle(), second])


@pytest.mark.parametrize("number", RUN_HERE)
def test_a_notebook_runs_without_an_error(number, lab, keep_picture):
    path = f"notebooks/{NOTEBOOKS[number].name}.ipynb"
    lab.open(path)
    lab.run_all()
    code = [cell for cell in lab.notebook(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert (lab.workspace / "results" / "smoke" / "metrics" / f"{number}.json").is_file()
    _is_shown_whole(lab, path, number, keep_picture)
    if number == "01":
        _turn_the_pages_of_the_display(lab.page)
        keep_picture(lab.page, "jupyterlab_display")
    lab.close(path)


@pytest.mark.parametrize("number", [number for number in NOTEBOOKS if number not in RUN_HERE])
def test_a_notebook_of_the_batch_run_is_shown_whole(number, lab, keep_picture):
    path = f"results/smoke/notebooks/{NOTEBOOKS[number].name}.ipynb"
    lab.open(path)
    _is_shown_whole(lab, path, number, keep_picture)
    lab.close(path)


def _is_shown_whole(lab: Lab, path: str, number: str, keep_picture) -> None:
    """No cell has an error, and all pictures are on the page."""
    outputs = [output for cell in lab.notebook(path).cells for output in cell.get("outputs", [])]
    assert [output.evalue for output in outputs if output.output_type == "error"] == []
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    lab.page.wait_for_function(
        "([shown, count]) => document.querySelectorAll(`${shown} .jp-OutputArea-output img`).length >= count",
        arg=[SHOWN, len(pictures)],
    )
    assert _figures(lab.page) >= len(pictures)
    if number in SHOWN_IN_THE_GUIDE:
        figure = lab.page.locator(f"{SHOWN} .jp-OutputArea-output img").nth(SHOWN_IN_THE_GUIDE[number])
        _scroll_to(figure)
        keep_picture(lab.page, f"jupyterlab_{number}")


def _scroll_to(figure) -> None:
    """Have a figure on the screen, and stay there: cells above it get their height when they come into view."""
    for _ in range(30):
        figure.scroll_into_view_if_needed()
        before = figure.bounding_box()
        figure.page.wait_for_timeout(500)
        if figure.bounding_box() == before and 0 < before["y"] < figure.page.viewport_size["height"] / 2:
            return
        figure.evaluate("figure => figure.scrollIntoView()")
    raise AssertionError(f"the figure does not stay on the screen: {before}")


def test_kales_panel_shows_the_steps_and_compiles_the_committed_pipeline(lab, keep_picture, tmp_path, monkeypatch):
    from kale.common import kfputils

    lab.load()
    page, panel = lab.page, lab.page.locator("#jp-left-stack")
    page.locator(".jp-SideBar.jp-mod-left li[data-id*=kubeflow]").click()
    panel.locator("input[type=checkbox]").first.click()
    steps = [notebook.title for notebook in NOTEBOOKS.values()]
    for step in steps:
        page.locator(SHOWN).get_by_text(step, exact=True).first.wait_for()
    keep_picture(page, "kale_panel")
    panel.get_by_text("KFP is not reachable").wait_for()
    lab.execute("docmanager:save")  # or Kale asks in a dialog
    button = page.locator(f"{SHOWN} .jp-Toolbar [data-jp-item-name=kaleCompile] jp-button[aria-disabled=false]")
    save = page.locator(".jp-Dialog").get_by_role("button", name="Yes")
    compiling = panel.get_by_text("Compiling notebook")
    _press(button, save.or_(compiling).first)
    if save.is_visible():  # Kale asks where the notebook has changes that JupyterLab has not saved yet
        save.click()
    compiling.wait_for()
    panel.get_by_text("Done").nth(1).wait_for()
    # What makes Kale's code ours (see jetcorr_utils.kubeflow.pipeline) makes the committed file of it.
    monkeypatch.chdir(tmp_path)
    code = (lab.workspace / ".kale" / "jetcorr.kale.py").read_text()
    Path("jetcorr.kale.py").write_text(_adapt(code, steps, 0))
    assert Path(kfputils.compile_pipeline("jetcorr.kale.py", "jetcorr")).read_bytes() == PIPELINE.read_bytes()

"""Notebook 02 in JupyterLab: a training that is stopped by the button says so in a line, and goes on where it was."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from jetcorr_utils.config import load_study, project_root
from jetcorr_utils.data import record_files
from jetcorr_utils.looks import COLOURS
from jetcorr_utils.notebooks import NOTEBOOKS
from jetcorr_utils.run import RunFolder
from tests.browser.test_make_lab import answers, recipe
from tests.data.conftest import free_port
from tests.waiting import wait_for

pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
pytestmark = pytest.mark.slow

EPOCHS = 300
STOPPED_AFTER = 120
OUTPUT = ".jp-NotebookPanel .jp-OutputArea-output"
LAST_BAR = """least => [...document.querySelectorAll(".jp-OutputArea-output .widget-html")].some(bar => {
    const found = bar.textContent.match(/(\\d+)\\/%d\\s/);
    return found && Number(found[1]) >= least;
})""".replace("%d", str(EPOCHS))
STUDY = f"""
data: {{files: [{project_root()}/data/sample/jets.root], directory: data}}
models:
  pfn:
    {{architecture: pfn, conv_dim: 32, fc_dim: 32, training: {{epochs: {EPOCHS}, patience: {EPOCHS}, batch_size: 200}}}}
tuning: {{space: {{conv_layers: {{min: 1, max: 2}}}}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with notebook 02 up to its training, whose run has been given its data."""
    folder = tmp_path_factory.mktemp("lab")
    study = folder / "study.yaml"
    study.write_text(STUDY.replace("directory: data", f"directory: {folder / 'data'}"), encoding="utf-8")
    run = RunFolder(folder / "run")
    record_files(load_study(study).data.files, run.data)
    notebook = nbformat.read(NOTEBOOKS["02"].path, as_version=4)
    last = next(n for n, cell in enumerate(notebook.cells) if "train_on(" in cell.source and cell.cell_type == "code"
                and "import" not in cell.source)  # fmt: skip
    notebook.cells = [cell for cell in notebook.cells[: last + 1] if "find_learning_rate(" not in cell.source]
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source = parameters.source.replace('"quick"', repr(str(study))).replace(
        '"../results/quick"', repr(str(run.path))
    )
    nbformat.write(notebook, folder / "training.ipynb")
    return folder


@pytest.fixture(scope="module")
def url(folder, tmp_path_factory) -> Iterator[str]:
    """JupyterLab as `make lab` starts it, in that folder."""
    home, port = tmp_path_factory.mktemp("home"), free_port()
    command = [part for part in recipe() if not part.startswith("--ServerApp.root_dir")]
    more = ["--no-browser", f"--port={port}", "--IdentityProvider.token=", "--allow-root", "--expose-app-in-browser"]
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    with open(home / "server.log", "w") as log:
        server = subprocess.Popen(
            [*command, *more, f"--ServerApp.root_dir={folder}"], cwd=project_root(), stdout=log, stderr=log,
            env=environment | {"HOME": str(home), "OMP_NUM_THREADS": "1"}, start_new_session=True,
        )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{address}/api/status") or server.poll() is not None, 300)
        assert server.poll() is None, (home / "server.log").read_text()
        yield f"{address}/lab/tree/training.ipynb"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def _run_all(page) -> None:
    """As by the menu, without waiting for the end."""
    page.evaluate("() => { jupyterapp.commands.execute('runmenu:run-all'); }")


def _curve(page) -> tuple[float, float]:
    """Where the curve of the validation begins and ends in the figure that is shown, as shares of its width."""
    source = page.locator(f"{OUTPUT} img").last.get_attribute("src")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2]))).convert("RGB"), int)
    colour = [int(COLOURS[1][place : place + 2], 16) for place in (1, 3, 5)]
    columns = np.flatnonzero((np.abs(pixels - colour).sum(axis=2) < 30).any(axis=0)) / pixels.shape[1]
    columns = columns[columns < 0.7]  # the legend stands to the right
    return columns[0], columns[-1]


def test_a_training_is_stopped_and_goes_on_with_its_history(url, folder, page, keep_picture):
    page.goto(url)
    page.wait_for_function(  # before, JupyterLab would ask which kernel to start
        "() => window.jupyterapp?.shell.currentWidget?.context?.sessionContext.session?.kernel?.status == 'idle'"
    )
    _run_all(page)
    page.wait_for_function(LAST_BAR, arg=STOPPED_AFTER, timeout=600_000)
    page.locator(f"{OUTPUT} img").last.wait_for()
    page.evaluate("() => { jupyterapp.commands.execute('kernelmenu:interrupt'); }")

    said = page.locator(f"{OUTPUT}[data-mime-type='application/vnd.jupyter.stderr'], {OUTPUT} pre").filter(
        has_text="run this again to go on"
    )
    said.last.wait_for()
    found = re.search(rf"Stopped: stopped: pfn after epoch (\d+) of {EPOCHS}; run this again to go on",
                      said.last.inner_text())  # fmt: skip
    assert found
    assert int(found[1]) >= STOPPED_AFTER - 1  # an epoch counts when it is written
    visible = "\n".join(output.inner_text() for output in page.locator(OUTPUT).all())
    assert "Traceback" not in visible  # it is behind a click
    assert page.locator(f"{OUTPUT} details").count() == 1
    keep_picture(page, "jupyterlab_stopped")

    _run_all(page)
    said.last.wait_for(state="detached")
    page.wait_for_function(LAST_BAR, arg=int(found[1]))
    page.locator(f"{OUTPUT} img").last.wait_for()
    assert not (folder / "run" / "model" / "pfn" / "result.json").exists(), "the training has ended already"
    begin, end = _curve(page)
    assert begin < 0.25
    assert end > 0.35, "the first figure lacks the epochs before the stop"
    keep_picture(page, "jupyterlab_resumed")

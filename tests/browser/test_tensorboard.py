"""TensorBoard on a run's logs in S3, started as on a cluster: what it shows in a browser."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from jetcorr_utils.kubeflow.pipeline import S3_KEYS
from tests.data.conftest import fill_bucket, free_port, s3_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def logs(smoke_run, tmp_path_factory) -> Iterator[tuple[str, dict[str, str]]]:
    """The executed study's logs in an S3 server that checks signatures: their folder, and what the secret holds."""
    root = smoke_run.folder.path
    objects = {str(path.relative_to(root)): path.read_bytes() for path in (root / "tensorboard").rglob("*events*")}
    server = s3_server(tmp_path_factory.mktemp("s3") / "server.log", len(objects))
    try:
        secret = fill_bucket(server, objects)
        assert secret.keys() == set(S3_KEYS)
        yield "s3://jets/tensorboard", secret
    finally:
        server.kill()


@pytest.fixture(scope="module")
def board(logs, tmp_path_factory) -> Iterator[str]:
    """TensorBoard with the arguments of Kubeflow's controller, and no environment but the secret's keys."""
    folder, secret = logs
    home, port = tmp_path_factory.mktemp("home"), free_port()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)} | secret
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={folder}", "--bind_all", f"--port={port}"]
    with open(home / "server.log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield _when_loaded(f"http://127.0.0.1:{port}", process, home / "server.log")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _when_loaded(url: str, process: subprocess.Popen, log: Path) -> str:
    """The address once TensorBoard has read the logs of all trials."""
    end = time.monotonic() + 180
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/data/runs", timeout=30) as answer:
                if b'/002"' in answer.read():
                    return url
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.5)
    raise AssertionError(f"TensorBoard does not show the trials:\n{log.read_text()[-3000:]}")


def test_scalars_are_drawn(board, page, keep_picture):
    page.goto(f"{board}/?darkMode=false#scalars")
    page.locator("paper-input.filter-input, tf-tag-filterer input").first.fill("validation/mae")
    chart = page.locator("tf-scalar-card").filter(has_text="validation/mae").first
    chart.locator("vz-line-chart2 path").first.wait_for(state="attached")
    for run in ("pfn", "tuning/000", "tuning/001", "tuning/002"):
        page.locator("tf-runs-selector").get_by_text(run, exact=True).wait_for()
    keep_picture(page, "tensorboard_scalars")


def test_histograms_are_drawn(board, page, keep_picture):
    page.goto(f"{board}/?darkMode=false#histograms")
    page.reload()
    page.locator("vz-histogram-timeseries path").first.wait_for(state="attached")
    keep_picture(page, "tensorboard_histograms")


def test_hparams_compare_the_trials(board, page, keep_picture):
    page.goto(f"{board}/?darkMode=false#hparams")
    page.reload()
    cells = page.locator("tf-hparams-table-view vaadin-grid-cell-content")
    for text in ("tuning/000", "tuning/001", "tuning/002", "conv_dim", "trial/mae", "complete"):
        cells.get_by_text(text, exact=True).first.wait_for()
    keep_picture(page, "tensorboard_hparams")

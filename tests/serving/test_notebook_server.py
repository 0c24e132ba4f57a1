"""The server dies while notebook 05 uses it: a clear error, and nothing is left behind."""

from __future__ import annotations

import shutil
import subprocess
import sys

import psutil
import pytest

from jetcorr_utils.run import RunFolder
from jetcorr_utils.serving import server_available
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(server_available() is not None, reason=f"no local Triton server: {server_available()}"),
]


def _processes(text: str) -> list[psutil.Process]:
    """Processes whose command line has `text`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if text in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


def test_a_server_killed_while_notebook_05_runs(smoke_run, tmp_path):
    folder = RunFolder(shutil.copytree(smoke_run.folder.path, tmp_path / "run"))
    arguments = [folder.path if argument == smoke_run.folder.path else argument for argument in smoke_run.arguments]
    long = ["--from", "05", "--force", "-p", "serving.seconds_per_batch_size", "60"]
    command = [sys.executable, "-m", "jetcorr_utils.cli", *map(str, arguments), *long]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        started = psutil.Process(run.pid)
        servers = wait_for(
            lambda: [p for p in started.children(recursive=True) if p.name().startswith("tritonserver")], seconds=120
        )
        # The predictions are written before the speed is measured: from then on requests are always under way.
        written = folder.predictions.stat().st_mtime_ns
        wait_for(lambda: folder.predictions.stat().st_mtime_ns != written, seconds=120)
        servers[0].kill()
        _, error = run.communicate(timeout=180)
    assert run.returncode == 1
    message = "\n".join(error.strip().splitlines()[-2:])
    assert "05_triton_query stopped" in message
    assert "Triton server" in message
    assert "triton.log" in message
    wait_for(lambda: not _processes(str(folder.path)) and not servers[0].is_running(), seconds=30)

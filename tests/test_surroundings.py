"""The user's own environment: what is set there for other programs neither stops nor shapes what jetcorr makes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
import zmq.asyncio

from jetcorr_utils.environment import for_kernels, socket_parent
from jetcorr_utils.errors import InputError, TrainingError
from jetcorr_utils.own_kernel import own_kernel
from jetcorr_utils.processes import server_context
from jetcorr_utils.style import save_figure, styled, subplots
from jetcorr_utils.training import process_group

KERNEL = """
import sys
import papermill
from jetcorr_utils.own_kernel import own_kernel
with own_kernel() as options:
    papermill.execute_notebook(sys.argv[1], sys.argv[2], cwd=sys.argv[3], progress_bar=False, **options)
"""
CELL = """
import json, os, sys, warnings
import matplotlib
warnings.warn("not an error")
print(json.dumps([sys.executable, matplotlib.rcParams["text.usetex"], matplotlib.get_backend(), sys.path]))
"""


@pytest.fixture
def hostile(tmp_path):
    """Settings of a user that would stop or change a kernel, each in its own way."""
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    kernel = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    for folder in (startup, kernel.parent, tmp_path / "mpl", tmp_path / ("l" * 100)):
        folder.mkdir(parents=True)
    (startup / "00.py").write_text("import os; os._exit(3)")
    (startup.parent / "ipython_kernel_config.py").write_text("raise SystemExit(4)")
    (tmp_path / "startup.py").write_text("import os; os._exit(5)")
    (tmp_path / "mpl" / "matplotlibrc").write_text("text.usetex: True\nbackend: TkAgg\n")
    kernel.write_text(json.dumps({"argv": ["/bin/false"], "display_name": "other", "language": "python"}))
    return os.environ | {
        "IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_PATH": str(tmp_path / "jupyter"), "MPLBACKEND": "TkAgg",
        "MPLCONFIGDIR": str(tmp_path / "mpl"), "MATPLOTLIBRC": str(tmp_path / "mpl" / "matplotlibrc"),
        "PYTHONSTARTUP": str(tmp_path / "startup.py"), "PYTHONWARNINGS": "error", "TMPDIR": str(tmp_path / ("l" * 100)),
        "OMP_NUM_THREADS": "0", "JUPYTER_CONFIG_DIR": str(tmp_path / "none"), "JUPYTER_RUNTIME_DIR": "/proc/none",
    }  # fmt: skip


@pytest.mark.slow
def test_the_kernel_of_a_batch_run_is_this_interpreter_whatever_the_user_has_set(hostile, tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    notebook.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "other"}}
    paths = [tmp_path / "in.ipynb", tmp_path / "out.ipynb"]
    nbformat.write(notebook, paths[0])
    command = [sys.executable, "-W", "ignore", "-c", KERNEL, *map(str, paths), str(tmp_path)]
    given = hostile | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), "relative"])}
    subprocess.run(command, env=given, check=True, timeout=120, cwd=tmp_path)
    (output,) = [o for o in nbformat.read(paths[1], as_version=4).cells[-1].outputs if o.get("name") == "stdout"]
    interpreter, usetex, backend, search_path = json.loads(output["text"])
    assert (interpreter, usetex) == (sys.executable, False)
    assert "inline" in backend
    assert str(tmp_path / "relative") in search_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [("MPLBACKEND", "no-backend"), ("MATPLOTLIBRC", "broken"), ("PYTHONWARNINGS", "error"), ("NUMBA_NUM_THREADS", "0")],
)
def test_commands_do_not_depend_on_the_users_settings(tmp_path, name, value, sample):
    if value == "broken":
        value = tmp_path / "matplotlibrc"
        value.write_bytes(b"text.usetex: \xff\xfe\n")
    code = "from jetcorr_utils.cli import main; import sys; main(sys.argv[1:], standalone_mode=False)\n"
    code += "import jetcorr_utils.physics, jetcorr_utils.models"
    result = subprocess.run(
        [sys.executable, "-c", code, "info", str(sample)], env=os.environ | {name: str(value)}, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("\n") == (1 if name == "NUMBA_NUM_THREADS" else 0)


@pytest.mark.slow
def test_commands_find_the_kernel_and_the_templates_of_their_own_environment(hostile, tmp_path, sample):
    (tmp_path / "jupyter" / "nbconvert" / "templates" / "lab").mkdir(parents=True)
    code = "from jetcorr_utils.cli import main; import sys; main(sys.argv[1:], standalone_mode=False)\n"
    code += "from jupyter_client.kernelspec import get_kernel_spec; from jupyter_core.paths import jupyter_path\n"
    code += "print(get_kernel_spec('python3').argv, jupyter_path()[0], sys.prefix, sep='\\n')"
    command = [sys.executable, "-c", code, "info", str(sample)]
    lines = subprocess.run(command, env=hostile, capture_output=True, text=True, timeout=120, check=True).stdout
    argv, first, prefix = lines.splitlines()[-3:]
    assert "/bin/false" not in argv
    assert first.startswith(prefix)


def test_figures_do_not_follow_the_users_matplotlibrc(tmp_path):
    @styled
    def draw():
        figure, ax = subplots()
        ax.plot([0, 1], [1, 2], label=r"$p_\mathrm{T}$ 50 %")
        ax.legend()
        return figure

    plain = [path.read_bytes() for path in save_figure(draw(), tmp_path, "plain")]
    theirs = {"text.usetex": True, "savefig.transparent": True, "lines.linewidth": 9, "font.family": "cursive",
              "axes.facecolor": "red", "savefig.bbox": "tight", "pdf.fonttype": 3}  # fmt: skip
    with plt.rc_context(theirs):
        assert [path.read_bytes() for path in save_figure(draw(), tmp_path, "theirs")] == plain


def _long_folder(tmp_path: Path) -> Path:
    folder = tmp_path / ("l" * 100)
    folder.mkdir()
    return folder


def test_sockets_lie_elsewhere_if_the_path_of_tmpdir_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert socket_parent("s") == tmp_path
    monkeypatch.setattr(tempfile, "tempdir", str(_long_folder(tmp_path)))
    assert str(socket_parent("s")) in ("/tmp", "/var/tmp")
    assert socket_parent("s" * 200) is None


def test_a_kernel_of_a_batch_run_talks_over_sockets_in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with own_kernel() as options:
        manager = options["kernel_manager_class"](config=options["config"])
        assert manager.transport == "ipc"
        (folder,) = tmp_path.iterdir()
        assert Path(manager.ip).parent == folder
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_processes_start_also_with_a_long_tmpdir(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(_long_folder(tmp_path)))
    process = server_context("json").Process(target=len, args=("a",))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_a_kernel_has_no_startup_files_and_the_rest_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONSTARTUP", "x.py")
    monkeypatch.setenv("JETCORR_OTHER", "kept")
    variables = for_kernels(tmp_path)
    assert "PYTHONSTARTUP" not in variables
    assert variables["JETCORR_OTHER"] == "kept"
    assert variables["IPYTHONDIR"].startswith(str(tmp_path))


@pytest.fixture
def no_torchrun(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("given", [{"WORLD_SIZE": "1"}, {"WORLD_SIZE": ""}, {"RANK": "3"}, {"MASTER_ADDR": "x"}])
def test_a_part_of_torchruns_variables_is_no_distributed_training(given, monkeypatch, no_torchrun):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with process_group() as device:
        assert device in ("cpu", "cuda")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"WORLD_SIZE": "4"}, "without RANK, MASTER_ADDR, MASTER_PORT: start the training with torchrun"),
        ({"WORLD_SIZE": "x"}, "without RANK"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK '2' is not a process of"),
        ({"WORLD_SIZE": "x", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK '0' is not a process of"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "tcp://1"}, "is no port"),
    ],
)
def test_torchruns_variables_that_contradict_each_other_are_named(given, message, monkeypatch, no_torchrun):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message), process_group():
        pass


def test_processes_that_cannot_meet_are_one_line(monkeypatch, no_torchrun):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))
        message = rf"^the processes of this training cannot meet at 127\.0\.0\.1:{port}: [^\n]* in use[^\n]*$"
        with pytest.raises(TrainingError, match=message), process_group():
            pass


def test_where_a_kernel_of_a_batch_run_has_to_use_ports_nobody_else_hears_what_it_says(monkeypatch):
    monkeypatch.setattr("jetcorr_utils.own_kernel.LONGEST_SOCKET", 0)
    with own_kernel() as options:
        manager = options["kernel_manager_class"](kernel_name=options["kernel_name"], config=options["config"])
        asyncio.run(_overheard(manager))


async def _overheard(manager) -> None:
    """Start a kernel, and listen as anybody on the machine can, beside a client that has the kernel's file."""
    assert manager.transport == "tcp"
    await manager.start_kernel()
    client, context = manager.client(), zmq.asyncio.Context()
    stranger = context.socket(zmq.SUB)
    try:
        client.start_channels()
        stranger.subscribe(b"")
        stranger.connect(f"tcp://{manager.ip}:{manager.iopub_port}")
        await client.wait_for_ready(60)
        said = []
        await client.execute_interactive("print('a' + 'b')", timeout=60, output_hook=said.append)
        assert "ab\n" in [message["content"].get("text") for message in said]
        assert await stranger.poll(500) == 0
    finally:
        client.stop_channels()
        context.destroy(0)
        await manager.shutdown_kernel(now=True)

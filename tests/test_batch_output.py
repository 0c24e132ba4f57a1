"""What somebody sees who waits for a batch run, and what Ctrl-C does to it."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from jetcorr_utils.batch import NotebookError, _execute, as_time
from jetcorr_utils.batch_output import ENGINE, ShownRun, section_of, showing
from jetcorr_utils.errors import Stopped, stopping
from jetcorr_utils.files import read_json
from jetcorr_utils.notebooks import Notebook
from jetcorr_utils.own_kernel import own_kernel
from jetcorr_utils.run import RunFolder
from tests.waiting import wait_for

CELLS = [
    nbformat.v4.new_markdown_cell("# 2 · Training\n\nA text."),
    nbformat.v4.new_code_cell("1 + 1"),
    nbformat.v4.new_markdown_cell("More text.\n\n## The networks\n\n# no heading of the next cell"),
    nbformat.v4.new_code_cell(
        "from tqdm.auto import tqdm\nfor _ in tqdm(range(3), desc='pfn', unit='epoch', mininterval=0):\n    pass"
    ),
]


def test_the_section_is_the_heading_above_a_cell():
    cells = [*CELLS[:2], nbformat.v4.new_markdown_cell("text"), nbformat.v4.new_code_cell("2")]
    assert [section_of(cells, index) for index in (1, 3)] == ["2 · Training"] * 2
    assert section_of([nbformat.v4.new_code_cell("3")], 0) == ""


@pytest.mark.parametrize(("seconds", "text"), [(11.6, "12 s"), (200, "3 min 20 s"), (3900, "1 h 5 min")])
def test_times_are_said_as_people_say_them(seconds, text):
    assert as_time(seconds) == text


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_one_line_that_is_wiped_off_and_a_log_has_no_carriage_returns():
    terminal, log = _Terminal(), io.StringIO()
    for stream in (terminal, log):
        shown = ShownRun("02_gnn_training", stream)
        shown.section("Training")
        shown.bar("pfn 1/3")
        shown.close()
    assert "\n" not in terminal.getvalue()
    assert terminal.getvalue().split("\r")[-3].strip() == "02_gnn_training  Training: pfn 1/3"
    assert terminal.getvalue().split("\r")[-2].strip() == ""
    assert log.getvalue() == "  02_gnn_training  Training\n"  # the bar only when half a minute has gone


@pytest.mark.slow
def test_the_sections_and_the_bars_of_a_notebook_are_shown(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=CELLS)
    notebook.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    terminal = _Terminal()
    with own_kernel() as options, showing("02_gnn_training", terminal):
        papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", engine_name=ENGINE, **options)
    text = terminal.getvalue()
    assert "02_gnn_training  2 · Training" in text
    assert "pfn: 100% 3/3" in text
    assert "&lt;" not in text  # the bars of notebooks are HTML
    assert nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].metadata.papermill.status == "completed"


HEARS = """
import pathlib, signal
get_ipython().kernel.post_handler_hook = lambda: signal.signal(
    signal.SIGINT, lambda *_: pathlib.Path("heard").touch()
)
"""


@pytest.mark.slow
def test_a_kernel_that_is_done_is_not_interrupted(tmp_path, monkeypatch):
    """It said so on the terminal, where that came before it had put its own handler back."""
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(HEARS)])
    notebook.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}}
    nbformat.write(notebook, "in.ipynb")
    with own_kernel() as options, showing("02_gnn_training", _Terminal()):
        papermill.execute_notebook("in.ipynb", "out.ipynb", engine_name=ENGINE, **options)
    assert not Path("heard").exists()


ENDS_LATE = """
import threading, time
from ipykernel.iostream import IOPubThread
def late(thread, pipe=IOPubThread._event_pipe.fget, current=threading.current_thread, sleep=time.sleep):
    if current().name == "Control":
        sleep(0.5)
    return pipe(thread)
IOPubThread._event_pipe = property(late)
"""


@pytest.mark.slow
def test_a_kernel_that_ends_while_its_control_thread_speaks_says_nothing_on_the_terminal(tmp_path, capfd):
    """On a busy machine ipykernel closed the socket between that thread's look at it and its word."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ENDS_LATE)])
    notebook.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    with own_kernel() as options, showing("02_gnn_training", _Terminal()):
        papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", engine_name=ENGINE, **options)
    assert capfd.readouterr() == ("", "")


INTERRUPTED = """
import sys
import papermill
from jetcorr_utils.batch_output import ENGINE, showing
from jetcorr_utils.own_kernel import own_kernel
with own_kernel() as options, showing("02") as shown:
    try:
        papermill.execute_notebook("in.ipynb", "out.ipynb", engine_name=ENGINE, **options)
    except papermill.PapermillExecutionError as error:
        print(shown.interrupted, error.ename, error.evalue)
"""
LONG_CELL = """
import pathlib, time
from jetcorr_utils.errors import stopping
with stopping(lambda: "stopped after epoch 7 of 40"):
    pathlib.Path("begun").touch()
    time.sleep(600)
"""


@pytest.mark.slow
def test_ctrl_c_interrupts_the_cell_and_leaves_the_notebook_with_one_line(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LONG_CELL)])
    notebook.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    command = [sys.executable, "-c", INTERRUPTED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as run:
        wait_for(lambda: (tmp_path / "begun").exists() or run.poll() is not None, 300)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=300)
    assert (out, err) == ("True Stopped stopped after epoch 7 of 40; run this again to go on\n", "")
    outputs = nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs
    (folded,), (error,) = (
        [output for output in outputs if output.output_type == kind] for kind in ("display_data", "error")
    )
    assert error.traceback == ["Stopped: stopped after epoch 7 of 40; run this again to go on"]
    assert "<details>" in folded.data["text/html"]
    assert "Traceback (most recent call last)" in folded.data["text/html"]


def test_ctrl_c_within_compiled_code_is_one():
    """What Python makes of it where a function of Numba returns with the interrupt, as seen in a training."""
    words = "CPUDispatcher(<function backward_layer>) returned a result with an exception set"
    with (
        pytest.raises(Stopped, match="stopped after epoch 7; run this again"),
        stopping(lambda: "stopped after epoch 7"),
    ):
        raise SystemError(words) from KeyboardInterrupt()
    with pytest.raises(SystemError), stopping(lambda: "stopped"):
        raise SystemError(words) from ValueError()


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(tmp_path):
    command = [
        sys.executable, "-m", "jetcorr_utils.cli", "run", "--study", "smoke", "--out", str(tmp_path / "run"),
        "-p", "data.directory", str(tmp_path / "data"), "-p", "models.pfn.training.epochs", "400",
        "-p", "models.pfn.training.patience", "400",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        state = tmp_path / "run" / "model" / "pfn" / "state.pt"
        wait_for(lambda: state.exists() or run.poll() is not None, 900)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=300)
    assert run.returncode == 130, err
    assert out.splitlines()[0] == "01_data_exploration: running"
    assert "\r" not in out + err
    assert "  02_gnn_training  Training" in err.splitlines()
    last = err.splitlines()[-1]
    assert last.startswith("jetcorr: stopped in notebook 02_gnn_training (stopped: pfn after epoch ")
    assert last.endswith("01 is finished and kept; the same command goes on from here")
    assert "Traceback" not in err
    assert "ZMQ" not in err
    assert list(read_json(tmp_path / "run" / "run.json")["stages"]) == ["01"]
    kept = nbformat.read(tmp_path / "run" / "notebooks" / "02_gnn_training.ipynb", as_version=4)
    (error,) = [output for cell in kept.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert error.ename == "Stopped"
    assert len(error.traceback) == 1


@pytest.mark.slow
def test_a_kernel_that_is_killed_is_said_and_its_notebook_kept(tmp_path):
    """As by a system that has no memory left."""
    cells = [nbformat.v4.new_code_cell(code) for code in ("print('begun')", "import os; os.kill(os.getpid(), 9)")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}}
    nbformat.write(notebook, tmp_path / "90_killed.ipynb")
    run = RunFolder(tmp_path / "run")
    with pytest.raises(NotebookError, match="notebook 90_killed: its process was killed; is there too little memory"):
        _execute(Notebook("90", "killed", "", (), folder=tmp_path), run, {})
    (output,) = nbformat.read(run.notebooks / "90_killed.ipynb", 4).cells[0].outputs
    assert output.text == "begun\n"

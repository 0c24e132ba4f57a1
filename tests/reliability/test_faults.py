"""A small, seeded part of what `make reliability` does: a kill, a limit of the disk, broken files, damaged models."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import uproot

from jetcorr_utils.correct import correct_files
from jetcorr_utils.files import MARK
from jetcorr_utils.run import RunFolder
from tests.networks import exported
from tests.web import web_server

from .account import look
from .broken import ORIGINALS, broken
from .fuzz import fuzz, small_file
from .kills import killed
from .links import special_files
from .machine import is_root, no_permission
from .outputs import arrays_of, differences, snapshot
from .processes import Sandbox
from .repository import received_repository


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cache", "correct"])
def test_killed_and_run_again(name, tmp_path):
    row = killed(name, 1, 7, Sandbox(tmp_path))
    assert row.tries == 1
    assert row.good, row.problems


@pytest.mark.slow
def test_a_killed_search_of_a_batch_run_keeps_the_record_of_what_it_had_done(smoke_run, tmp_path):
    """The run folder is then that of the undisturbed run, and run.json has the checksums of all of it."""
    sandbox = Sandbox(tmp_path)
    folder = RunFolder(shutil.copytree(smoke_run.folder.path, sandbox.work / "run"))
    shutil.rmtree(folder.tuning)
    arguments = [str(folder.path if part == smoke_run.folder.path else part) for part in smoke_run.arguments]
    command = ["-m", "jetcorr_utils.cli", *arguments]
    process = sandbox.start(command)
    while process.code is None and not (folder.tuning / "001" / "trial.json").exists():
        time.sleep(0.01)
    process.kill()
    last = sandbox.run(command)
    assert last.code == 0, last.output
    assert process.left() == []
    assert differences(snapshot(smoke_run.folder.path), snapshot(folder.path)) == ([], [], [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "changes", "says"),
    [
        ("cache", (), "exit code 0"), ("train", (), "exit code 0"),
        ("train", ("-p", "models.pfn.training.seed", "5"), "exit code 1: jetcorr: …/"),
    ],
)  # fmt: skip
def test_where_nothing_may_be_written_what_is_done_is_found_and_a_training_says_why_it_cannot(
    job, changes, says, tmp_path
):
    """As on a volume that a cluster mounts read-only."""
    row = no_permission(job, 1, Sandbox(tmp_path), *changes)
    assert row.good, row.problems
    assert row.note.startswith(says)


def _limit_size_of_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))


def test_a_file_that_cannot_be_written_is_named_and_the_earlier_one_is_kept(sample, tmp_path):
    """A limit of the size of files stands for a full disk here, which only root can make."""
    out = tmp_path / "out.root"
    correct_files([sample], exported("pfn"), out, progress=False)
    before = arrays_of(out)
    command = [sys.executable, "-W", "ignore", "-m", "jetcorr_utils.cli", "correct", str(sample), "--model",
               str(exported("pfn")), "--force", "--out", str(out)]  # fmt: skip
    result = subprocess.run(command, preexec_fn=_limit_size_of_files, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"jetcorr: {out}: File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert arrays_of(out) == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(MARK)]


LOG_AN_EPOCH = """
import sys
import click
from torch import nn
from jetcorr_utils.cli import Group
from jetcorr_utils.training.records import TensorBoardLog

@click.command()
def train():
    TensorBoardLog(sys.argv[2]).epoch({"epoch": 1, "loss_training": 0.5}, nn.Linear(100, 100))

Group(commands={"train": train})(sys.argv[1:2])
"""


def test_a_full_disk_under_tensorboards_thread_is_one_line(tmp_path):
    log = tmp_path / "tensorboard"
    result = subprocess.run(
        [sys.executable, "-c", LOG_AN_EPOCH, "train", str(log)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)), capture_output=True, text=True,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (1, f"jetcorr: {log}: File too large\n")


@pytest.mark.slow
def test_broken_files_are_read_right_or_refused(tmp_path):
    original = small_file(tmp_path / "jets.root", uproot.ZLIB(4))
    row, states = fuzz("jets", original, 30, 1, tmp_path)
    assert row.wrong == 0, row.problems
    assert states["refused"] > 5


@pytest.mark.parametrize("kind", ORIGINALS)
def test_what_is_broken_is_refused_or_made_anew_or_gives_the_same_numbers(kind, tmp_path):
    row = broken(kind, 8, 1, Sandbox(tmp_path))
    assert row.tries == 8
    assert row.good, row.problems
    assert ("refused" in row.note) == (kind in ("model", "checkpoint"))


@pytest.mark.slow
def test_what_is_no_file_stops_no_command(tmp_path):
    rows = special_files(2, 2, Sandbox(tmp_path))
    assert sum(row.tries for row in rows) == 2
    assert all(row.good for row in rows), [row.problems for row in rows]


@pytest.mark.slow
def test_a_repository_of_somebody_is_refused_or_used_as_any(tmp_path):
    row = received_repository("correct", 2, 1, Sandbox(tmp_path))
    assert row.tries == 2
    assert row.good, row.problems


@pytest.fixture
def open_folder():
    """A folder to which other accounts have a way, other than that of a test."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_another_account_finds_what_is_open(open_folder):
    if not is_root():
        pytest.skip("only root can be somebody else")
    sandbox = Sandbox(open_folder)
    (sandbox.temporary / "note").write_text("for all")
    (sandbox.work / "place").mkdir()
    (sandbox.work / "place").chmod(0o777)
    told = {"temporary": str(sandbox.temporary), "work": str(sandbox.work), "memory": [], "abstract": []}
    with web_server(open_folder / "web") as server, subprocess.Popen(["sleep", "600", "0.0001"]) as talker:
        (open_folder / "web" / "files" / "a").write_text("for all")
        told |= {"ports": [server.port], "requests": [["GET", "/a"]]}
        found = look(told | {"processes": [talker.pid], "secrets": ["1000.0"]})
        talker.kill()
    assert f"reads {sandbox.temporary / 'note'}" in found
    assert f"writes {sandbox.work / 'place'}" in found
    assert "gets 200 for GET /a" in found
    assert "a secret in cmdline" in found

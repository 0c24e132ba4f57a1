"""A small, seeded part of what `make reliability` does: a kill, a limit of the disk, broken files, damaged models."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import uproot

from jetcorr_utils.correct import correct_files
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import MARK
from jetcorr_utils.inference import OnnxPredictor
from jetcorr_utils.run import RunFolder
from jetcorr_utils.training import load_model
from tests.networks import exported, some_clouds

from .fuzz import fuzz_files, small_file
from .kills import killed
from .machine import no_permission
from .outputs import arrays_of, differences, snapshot
from .processes import Sandbox


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
    row, states = fuzz_files(original, 30, 1, tmp_path)
    assert row.wrong == 0, row.problems
    assert states["refused"] > 5


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_checkpoint_is_refused_or_gives_the_same_network(smoke_run, tmp_path, seed):
    good = (smoke_run.folder.model("pfn") / "checkpoint.pt").read_bytes()
    rng = np.random.default_rng(seed)
    data = bytearray(good)
    if seed % 3 == 0:
        data = data[: rng.integers(1, len(good))]
    else:
        data[rng.integers(len(good))] ^= 1 << int(rng.integers(8))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(data)
    try:
        model = load_model(path)
    except InputError as error:
        return _names_file(error, path)
    expected = load_model(smoke_run.folder.model("pfn")).state_dict()
    assert all(np.array_equal(value, expected[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_model_file_is_refused_or_gives_the_same_numbers(tmp_path, seed):
    good = exported("pfn").read_bytes()
    rng = np.random.default_rng(seed)
    data = bytearray(good)
    data[rng.integers(len(good))] ^= 1 << int(rng.integers(8))
    path = tmp_path / "model.onnx"
    path.write_bytes(data[: rng.integers(1, len(good))] if seed % 5 == 0 else data)
    try:
        predictor = OnnxPredictor(path)
    except InputError as error:
        return _names_file(error, path)
    clouds = some_clouds(40)
    with OnnxPredictor(exported("pfn")) as whole, predictor:
        np.testing.assert_array_equal(predictor.predict(clouds), whole.predict(clouds))


def _names_file(error: InputError, path) -> None:
    assert str(path) in str(error)
    assert "\n" not in str(error)

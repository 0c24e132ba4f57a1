"""A run's folder on a volume, written by pods of different users in its group, one after the other."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from jetcorr_utils.cli import main
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import Lock, write_json, write_text
from jetcorr_utils.kubeflow.pipeline_step import run_step
from jetcorr_utils.kubeflow.sharing import share_with_group
from jetcorr_utils.run import RunFolder

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be other users")
GROUP = 100
USERS = {"notebook": (1000, 100), "Kale's step": (65534, 65534), "step": (65534, 100)}


@pytest.fixture
def volume() -> Iterator[Path]:
    """The root of a volume, as storage gives it to a group; a path that every user may walk."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        root = Path(folder) / "volume"
        root.mkdir()
        os.chown(root, 0, GROUP)
        os.chmod(root, 0o2775)
        yield root


def as_user(user: int, group: int, work: Callable[[], object]) -> int:
    """The exit code of a process of this user, in the volume's group as fsGroup puts it there."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        os.umask(0o022)
        os.environ["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
        os.setgroups([GROUP])
        os.setgid(group)
        os.setuid(user)
        share_with_group()
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def work(folder: Path) -> None:
    """What each stage of a run does in its folder: record, replace, lock, make folders."""
    run = RunFolder(folder)
    write_json(run.path / "run.json", {"by": os.getuid()})
    write_text(run.path / "model" / "pfn" / f"{os.getuid()}.txt", "mine")
    with Lock(run.path / "run.lock", "run"):
        (run.path / "model" / "pfn" / "history.csv").open("a").write("a line\n")


@pytest.mark.parametrize(("first", "second"), list(itertools.product(USERS, repeat=2)))
def test_what_one_pod_has_made_another_can_go_on_with(volume, first, second):
    for user in (first, second):
        assert as_user(*USERS[user], lambda: work(volume / "results" / "run")) == 0, f"{second} after {first}"


def test_the_command_line_and_the_steps_share_what_they_make(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    for start in (
        lambda: CliRunner().invoke(main, ["info", "no file"]),
        lambda: run_step("01", "no study", "relative"),  # refused, and yet
    ):
        before = os.umask(0o022)
        try:
            with contextlib.suppress(InputError):
                start()
            assert os.umask(before) == 0o002
        finally:
            os.umask(before)


def test_outside_of_a_cluster_the_umask_stays(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    before = os.umask(0o027)
    try:
        share_with_group()
        assert os.umask(before) == 0o027
    finally:
        os.umask(before)

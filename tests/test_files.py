"""Files are complete or absent."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jetcorr_utils import files
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import (
    LOCK,
    MARK,
    Lock,
    atomic_folder,
    atomic_path,
    checksum,
    fingerprint,
    locked,
    open_own,
    read_json,
    refuse_links,
    remove_leftovers,
    scratch_folder,
    write_json,
    write_text,
)
from tests.conftest import jetcorr
from tests.reliability.links import LINKS, SPECIAL, make_special, plant


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(RuntimeError, match="disk"), atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError("disk")
    assert read_json(path) == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_keeps_the_suffix_and_the_folder(tmp_path):
    with atomic_path(tmp_path / "new" / "figure.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path / "new"


def test_fingerprint_is_sha256(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    assert fingerprint(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    with atomic_folder(tmp_path / "done") as temporary:
        write_text(temporary / "a", "x")
        assert not (tmp_path / "done").exists()
    with pytest.raises(RuntimeError, match="disk"), atomic_folder(tmp_path / "failed"):
        raise RuntimeError("disk")
    assert [path.name for path in tmp_path.rglob("*")] == ["done", "a"]


WRITER = """
import sys
from jetcorr_utils.files import atomic_path, scratch_folder
with atomic_path(sys.argv[1] + "/a.txt") as file, scratch_folder(sys.argv[1]) as folder:
    file.write_text("half")
    (folder / "inside").write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def _hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(MARK)]


def test_what_a_killed_process_leaves_is_removed_by_the_next_and_what_a_living_one_writes_is_not(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        assert len(_hidden(tmp_path)) == 2
        remove_leftovers(tmp_path)
        with scratch_folder(tmp_path):
            write_text(tmp_path / "b.txt", "whole")
        assert len(_hidden(tmp_path)) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(_hidden(tmp_path)) == 2
    write_text(tmp_path / "b.txt", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("content", ['{"stages": ', "[" * 100_000, "1" * 5000])
def test_a_damaged_record_is_named(content, tmp_path):
    path = write_text(tmp_path / "run.json", content)
    with pytest.raises(InputError, match=r"run\.json: damaged"):
        read_json(path)


def test_a_disk_without_room_is_reported_with_the_file_that_does_not_fit(tmp_path):
    for atomic in (atomic_path, atomic_folder):
        with pytest.raises(OSError, match="No space left") as caught, atomic(tmp_path / "a.txt"):
            Path("/dev/full").write_text("x" * 10**6)
        assert caught.value.filename == str(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("make", [scratch_folder, lambda folder: atomic_path(folder / "out.root")])
def test_a_folder_in_which_nothing_can_be_made_is_named_and_no_temporary_name(make):
    with pytest.raises(FileNotFoundError) as error, make(Path("/proc/self")):
        pass
    assert error.value.filename in ("/proc/self", "/proc/self/out.root")


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755), (0, 0o666, 0o777)])
def test_files_folders_and_locks_have_the_mode_of_the_umask(tmp_path, mask, file, folder):
    with _umask(mask):
        write_text(tmp_path / "file", "x")
        with atomic_folder(tmp_path / "folder"), locked(tmp_path, "test"), scratch_folder(tmp_path) as scratch:
            assert _mode(scratch) == 0o700
    assert (_mode(tmp_path / "file"), _mode(tmp_path / LOCK)) == (file, file & ~0o007)
    assert _mode(tmp_path / "folder") == folder


def test_what_a_group_shares_stays_the_groups(tmp_path):
    groups = [group for group in (12345, *os.getgroups()) if group != os.getegid()]
    if os.geteuid() == 0 or (groups := groups[1:]):
        os.chown(tmp_path, -1, groups[0])
    tmp_path.chmod(0o2775)
    with _umask(0o002):
        with atomic_folder(tmp_path / "cache" / "key") as temporary:
            write_text(temporary / "file", "x")
        with locked(tmp_path / "cache", "test"):
            pass
    found = sorted(tmp_path.rglob("*"))
    assert len(found) == 4
    assert {path.stat().st_gid for path in found} == {tmp_path.stat().st_gid}
    expected = [0o2775 if path.is_dir() else 0o660 if path.name == LOCK else 0o664 for path in found]
    assert [_mode(path) for path in found] == expected


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_named_like_our_temporary_files_and_is_no_file_stops_nobody(tmp_path, kind):
    make_special(kind, tmp_path / f"{MARK}x")
    write_text(tmp_path / "a.txt", "whole")
    with scratch_folder(tmp_path), atomic_folder(tmp_path / "done"):
        pass
    assert read_json(write_json(tmp_path / "b.json", 1)) == 1
    assert os.path.lexists(tmp_path / f"{MARK}x") == (kind != "folder")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", SPECIAL)
def test_a_lock_that_is_no_file_is_refused_and_named(tmp_path, kind):
    make_special(kind, tmp_path / LOCK)
    with pytest.raises(InputError, match=r"\.lock: is no regular file"), locked(tmp_path, "test"):
        pass


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["pipe", "socket", "link to itself", "link to a pipe", "folder"])
def test_a_record_that_is_no_file_is_refused_and_named(tmp_path, kind):
    make_special(kind, tmp_path / "run.json")
    for read in (read_json, checksum, fingerprint):
        with pytest.raises(InputError, match=r"run\.json: "):
            read(tmp_path / "run.json")


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a pipe", "folder"])
def test_an_output_never_takes_the_place_of_what_is_no_file(tmp_path, kind):
    """As root, `--out /dev/null` would replace it."""
    make_special(kind, tmp_path / "out")
    with pytest.raises(InputError, match="out: is a"):
        write_text(tmp_path / "out", "x")


HOLDER = """
import sys
from jetcorr_utils.files import locked
with locked(sys.argv[1], "training"):
    print("holding", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[subprocess.Popen]:
    """The folder locked by another process."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout.readline() == "holding\n"
        yield process
        process.kill()


@pytest.mark.timeout(60)
def test_a_lock_that_is_a_hard_link_to_another_file_leaves_that_as_it_is(tmp_path):
    """The holder writes who it is in the lock, and empties it in the end."""
    (tmp_path / "mine").write_text("precious")
    (tmp_path / ".lock").hardlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match=r"\.lock: is a hard link"), locked(tmp_path, "test"):
        pass
    assert (tmp_path / "mine").read_text() == "precious"


def test_whoever_waits_at_a_lock_says_for_whom_and_goes_on_when_the_holder_is_killed(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    with _held(tmp_path) as holder:
        waiting = threading.Thread(target=Lock(tmp_path / LOCK, "training").acquire)
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
        holder.send_signal(signal.SIGKILL)
        waiting.join()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == (
        f"waiting at {tmp_path / LOCK} for the training that is at work there: "
        f"process {holder.pid} on {socket.gethostname()}"
    )


def test_whoever_does_not_wait_is_told_who_holds_the_lock(tmp_path):
    with (
        _held(tmp_path) as holder,
        pytest.raises(InputError, match=rf"another training is at work here \(process {holder.pid} on "),
        locked(tmp_path, "training", wait=False),
    ):
        pass


def test_a_lock_whose_folder_was_removed_while_it_was_waited_for_is_no_lock(tmp_path):
    folder = tmp_path / "folder"
    with _held(folder):
        lock = Lock(folder / LOCK, "training")
        waiting = threading.Thread(target=lock.acquire)
        waiting.start()
        waiting.join(0.3)
        shutil.rmtree(folder)
        folder.mkdir()
    waiting.join(10)
    assert lock.real
    with pytest.raises(InputError, match="another training"), locked(folder, "training", wait=False):
        pass
    lock.release()


NO_LOCKS = """
#include <errno.h>
#include <stdlib.h>
int flock(int file, int operation) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }
"""
WITHOUT_LOCKS = """
import sys
from pathlib import Path
from jetcorr_utils.files import Lock, atomic_folder, has_locks, locked, scratch_folder, write_json
folder = Path(sys.argv[1])
for _ in range(2):
    with locked(folder, "training", wait=False), locked(folder / "other", "download"):
        write_json(folder / "a.json", 1)
with atomic_folder(folder / "cache"), scratch_folder(folder):
    pass
with Lock(folder / "x.lock", "trial") as lock:
    print(has_locks(folder), lock.real, sorted(path.name for path in folder.iterdir()))
"""


@pytest.fixture(scope="session")
def no_locks(tmp_path_factory) -> Path:
    """A library to be preloaded, with which no file system has locks."""
    if shutil.which("gcc") is None:
        pytest.skip("no compiler here")
    folder = tmp_path_factory.mktemp("no_locks")
    write_text(folder / "flock.c", NO_LOCKS)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "flock.so", folder / "flock.c"], check=True)
    return folder / "flock.so"


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP", "EIO", "ENOSYS"])
def test_a_file_system_without_locks_is_said_once_and_work_goes_on(tmp_path, no_locks, name):
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCKS, str(tmp_path)], capture_output=True, text=True, encoding="utf-8",
        env=os.environ | {"LD_PRELOAD": str(no_locks), "FLOCK_ERRNO": str(getattr(errno, name))}, timeout=60,
    )  # fmt: skip
    assert result.stdout == "False False ['.lock', 'a.json', 'cache', 'other', 'x.lock']\n", result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{tmp_path}: its file system has no locks (")


@pytest.mark.timeout(60)
def test_the_lock_of_a_job_that_was_killed_on_another_machine_blocks_nobody(tmp_path):
    """The file stays, with the name of its holder; only the kernel's lock counts."""
    (tmp_path / LOCK).write_text("process 1 on elsewhere\n", encoding="utf-8")
    with locked(tmp_path, "training", wait=False):
        assert (tmp_path / LOCK).read_text(encoding="utf-8").startswith(f"process {os.getpid()} on ")


WHERE_NOTHING_MAY_BE_WRITTEN = """
import sys
from jetcorr_utils.files import locked, remove_leftovers, write_text
remove_leftovers(sys.argv[1])
with locked(sys.argv[1], "reading"):
    print("reading")
try:
    write_text(sys.argv[1] + "/a", "x")
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("lock", [False, True])
def test_an_ordinary_user_reads_where_only_others_may_write(lock):
    """As on a cluster's shared cache."""
    command = [sys.executable, "-c", WHERE_NOTHING_MAY_BE_WRITTEN]
    prefix = ["unshare", "--user", "--map-user=12345", "--map-group=0"]
    if os.geteuid() == 0:
        if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
            pytest.skip("no user namespaces here")
        command = [*prefix, *command]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{MARK}left").touch(0o444)
        if lock:
            (Path(folder) / LOCK).touch(0o444)
        os.chmod(folder, 0o555)
        try:
            result = subprocess.run([*command, folder], capture_output=True, text=True, encoding="utf-8")
        finally:
            os.chmod(folder, 0o755)
    assert (result.stdout, result.stderr) == ("reading\nPermission denied\n", "")


@pytest.mark.slow
def test_a_search_without_locks_ends_with_every_trial_done_once(tmp_path, no_locks):
    """It takes one process, since several could draw the same trial."""
    result = jetcorr(
        "tune", "--study", "smoke", "--out", tmp_path / "run", "-p", "data.directory", tmp_path / "data",
        "-p", "tuning.workers", 2, "-p", "tuning.trials", 3, "-p", "tuning.epochs", 1,
        env=os.environ | {"LD_PRELOAD": str(no_locks), "FLOCK_ERRNO": "38"},
    )  # fmt: skip
    assert result.stderr.count("has no locks") == 1
    trials = [read_json(path) for path in sorted((tmp_path / "run" / "tuning").glob("*/trial.json"))]
    assert [trial["state"] for trial in trials] == ["complete"] * 3


@pytest.mark.parametrize("name", ["x" * 251 + ".txt", "é" * 125 + ".txt"])
def test_a_name_that_the_file_system_takes_is_not_made_too_long(tmp_path, name):
    assert write_text(tmp_path / name, "x").read_text(encoding="utf-8") == "x"


def test_what_another_account_has_put_there_is_left_alone(tmp_path):
    """A folder nested so deep that looking into it fails."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    code = "import os\nos.mkdir('.jetcorr-x')\nos.chdir('.jetcorr-x')\n"
    code += "for _ in range(1500):\n os.mkdir('d')\n os.chdir('d')"
    tmp_path.chmod(0o777)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    os.lchown(tmp_path / ".jetcorr-x", 65534, 65534)
    try:
        with scratch_folder(tmp_path) as folder:
            assert folder.is_dir()
        assert (tmp_path / ".jetcorr-x").is_dir()
    finally:
        subprocess.run(["rm", "-rf", tmp_path / ".jetcorr-x"], check=True)


def test_others_cannot_hold_a_lock(tmp_path):
    with locked(tmp_path, "test"):
        assert not stat.S_IMODE((tmp_path / ".lock").stat().st_mode) & 0o007


@pytest.fixture
def victim(tmp_path):
    """A file that somebody wants to have written over."""
    path = tmp_path / "victim"
    path.write_text("of another", encoding="utf-8")
    return path


@pytest.mark.parametrize("mode", ["ab", "a", "rb+"])
@pytest.mark.parametrize("kind", LINKS)
def test_a_file_with_a_fixed_name_is_not_written_through_a_link(kind, mode, victim, tmp_path):
    plant(kind, tmp_path / "log", victim)
    with pytest.raises(InputError, match=r"log: is a link.* will not be written to; remove it"):
        open_own(tmp_path / "log", mode)
    assert victim.read_text(encoding="utf-8") == "of another"
    assert not (tmp_path / "new").exists()


def test_a_file_of_another_account_is_not_written_to_but_in_a_folder_of_its_owner(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    log = tmp_path / "log"
    log.touch()
    os.chown(log, 65534, 65534)
    with pytest.raises(InputError, match="log: is a link, or another account's"):
        open_own(log)
    os.chown(tmp_path, 65534, 65534)
    open_own(log).close()


def _writers(folder: Path):
    """Everything that appends to a file by its name."""
    from jetcorr_utils.config import TuningSettings
    from jetcorr_utils.tuning.katib_trial import _report
    from jetcorr_utils.tuning.queue import TrialQueue

    return {
        "cluster": lambda: _report(folder / "file", {"mae": 1.0}),
        "queue": lambda: TrialQueue(folder, TuningSettings(model="pfn")),
    }


@pytest.mark.parametrize("kind", ["symbolic", "hard", "dangling"])
@pytest.mark.parametrize("writer", ["cluster", "queue"])
def test_whoever_appends_by_name_does_so_to_a_file_of_its_own(writer, kind, victim, tmp_path):
    plant(kind, tmp_path / "place" / ("journal.jsonl" if writer == "queue" else "file"), victim)
    with pytest.raises(InputError, match="is a link"):
        _writers(tmp_path / "place")[writer]()
    assert victim.read_text(encoding="utf-8") == "of another"
    assert not (tmp_path / "new").exists()


def test_links_of_other_accounts_are_refused_one_s_own_are_not(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache" / "remote").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "simulated").symlink_to(tmp_path / "elsewhere")
    for name in ("cache", "simulated", "missing"):
        refuse_links(tmp_path / name, of_others=True)
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    for link in (tmp_path / "cache" / "remote", tmp_path / "simulated"):
        os.chown(link, 65534, 65534, follow_symlinks=False)
        with pytest.raises(InputError, match=f"{link.name}: a link to .*elsewhere"):
            refuse_links(tmp_path / link.relative_to(tmp_path).parts[0], of_others=True)

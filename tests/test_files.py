"""Files are complete or absent."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jetcorr_utils.errors import InputError
from jetcorr_utils.files import (
    MARK,
    atomic_folder,
    atomic_path,
    fingerprint,
    read_json,
    remove_leftovers,
    scratch_folder,
    write_json,
    write_text,
)


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


def test_a_damaged_record_is_named(tmp_path):
    path = write_text(tmp_path / "run.json", '{"stages": ')
    with pytest.raises(InputError, match=r"run\.json: damaged"):
        read_json(path)


def test_a_disk_without_room_is_reported_with_the_file_that_does_not_fit(tmp_path):
    for atomic in (atomic_path, atomic_folder):
        with pytest.raises(OSError, match="No space left") as caught, atomic(tmp_path / "a.txt"):
            Path("/dev/full").write_text("x" * 10**6)
        assert caught.value.filename == str(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []

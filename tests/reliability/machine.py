"""Faults of the machine: a full disk, a read-only folder, a missing permission, a clock that goes back, a second run.

A command must either do its work, or end with one line that says why, and leave earlier results as they were; and when
the fault is over, the same command must give the results of an undisturbed run.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from .jobs import JOBS, prepare, restore
from .kills import leftovers, undisturbed
from .outputs import differences, snapshot
from .processes import Process, Sandbox
from .report import Row

__all__ = [
    "clear",
    "clock_back",
    "full_disk",
    "is_root",
    "judge",
    "no_permission",
    "read_only",
    "skipped",
    "two_at_once",
]

HEED_PERMISSIONS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")
"""Takes from root what lets it write where it may not."""
THREE_DAYS = 3 * 86400


def is_root() -> bool:
    """Whether this user may do what only root can."""
    return os.geteuid() == 0


def clear(process: Process) -> bool:
    """Whether a command that failed said why, in one line and without a traceback."""
    lines = [line for line in process.output.strip().splitlines() if line.startswith("jetcorr: ")]
    return process.code in (1, 2) and len(lines) == 1 and "Traceback (most recent call last)" not in process.output


def judge(row: Row, name: str, sandbox: Sandbox, expected: dict, variables: Mapping[str, str] | None = None) -> None:
    """Run the job without the fault and compare; counts one try's outcome."""
    last = sandbox.run(JOBS[name].arguments(sandbox.work), variables=variables or JOBS[name].variables)
    missing, different, extra = differences(expected, snapshot(sandbox.work))
    left, processes = [*extra, *leftovers(sandbox)], last.left()
    row.add(lost=bool(last.code or missing), wrong=bool(different), left=bool(left or processes))
    row.remember(
        f"exit code {last.code}: {last.output[-500:]}" if last.code else "", f"missing {missing}" if missing else "",
        f"different {different}" if different else "", f"left {left}, {len(processes)} processes" if left else "",
    )  # fmt: skip


def skipped(fault: str, name: str, why: str) -> Row:
    """A row that says why there is none."""
    return Row(fault, name, note=f"not tried: {why}")


@contextlib.contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes in memory at `folder`, with what the folder holds; then the folder has it again."""
    aside = folder.with_name("aside")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(folder, aside)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "jetcorr", str(folder)], check=True)
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield
        shutil.rmtree(aside)
        shutil.copytree(folder, aside)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        restore(aside, folder)
        shutil.rmtree(aside)


def _size(folder: Path) -> int:
    """Bytes of the files, in whole pages as a tmpfs counts them."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def full_disk(name: str, tries: int, seed: int, sandbox: Sandbox) -> Row:
    """The disk of the results is full after a random part of what the job writes."""
    if not is_root():
        return skipped("full disk", name, "a small file system can be made by root only")
    job, before, draw = JOBS[name], prepare(name, sandbox), random.Random(f"{seed}-disk-{name}")
    expected, _, _ = undisturbed(name, sandbox, before)
    needed = _size(sandbox.work) - _size(before)
    row = Row("full disk", name, seed=seed)
    full = 0
    while row.tries < tries:
        restore(before, sandbox.work)
        row.tries += 1
        with _small_disk(sandbox.work, _size(before) + 8192 + int(draw.uniform(0, 0.95) * needed)):
            process = sandbox.run(job.arguments(sandbox.work))
        if process.code:
            full += 1
            if not clear(process):
                row.add(wrong=True)
                row.remember(f"unclear: {process.output[-700:]}")
        judge(row, name, sandbox, expected)
    row.note = f"{full} of the runs met the full disk"
    return row


def read_only(name: str, seed: int, sandbox: Sandbox, *changes: str) -> Row:
    """The finished results lie on a disk that has become read-only, and the command is run again.

    `changes` are further arguments then, which make it begin anew.
    """
    if not is_root():
        return skipped("read-only folder", name, "a file system can be mounted by root only")
    job, before = JOBS[name], prepare(name, sandbox)
    expected, _, _ = undisturbed(name, sandbox, before)
    row = Row("read-only folder", name, tries=1, seed=seed)
    with _small_disk(sandbox.work, 2 * _size(sandbox.work) + (1 << 20)):
        subprocess.run(["mount", "-o", "remount,ro", str(sandbox.work)], check=True)
        process = sandbox.run([*job.arguments(sandbox.work), *changes])
        missing, different, _ = differences(expected, snapshot(sandbox.work))
        subprocess.run(["mount", "-o", "remount,rw", str(sandbox.work)], check=True)
    _refusal(row, process, missing, different, sandbox.work, job.writes or bool(changes))
    return row


def no_permission(name: str, seed: int, sandbox: Sandbox, *changes: str) -> Row:
    """The finished results may be read and not written, and the command is run again by a user who must heed that.

    `changes` are further arguments then, which make it begin anew.
    """
    job, before = JOBS[name], prepare(name, sandbox)
    expected, _, _ = undisturbed(name, sandbox, before)
    row = Row("missing permission", name, tries=1, seed=seed)
    places = [sandbox.work, *sandbox.work.rglob("*")]
    modes = {path: path.stat().st_mode for path in places}
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    process = sandbox.run([*job.arguments(sandbox.work), *changes], prefix=HEED_PERMISSIONS if is_root() else ())
    missing, different, _ = differences(expected, snapshot(sandbox.work))
    for path, mode in modes.items():
        path.chmod(mode)
    _refusal(row, process, missing, different, sandbox.work, job.writes or bool(changes))
    leftovers(sandbox)
    return row


def _refusal(row: Row, process: Process, missing: list[str], different: list[str], work: Path, writes: bool) -> None:
    """A command that could not write: a clear line (or nothing to do), and all results as they were."""
    nothing_to_do = process.code == 0 and not writes
    row.add(lost=bool(missing), wrong=bool(different) or not (nothing_to_do or clear(process)))
    lines = [line for line in process.output.splitlines() if line.startswith("jetcorr: ")]
    row.note = f"exit code {process.code}" + (": " + lines[0].replace(str(work), "…")[:160] if lines else "")
    row.remember(
        f"missing {missing}" if missing else "", f"different {different}" if different else "",
        f"unclear: {process.output[-700:]}" if row.wrong else "",
    )  # fmt: skip


def clock_back(name: str, tries: int, seed: int, sandbox: Sandbox) -> Row:
    """The clock jumps back by three days while the job runs, which is then killed and run again, still in the past."""
    if not shutil.which("cc"):
        return skipped("clock goes back", name, "needs a C compiler")
    job, before, draw = JOBS[name], prepare(name, sandbox), random.Random(f"{seed}-clock-{name}")
    expected, duration, _ = undisturbed(name, sandbox, before)
    row = Row("clock goes back", name, seed=seed)
    library, clock = sandbox.folder / "clock.so", sandbox.folder / "clock"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    variables = {"LD_PRELOAD": str(library), "JETCORR_CLOCK": str(clock)}
    while row.tries < tries:
        restore(before, sandbox.work)
        clock.write_bytes(struct.pack("q", 0))
        process = sandbox.start(job.arguments(sandbox.work), variables=variables)
        time.sleep(draw.uniform(0.2, 0.6) * duration)
        with open(clock, "r+b") as file:  # in place: the processes have it in their memory
            file.write(struct.pack("q", -THREE_DAYS))
        time.sleep(draw.uniform(0.0, 0.3) * duration)
        process.kill()
        process.left()
        row.tries += 1
        judge(row, name, sandbox, expected, variables)
    return row


def two_at_once(name: str, tries: int, seed: int, sandbox: Sandbox) -> Row:
    """The same command is started a second time in the same folder while the first one runs."""
    job, before, draw = JOBS[name], prepare(name, sandbox), random.Random(f"{seed}-two-{name}")
    expected, duration, _ = undisturbed(name, sandbox, before)
    row = Row("two at once", name, seed=seed)
    refused = 0
    while row.tries < tries:
        restore(before, sandbox.work)
        second = Sandbox(sandbox.folder / "second")
        second.work = sandbox.work
        processes = [sandbox.start(job.arguments(sandbox.work))]
        time.sleep(draw.choice([0, 0.1, 0.3, 0.6]) * draw.random() * duration)
        processes.append(second.start(job.arguments(sandbox.work)))
        for process in processes:
            process.wait()
            if process.code and not clear(process):
                row.add(wrong=True)
                row.remember(f"unclear: {process.output[-700:]}")
            refused += bool(process.code)
        row.tries += 1
        if all(process.code for process in processes):
            row.add(lost=True)
            row.remember("neither of the two did the work")
        missing, different, extra = differences(expected, snapshot(sandbox.work))
        left = [*extra, *leftovers(sandbox), *leftovers(second), *[p for process in processes for p in process.left()]]
        row.add(lost=bool(missing), wrong=bool(different), left=bool(left))
        row.remember(*(f"{what} {names}" for what, names in
                       (("missing", missing), ("different", different), ("left", left)) if names))  # fmt: skip
    row.note = f"{refused} of {2 * row.tries} refused in one line, the others did the work"
    return row

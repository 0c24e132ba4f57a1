"""Killed at random moments and run again: the results must be those of an undisturbed run, and nothing may be left.

Half of the moments are drawn over the duration of the command, the others just after one of its files has appeared,
since that is when something could be half written.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from .jobs import JOBS, prepare, restore
from .outputs import differences, snapshot
from .processes import Process, Sandbox
from .report import Row

__all__ = ["killed", "leftovers", "reach_a_moment", "undisturbed"]

ONNX_RUNTIME = ".ses"
"""ONNX Runtime keeps the number of its session in a file of this name among the temporary files."""


def killed(name: str, tries: int, seed: int, sandbox: Sandbox) -> Row:
    """Kill the job `name` so many times.

    Returns
    -------
    Row
        `lost`: tries after which the next run failed or lacked a result; `wrong`: after which one differed;
        `left`: after which a temporary file or a process stayed.
    """
    job, before = JOBS[name], prepare(name, sandbox)
    draw = random.Random(f"{seed}-{name}")
    expected, duration, files = undisturbed(name, sandbox, before)
    row = Row("killed (SIGKILL)", name, seed=seed)
    bar = tqdm(total=tries, desc=f"kill {name}", unit="kill")
    while row.tries < tries:
        restore(before, sandbox.work)
        killed_here: list[Process] = []
        for _ in range(job.kills):
            process = sandbox.start(job.arguments(sandbox.work))
            if not reach_a_moment(process, draw, duration, files, sandbox.work):
                break  # it was done before
            process.kill()
            killed_here.append(process)
        if not killed_here:
            continue
        last = sandbox.run(job.arguments(sandbox.work))
        found = snapshot(sandbox.work, job.ignore)
        missing, different, extra = differences(expected, found)
        processes = [pid for process in (*killed_here, last) for pid in process.left()]
        strangers = [*extra, *leftovers(sandbox)]
        row.tries += len(killed_here)
        row.add(lost=bool(last.code or missing), wrong=bool(different), left=bool(strangers or processes))
        row.remember(
            f"exit code {last.code}: {last.output[-600:]}" if last.code else "",
            f"missing {missing}" if missing else "", f"different {different}" if different else "",
            f"left {strangers}" if strangers else "", f"{len(processes)} processes left" if processes else "",
        )  # fmt: skip
        bar.update(len(killed_here))
    bar.close()
    return row


def undisturbed(name: str, sandbox: Sandbox, before: Path) -> tuple[dict, float, int]:
    """Results, duration in seconds and number of new files of a run that nobody disturbs."""
    restore(before, sandbox.work)
    start, old = time.monotonic(), len(list(_files(sandbox.work)))
    process = sandbox.run(JOBS[name].arguments(sandbox.work), variables=JOBS[name].variables)
    if process.code:
        raise RuntimeError(f"{name}: exit code {process.code}: {process.output}")
    duration = time.monotonic() - start
    if left := [*process.left(), *leftovers(sandbox)]:
        raise RuntimeError(f"{name}: left {left} without being disturbed")
    return snapshot(sandbox.work, JOBS[name].ignore), duration, len(list(_files(sandbox.work))) - old


def reach_a_moment(process: Process, draw: random.Random, duration: float, files: int, work: Path) -> bool:
    """Wait until a random moment of a command of so many seconds and new files; False if it ended before."""
    if draw.random() < 0.5:
        deadline = time.monotonic() + draw.uniform(0.1, 1.0) * duration
        while process.code is None and time.monotonic() < deadline:
            time.sleep(0.005)
    else:
        seen, wanted = set(_files(work)), draw.randint(1, max(files, 1))
        new: set[Path] = set()
        while process.code is None and len(new) < wanted:
            new |= set(_files(work)) - seen
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.03))
    if process.code is not None:
        process.wait()
        return False
    return True


def _files(folder: Path) -> Iterator[Path]:
    """All files under a folder that is being written to: a folder may go while it is read."""
    return (Path(place) / name for place, _, names in os.walk(folder) for name in names)


def leftovers(sandbox: Sandbox) -> list[str]:
    """What is left where temporary files go, and in shared memory."""
    files = (path for path in sandbox.temporary.rglob("*") if not path.is_dir())
    left = [str(path.relative_to(sandbox.temporary)) for path in files if path.name != ONNX_RUNTIME]
    for path in sorted(sandbox.temporary.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return left

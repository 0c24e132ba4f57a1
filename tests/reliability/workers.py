"""One of the processes that work on a command is killed at a random moment, as the kernel does where memory is short.

The command must end with the results of an undisturbed run, or with one line that says what happened; run again, it
must have them.
"""

from __future__ import annotations

import os
import random
import signal
import time

from .jobs import JOBS, prepare, restore
from .kills import leftovers, reach_a_moment, undisturbed
from .machine import clear, judge
from .outputs import differences, snapshot
from .processes import Process, Sandbox
from .report import Row

__all__ = ["one_of_two_killed", "worker_killed"]

FAULT = "a worker killed (SIGKILL)"
MISSES = 10
"""How often, for each try, the moment may come when there are no workers any more."""
LONGEST = 900.0
"""Seconds after which a command that has lost a worker counts as one that hangs."""


def worker_killed(name: str, tries: int, seed: int, sandbox: Sandbox) -> Row:
    """Kill one worker process of the job `name`, so many times."""
    job, before, draw = JOBS[name], prepare(name, sandbox), random.Random(f"{seed}-worker-{name}")
    expected, duration, files = undisturbed(name, sandbox, before)
    row, refused = Row(FAULT, name, seed=seed), 0
    for _ in range(MISSES * tries):
        if row.tries == tries:
            break
        restore(before, sandbox.work)
        process = sandbox.start(job.arguments(sandbox.work), variables=job.variables)
        if not reach_a_moment(process, draw, duration, files, sandbox.work) or not _kill_one(process, draw):
            continue  # its workers were done before
        row.tries += 1
        ended = process.ends(LONGEST)
        left = process.left()
        row.add(wrong=not ended, left=bool(left))
        row.remember("" if ended else "it hangs", f"{len(left)} processes left" if left else "")
        if process.code:
            refused += 1
            row.add(wrong=not clear(process))
            row.remember("" if clear(process) else f"unclear: {process.output[-700:]}")
            judge(row, name, sandbox, expected)
            continue
        _compare(row, sandbox, expected)
    row.add(lost=row.tries < tries)
    row.remember("" if row.tries == tries else "its workers were done before the moment, again and again")
    row.note = f"{refused} of them refused in one line, then done by the same command; the others had all results"
    return row


def _kill_one(process: Process, draw: random.Random) -> bool:
    """Kill a worker as soon as there is one; False if the command ends before."""
    while not (workers := process.workers()):
        if process.code is not None:
            process.wait()
            return False
        time.sleep(0.02)
    os.kill(draw.choice(sorted(workers)), signal.SIGKILL)
    return True


def _compare(row: Row, sandbox: Sandbox, expected: dict) -> None:
    """Compare what is there now."""
    missing, different, extra = differences(expected, snapshot(sandbox.work))
    strangers = [*extra, *leftovers(sandbox)]
    row.add(lost=bool(missing), wrong=bool(different), left=bool(strangers))
    row.remember(*(f"{what} {names}" for what, names in
                   (("missing", missing), ("different", different), ("left", strangers)) if names))  # fmt: skip


def one_of_two_killed(name: str, tries: int, seed: int, sandbox: Sandbox) -> Row:
    """Two processes want the same results in the same folder, as under torchrun, and one of them is killed."""
    job, before, draw = JOBS[name], prepare(name, sandbox), random.Random(f"{seed}-of-two-{name}")
    expected, duration, files = undisturbed(name, sandbox, before)
    row = Row("one of two killed (SIGKILL)", name, seed=seed)
    second = Sandbox(sandbox.folder / "second")
    second.work = sandbox.work
    while row.tries < tries:
        restore(before, sandbox.work)
        processes = [place.start(job.arguments(sandbox.work)) for place in (sandbox, second)]
        victim = processes.pop(draw.randrange(2))
        if not reach_a_moment(victim, draw, duration, files, sandbox.work):
            processes[0].wait()
            continue  # they were done before
        row.tries += 1
        victim.kill()
        (other,) = processes
        ended = other.ends(LONGEST)
        left = [*victim.left(), *other.left(), *leftovers(second)]
        row.add(lost=bool(other.code), wrong=not ended, left=bool(left))
        row.remember("" if ended else "the other one hangs", f"left {left}" if left else "")
        row.remember(f"exit code {other.code}: {other.output[-600:]}" if other.code else "")
        _compare(row, sandbox, expected)
    return row

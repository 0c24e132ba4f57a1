"""All checks by name: which fault is brought upon what, and how often where nobody says it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .account import SCENES, another_account
from .addresses import secret_addresses
from .broken import ORIGINALS, broken
from .fuzz import broken_files
from .jobs import JOBS
from .kills import killed
from .links import special_files
from .load import load
from .machine import clock_back, full_disk, no_permission, read_only, two_at_once
from .processes import Sandbox
from .replaced import replaced_input
from .report import Row
from .repository import PLANTS, received_repository
from .workers import one_of_two_killed, worker_killed

__all__ = ["CHECKS", "Check", "run_check"]


@dataclass(frozen=True)
class Check:
    """A fault and what it is brought upon.

    Attributes
    ----------
    make
        Makes the row, or rows, of so many tries with a seed.
    tries
        How often, where nobody says it; of the load, for how many seconds.
    alone
        Whether it needs all cores for itself.
    """

    make: Callable[[int, int, Sandbox], Row | list[Row]]
    tries: int
    alone: bool = False


def _of_jobs(fault: str, make: Callable[..., Row], **tries: int) -> dict[str, Check]:
    """A fault that is brought upon several jobs, each by its name and the number of tries."""
    return {f"{fault}-{name}": Check(partial(make, name), count) for name, count in tries.items()}


def _anew(make: Callable[..., Row]) -> Callable[..., Row]:
    """A fault in which there is no chance, so that one try says all: a finished job that has to write again."""
    return lambda name, tries, seed, sandbox: make(name, seed, sandbox, *JOBS[name].anew)


_ONCE = dict.fromkeys(("simulate", "cache", "train", "tune", "export", "correct", "run"), 1)

CHECKS: dict[str, Check] = {
    **_of_jobs("kill", killed, simulate=2, cache=6, train=6, tune=6, export=6, correct=6, run=4, pipeline=4),
    **_of_jobs("disk", full_disk, simulate=1, cache=2, train=2, tune=2, export=2, correct=2, run=1),
    **_of_jobs("read-only", _anew(read_only), **_ONCE),
    **_of_jobs("permission", _anew(no_permission), **_ONCE),
    **_of_jobs("clock", clock_back, **_ONCE),
    **_of_jobs("two", two_at_once, simulate=1, cache=1, train=1, tune=1, export=1, correct=1, run=1),
    "worker-simulate": Check(partial(worker_killed, "simulate"), 2),
    "worker-cache": Check(partial(one_of_two_killed, "cache"), 4),
    "worker-train": Check(partial(worker_killed, "train-beside"), 4),
    "worker-tune": Check(partial(worker_killed, "tune-beside"), 4),
    "worker-correct": Check(partial(worker_killed, "correct-beside"), 4),
    **{f"broken-{kind}": Check(partial(broken, kind), 60) for kind in ORIGINALS},
    "files": Check(broken_files, 200),
    "links": Check(special_files, 60),
    "addresses": Check(secret_addresses, 40),
    **_of_jobs("replaced", replaced_input, train=1, tune=1, export=1, run=1),
    **{f"account-{scene}": Check(partial(another_account, scene), 20) for scene in SCENES},
    **{f"repository-{name}": Check(partial(received_repository, name), len(PLANTS)) for name in ("correct", "serve")},
    "load": Check(load, 90, alone=True),
}


def run_check(name: str, tries: int, seed: int) -> list[Row]:
    """The rows of one check, made in a folder of its own."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        made = CHECKS[name].make(tries, seed, Sandbox(Path(folder)))
    rows = [made] if isinstance(made, Row) else made
    for row in rows:
        row.seconds = time.monotonic() - start
    return rows

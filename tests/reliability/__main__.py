"""Faults, bad input and load at length: `python -m tests.reliability [NAME…] [--tries N] [--seed S] [--seconds T]`.

Writes results/reference/reliability.md. The tests of this folder run a small part of each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import uproot

from .fuzz import fuzz_files, small_file
from .jobs import JOBS
from .kills import killed
from .load import load
from .machine import clock_back, full_disk, no_permission, read_only, two_at_once
from .processes import Sandbox
from .report import Row, keep

__all__ = ["main"]

Check = Callable[[argparse.Namespace, Sandbox], list[Row]]


def _checks() -> dict[str, Check]:
    """All checks by name."""

    def kill(name: str) -> Check:
        return lambda options, sandbox: [killed(name, options.tries or 20, options.seed, sandbox)]

    def disturb(fault: Callable[..., Row], name: str, tries: int | None) -> Check:
        def check(options: argparse.Namespace, sandbox: Sandbox) -> list[Row]:
            counts = () if tries is None else (options.tries or tries,)
            return [fault(name, *counts, options.seed, sandbox)]

        return check

    faults = {
        "disk": (full_disk, 5),
        "read-only": (read_only, None),
        "permission": (no_permission, None),
        "clock": (clock_back, 2),
        "two": (two_at_once, 3),
    }
    single = [name for name in JOBS if name != "pipeline"]
    return (
        {f"kill-{name}": kill(name) for name in JOBS}
        | {f"{key}-{name}": disturb(fault, name, tries) for key, (fault, tries) in faults.items() for name in single}
        | {"files": broken_files, "load": lambda options, sandbox: load(options.seconds, options.seed, sandbox)}
    )


def broken_files(options: argparse.Namespace, sandbox: Sandbox) -> list[Row]:
    """Broken ROOT files, with and without a checksum inside."""
    rows = []
    for name, compression in {"ZSTD": uproot.ZSTD(7), "ZLIB": uproot.ZLIB(4)}.items():
        original = small_file(sandbox.work / f"{name}.root", compression)
        rows.append(fuzz_files(original, options.tries or 500, options.seed, sandbox.work)[0])
    return rows


def main() -> int:
    """Run the checks that are named, or all; 1 if something was lost, wrong or left."""
    checks = _checks()
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__.splitlines()[0])
    names = f"of {', '.join(checks)}, or how several of them begin (kill, disk, …); default: all"
    parser.add_argument("names", nargs="*", metavar="NAME", help=names)
    parser.add_argument("--tries", type=int, help="of each; default: as many as the report needs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300.0, help="of each load")
    parser.add_argument("--no-report", action="store_true", help="print only")
    options = parser.parse_args()
    chosen = list(checks) if not options.names else []
    for wanted in options.names:
        chosen += (found := [name for name in checks if f"{name}-".startswith(f"{wanted}-")])
        if not found:
            parser.error(f"no check {wanted}; there are {', '.join(checks)}")
    good = True
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
            rows = checks[name](options, Sandbox(Path(folder)))
        for row in rows:
            row.command = f"python -m tests.reliability {name} --seed {options.seed}"
            row.command += f" --tries {options.tries}" if options.tries else ""
            row.command += f" --seconds {options.seconds:g}" if name == "load" else ""
            print(f"{row.fault}, {row.subject}: {row.tries} tries, {row.lost} lost, {row.wrong} wrong, {row.left} left "
                  f"behind. {row.note}", flush=True)  # fmt: skip
            for problem in row.problems:
                print(f"  {problem}", flush=True)
            good &= row.good
        if not options.no_report:
            keep(rows)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())

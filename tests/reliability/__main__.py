"""Faults, bad input and load at length: `python -m tests.reliability [NAME…] [--tries N] [--seed S] [--jobs J]`.

Writes results/reference/reliability.md. The tests of this folder run a small part of each.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from tqdm import tqdm

from .checks import CHECKS, run_check
from .report import Row, commit_of_the_tree, keep, made_by, rows_made

__all__ = ["main"]


def main() -> int:
    """Run the checks that are named, or all; 1 if something was lost, wrong or left."""
    options = _options()
    commit, before = commit_of_the_tree(), rows_made()
    good, commands, open_ones = True, {}, []
    for name in _chosen(options):
        commands[name] = _command(name, options)
        made = [] if options.again else made_by(commands[name], commit, before)
        if made:
            good &= all(row.good for row in made)
            print(f"{name}: made by this commit already, {made[0].date} (--again makes it anew)")
        else:
            open_ones.append(name)
    seconds = {name: sum(row.seconds for row in before if row.command == commands[name]) for name in open_ones}
    open_ones.sort(key=lambda name: -seconds[name])  # none is left to be alone in the end
    bar = tqdm(total=len(open_ones), unit="check", disable=not open_ones)
    for name, result in _results(open_ones, options):
        try:
            rows = result()
        except Exception:
            good = False
            bar.write(f"{name}: {traceback.format_exc()}")
        else:
            good &= all(row.good for row in rows)
            for row in rows:
                row.command, row.commit = commands[name], commit
                bar.write(_text(row))
            if not options.no_report:
                keep(rows)
        bar.update()
    bar.close()
    return int(not good)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__.splitlines()[0])
    names = f"of {', '.join(CHECKS)}, or how several of them begin (kill, disk, …); default: all"
    parser.add_argument("names", nargs="*", metavar="NAME", help=names)
    parser.add_argument("--tries", type=int, help="of each (of load: seconds); default: as many as the report needs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="checks at the same time; default: 1")
    parser.add_argument("--again", action="store_true", help="also those that this commit has made already")
    parser.add_argument("--no-report", action="store_true", help="print only")
    options = parser.parse_args()
    for wanted in options.names:
        if not any(map(_named(wanted), CHECKS)):
            parser.error(f"no check {wanted}; there are {', '.join(CHECKS)}")
    return options


def _chosen(options: argparse.Namespace) -> list[str]:
    """The names of the checks that are asked for."""
    return [name for name in CHECKS if not options.names or any(_named(wanted)(name) for wanted in options.names)]


def _named(wanted: str) -> Callable[[str], bool]:
    return lambda name: f"{name}-".startswith(f"{wanted}-")


def _tries(name: str, options: argparse.Namespace) -> int:
    return options.tries or CHECKS[name].tries


def _command(name: str, options: argparse.Namespace) -> str:
    """What makes the rows of one check alone."""
    return f"python -m tests.reliability {name} --seed {options.seed} --tries {_tries(name, options)}"


def _results(names: list[str], options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """The checks as they end, each with what gives its rows: several at a time, and those alone that must be."""
    beside = [] if options.jobs == 1 else [name for name in names if not CHECKS[name].alone]
    if beside:
        os.environ["TQDM_DISABLE"] = "1"  # of the processes: here is the bar of all
        with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
            futures = {pool.submit(run_check, name, _tries(name, options), options.seed): name for name in beside}
            for future in as_completed(futures):
                yield futures[future], future.result
    for name in names:
        if name not in beside:
            yield name, lambda name=name: run_check(name, _tries(name, options), options.seed)


def _text(row: Row) -> str:
    """A row as lines."""
    counts = f"{row.tries} tries, {row.lost} lost, {row.wrong} wrong, {row.left} left behind"
    first = f"{row.fault}, {row.subject}: {counts}, {row.seconds:.0f} s. {row.note}"
    return "\n  ".join([first, *row.problems])


if __name__ == "__main__":
    sys.exit(main())

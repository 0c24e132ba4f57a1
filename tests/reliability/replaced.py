"""A data file is replaced by another of the same size and the same time of change, between two commands or in a run.

The next command must refuse what it has, in one line, or redo it: in the end, the results are those of the new file
alone.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import uproot

from jetcorr_utils.config import project_root
from jetcorr_utils.files import read_json

from .fuzz import TREE, write
from .jobs import JOBS, SAMPLE
from .kills import leftovers
from .machine import clear
from .outputs import differences, snapshot
from .processes import Process, Sandbox
from .report import Row

__all__ = ["replaced_input"]


def _two_files(folder: Path) -> tuple[Path, Path]:
    """Two files of the sample's jets: in the other one all are of other events, and have a little less pt.

    They are of one size: their names, which stand in them, are of one length.
    """
    with uproot.open(project_root() / SAMPLE) as file:
        jets = file[TREE].arrays()
    columns = {name: jets[name] for name in jets.fields if name not in ("nPF", "nGenJetPF", "nSV")}
    other = columns | {"event": jets["event"] + np.uint64(10**6), "genJetPt": jets["genJetPt"] * np.float32(0.99)}
    folder.mkdir()
    files = write(folder / "first.root", columns, None), write(folder / "other.root", other, None)
    if len({file.stat().st_size for file in files}) > 1:
        raise RuntimeError("the two files are not of one size")
    return files


def _replace(file: Path, other: Path) -> None:
    """Put another file in the place of one, as if nothing had happened."""
    before = file.stat()
    shutil.copyfile(other, file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _arguments(name: str, sandbox: Sandbox, file: Path) -> list[str]:
    return [*JOBS[name].arguments(sandbox.work), "-p", "data.files", json.dumps([str(file)])]


def _chain(name: str) -> list[str]:
    """A job and those before it, in their order."""
    before = JOBS[name].before
    return [*(_chain(before) if before else []), name]


def _results(sandbox: Sandbox) -> dict:
    """What counts of the results: caches of the replaced file may stay."""
    return snapshot(sandbox.work, r"^data/|^jets\.root$")


def _run_all(commands: dict[str, list[str]], sandbox: Sandbox) -> None:
    for step, command in commands.items():
        process = sandbox.run(command)
        if process.code:
            raise RuntimeError(f"{step}: exit code {process.code}: {process.output}")


def _replaced_within(sandbox: Sandbox, command: list[str], replace: Callable[[], None], stages: int) -> Process:
    """Replace the file when so many stages of a run have ended."""
    process, record = sandbox.start(command), sandbox.work / "out" / "run.json"
    while process.code is None and len(read_json(record)["stages"] if record.exists() else ()) < stages:
        time.sleep(0.05)
    replace()
    process.wait()
    return process


def replaced_input(name: str, tries: int, seed: int, sandbox: Sandbox) -> Row:
    """Replace the data file of the job `name`: after it, or, where it is a whole run, while it is at work."""
    one, other = _two_files(sandbox.folder / "files")
    file, draw = sandbox.work / "jets.root", random.Random(f"{seed}-replaced-{name}")
    commands = {step: _arguments(step, sandbox, file) for step in _chain(name)}
    row, refused = Row("a data file replaced", name, seed=seed), 0
    shutil.copy2(other, file)
    _run_all(commands, sandbox)
    expected = _results(sandbox)
    while row.tries < tries:
        shutil.rmtree(sandbox.work)
        sandbox.work.mkdir()
        shutil.copy2(one, file)
        row.tries += 1
        if name == "run":
            process = _replaced_within(sandbox, commands[name], lambda: _replace(file, other), draw.randint(1, 5))
            own = {}  # what a run has made of the old file shows in the end
        else:
            _run_all({step: command for step, command in commands.items() if step != name}, sandbox)
            earlier = _results(sandbox)
            _run_all({name: commands[name]}, sandbox)
            _replace(file, other)
            process = sandbox.run(commands[name])
            own = {key: value for key, value in expected.items() if key not in earlier}
        if process.code:
            refused += 1
            row.add(wrong=not clear(process))
            row.remember("" if clear(process) else f"unclear: {process.output[-600:]}")
        else:  # then its own results are those of the new file, whatever lies there from before
            found = _results(sandbox)
            old = [key for key, value in own.items() if found.get(key) != value]
            row.add(wrong=bool(old))
            row.remember(f"of the replaced file: {old}" if old else "")
        for command in commands.values():
            process = sandbox.run(command)
        missing, different, extra = differences(expected, _results(sandbox))
        left = [*extra, *leftovers(sandbox), *process.left()]
        row.add(lost=bool(process.code or missing), wrong=bool(different), left=bool(left))
        row.remember(*(f"{what} {names}" for what, names in
                       (("missing", missing), ("different", different), ("left", left)) if names))  # fmt: skip
        row.remember(f"exit code {process.code}: {process.output[-500:]}" if process.code else "")
    row.note = f"{refused} refused in one line, the others redone"
    return row

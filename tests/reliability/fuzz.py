"""Broken files by a seeded generator: bytes flipped, cut short, emptied, pieces overwritten.

A file, or a folder in which one is broken, must be read with the right numbers, or be refused in one line that names
it; within a time, within a memory.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import awkward as ak
import uproot
from tqdm import tqdm

from jetcorr_utils.config import project_root
from jetcorr_utils.jets.columns import PARTICLES, core, counter_name, necessary

from .processes import Sandbox
from .report import Row

__all__ = ["Reader", "broken_files", "damage", "fuzz", "small_file"]

SECONDS = 300.0
"""For one file, and the imports of the first."""
TREE = "AK4jets/jetTree"
NEEDED = {*core(), *necessary(PARTICLES)}
"""Without these a file is refused. Another column whose name was hit is one that the file does not have."""


class Reader:
    """The process of `reader`; started again if it dies or hangs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def ask(self, kind: str, path: Path) -> dict[str, Any]:
        """What the reader makes of a file of a kind; `state` is "hang" or "died" if it does not answer."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-W", "ignore", "-m", "tests.reliability.reader"]
            self._process = subprocess.Popen(
                command, cwd=project_root(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        self._process.stdin.write(f"{json.dumps([kind, str(path)])}\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        line = self._process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        died = bool(ready)
        self.close()
        return {"state": "died" if died else "hang", "message": f"exit code {self._process.returncode}"}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def small_file(path: Path, compression: Any, jets: int = 60) -> Path:
    """The first jets of the committed sample, in several baskets."""
    with uproot.open(project_root() / "data" / "sample" / "jets.root") as file:
        columns = file[TREE].arrays(entry_stop=jets)
    return write(
        path, {name: columns[name] for name in columns.fields if name not in ("nPF", "nGenJetPF", "nSV")}, compression
    )


def write(path: Path, columns: dict[str, Any], compression: Any) -> Path:
    """Write columns as a JetNTuple."""
    types = {name: ak.type(ak.Array(values)).content for name, values in columns.items()}
    with uproot.recreate(path, compression=compression) as file:
        tree = file.mktree(TREE, types, counter_name=counter_name)
        half = len(next(iter(columns.values()))) // 2
        for part in (slice(None, half), slice(half, None)):
            tree.extend({name: values[part] for name, values in columns.items()})
    return path


def damage(good: bytes, draw: random.Random) -> tuple[str, bytes]:
    """What is done to the bytes of a file, and the bytes; half of the places are in its first and last kilobytes."""
    while True:
        data = bytearray(good)
        edge = max(1, min(3000, len(data) // 4))
        place = draw.randrange(len(data)) if draw.random() < 0.5 else draw.choice(
            [draw.randrange(edge), len(data) - 1 - draw.randrange(edge)])  # fmt: skip
        kind = draw.choice(["bit", "bit", "byte", "bytes", "cut", "emptied", "zeros", "doubled"])
        if kind == "bit":
            data[place] ^= 1 << draw.randrange(8)
        elif kind == "byte":
            data[place] = draw.randrange(256)
        elif kind == "bytes":
            for _ in range(draw.randint(2, 30)):
                data[draw.randrange(len(data))] = draw.randrange(256)
        elif kind in ("cut", "emptied"):
            del data[place if kind == "cut" else 0 :]
        elif kind == "zeros":
            data[place : place + 512] = bytes(min(512, len(data) - place))
        else:
            data[place:place] = data[place : place + draw.randint(1, 2000)]
        if bytes(data) != good:
            return f"{kind} at {place} of {len(good)}", bytes(data)


def _break(path: Path, draw: random.Random) -> str:
    """Break a file, or one in a folder, in its place, and say how; half of them look as old as they were."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size)
    file = draw.choice(files) if files else path
    before = file.stat()
    what, data = damage(file.read_bytes(), draw)
    file.write_bytes(data)
    if draw.random() < 0.5:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    return f"{file.name}: {what}"


def _copy(original: Path, copy: Path) -> None:
    shutil.copytree(original, copy) if original.is_dir() else shutil.copy(original, copy)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def fuzz(
    kind: str, original: Path, count: int, seed: int, folder: Path, *, read_before: bool = False
) -> tuple[Row, dict[str, int]]:
    """Let the reader read broken copies of a file, or of a folder.

    Parameters
    ----------
    kind
        Of the `READERS`.
    read_before
        Whether each copy is read once before it is broken, so that what is remembered of it is wrong.

    Returns
    -------
    Row, dict
        `wrong`: copies that gave wrong numbers, a traceback, an unclear message, or no answer; and how often which.
    """
    row, states, draw = Row("broken files", original.stem, seed=seed), {}, random.Random(f"{seed}-{kind}")
    with Reader() as reader:
        _copy(original, copy := folder / "whole")
        expected = reader.ask(kind, copy)
        _remove(copy)
        if expected["state"] != "read":
            raise RuntimeError(f"{original}: {expected}")
        peak = [expected["peak_kb"]]
        for number in tqdm(range(count), desc=f"broken {kind}", unit="file"):
            _copy(original, path := folder / f"broken_{number}{original.suffix}")
            if read_before:
                reader.ask(kind, path)
            what = _break(path, draw)
            answer = reader.ask(kind, path)
            _remove(path)
            state = answer["state"]
            if state == "read":
                changed = [
                    name for name, sha in expected["columns"].items()
                    if answer["columns"].get(name, sha if kind == "jets" and name not in NEEDED else None) != sha
                ]  # fmt: skip
                state = "wrong numbers" if changed else "read"
                answer["message"] = ", ".join(changed[:5])
            states[state] = states.get(state, 0) + 1
            bad = state not in ("read", "refused", "memory")
            row.tries += 1
            row.add(wrong=bad)
            row.remember(f"{what}: {state}: {answer.get('message')}" if bad else "")
            peak.append(answer.get("peak_kb", 0))
    row.note = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
    row.note += f"; memory {peak[0] / 1e3:.0f} MB for the good one, at most {max(peak) / 1e3:.0f} MB"
    return row, states


def broken_files(tries: int, seed: int, sandbox: Sandbox) -> list[Row]:
    """Broken ROOT files, with and without a checksum inside."""
    rows = []
    for name, compression in {"ZSTD": uproot.ZSTD(7), "ZLIB": uproot.ZLIB(4)}.items():
        original = small_file(sandbox.work / f"{name}.root", compression)
        rows.append(fuzz("jets", original, tries, seed, sandbox.folder)[0])
        rows[-1].fault = "broken ROOT files"
    return rows

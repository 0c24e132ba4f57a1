"""Broken ROOT files by a seeded generator: bytes flipped, cut short, pieces overwritten, branches changed.

A file must be read with the right numbers, or be refused in one line that names it; within a time, within a memory.
"""

from __future__ import annotations

import json
import random
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import awkward as ak
import numpy as np
import uproot
from tqdm import tqdm

from jetcorr_utils.config import project_root
from jetcorr_utils.jets.columns import PARTICLES, core, counter_name, necessary

from .report import Row

__all__ = ["Reader", "fuzz_files", "mutants", "small_file"]

SECONDS = 60.0
"""For one file."""
TREE = "AK4jets/jetTree"
NEEDED = {*core(), *necessary(PARTICLES)}


class Reader:
    """The process of `reader`; started again if it dies or hangs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def ask(self, path: Path) -> dict[str, Any]:
        """What the reader makes of a file; `state` is "hang" or "died" if it does not answer."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-W", "ignore", "-m", "tests.reliability.reader"]
            self._process = subprocess.Popen(
                command, cwd=project_root(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        self._process.stdin.write(f"{path}\n")
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


def mutants(original: Path, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """What was done to the bytes of a file, and the bytes; half of the flips are in its first and last kilobytes."""
    good = original.read_bytes()
    draw = random.Random(seed)
    for _ in range(count):
        data = bytearray(good)
        edge = min(3000, len(data) // 4)
        place = draw.randrange(len(data)) if draw.random() < 0.5 else draw.choice(
            [draw.randrange(edge), len(data) - 1 - draw.randrange(edge)])  # fmt: skip
        kind = draw.choice(["bit", "byte", "bytes", "cut", "zeros", "doubled"])
        if kind == "bit":
            data[place] ^= 1 << draw.randrange(8)
        elif kind == "byte":
            data[place] = draw.randrange(256)
        elif kind == "bytes":
            for _ in range(draw.randint(2, 30)):
                data[draw.randrange(len(data))] = draw.randrange(256)
        elif kind == "cut":
            del data[place:]
        elif kind == "zeros":
            data[place : place + 512] = bytes(min(512, len(data) - place))
        else:
            data[place:place] = data[place : place + draw.randint(1, 2000)]
        if bytes(data) != good:
            yield f"{kind} at {place} of {len(good)}", bytes(data)


def fuzz_files(original: Path, count: int, seed: int, folder: Path) -> tuple[Row, dict[str, int]]:
    """Let the reader read broken copies of a file.

    Returns
    -------
    Row, dict
        `wrong`: files that gave wrong numbers, a traceback, an unclear message, or no answer; and how often which.
    """
    row, states = Row("broken ROOT files", original.stem, seed=seed), {}
    with Reader() as reader:
        expected = reader.ask(original)
        peak = [expected["peak_kb"]]
        for number, (what, data) in enumerate(tqdm(mutants(original, count, seed), total=count, unit="file")):
            path = folder / f"broken_{number}.root"
            path.write_bytes(data)
            answer = reader.ask(path)
            path.unlink()
            state = answer["state"]
            if state == "read":
                # An optional column whose name was hit is one that the file does not have.
                changed = [
                    name for name, sha in expected["columns"].items()
                    if answer["columns"].get(name, None if name in NEEDED else sha) != sha
                ]  # fmt: skip
                state = "wrong numbers" if changed else "read"
                answer["message"] = ", ".join(changed[:5])
            states[state] = states.get(state, 0) + 1
            bad = state not in ("read", "refused", "memory")
            row.tries += 1
            row.add(wrong=bad)
            if bad:
                row.remember(f"{what}: {state}: {answer.get('message')}")
            peak.append(answer.get("peak_kb", 0))
    mean = np.mean(peak[1:]) if len(peak) > 1 else 0
    row.note = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
    row.note += f"; memory {peak[0] / 1e3:.0f} MB for the good file, at most {max(peak) / 1e3:.0f} MB"
    assert mean >= 0
    return row, states

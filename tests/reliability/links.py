"""Pipes, sockets, devices, folders and links where a command expects a file, or is to write one.

The command must refuse it in one line, or do its work beside it; it must not wait for it, and what a link leads to must
stay as it was.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import stat
from pathlib import Path

from tqdm import tqdm

from jetcorr_utils.config import project_root
from tests.networks import exported

from .jobs import CLI, SAMPLE, SMALL
from .machine import clear, is_root
from .processes import Sandbox
from .report import Row

__all__ = ["LINKS", "SPECIAL", "make_special", "plant", "special_files"]

SPECIAL = ("pipe", "socket", "dangling link", "link to itself", "link to a pipe", "folder")
"""What is no file, and leads to none."""
LINKS = ("symbolic", "hard", "dangling", "pipe")
"""By which what is written gets into another file."""
PATIENCE = 600.0
"""Seconds after which a command counts as one that waits for ever."""


def make_special(kind: str, path: Path) -> None:
    """Make something at `path` that is no file: one of `SPECIAL`, or a device that never ends (as root)."""
    target = path.with_name("target")
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as one, contextlib.chdir(path.parent):
            one.bind(path.name)
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "folder":
        path.mkdir()
    elif "device" in kind:
        os.mknod(target if "link" in kind else path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    else:
        os.mkfifo(target if "link" in kind else path)
    if kind in ("link to a pipe", "link to a device"):
        path.symlink_to(target)


def plant(kind: str, path: Path, victim: Path) -> None:
    """Put something at `path` by which what is written there gets into `victim`: one of `LINKS`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "hard":
        path.hardlink_to(victim)
    else:
        path.symlink_to(victim if kind == "symbolic" else victim.with_name("new"))


_OUT = ("--out", "{work}/made/corrected.root")
_CORRECT = ("--model", "{work}/model.onnx", *_OUT)
_TRAIN = ("train", *SMALL, "-p", "models.pfn.training.epochs", "1")
INPUTS = {
    "info": ("info", "{it}"),
    "file to correct": ("correct", "{it}", *_CORRECT),
    "model": ("correct", SAMPLE, "--model", "{it}", *_OUT),
    "official corrections": ("correct", SAMPLE, *_CORRECT, "--official", "{it}"),
    "file of corrections": ("correct", SAMPLE, *_CORRECT, "--corrections", "{it}"),
    "data file": (*_TRAIN, "-p", "data.files", "{it}", "--out", "{work}/made"),
    "study": ("train", "--study", "{it}", "--out", "{work}/made"),
    "extension": ("info", SAMPLE, "--extension", "{it}"),
    "repository": ("serve", "--repository", "{it}"),
}
"""Commands that read what is there under a name."""
GOOD = {"info": SAMPLE, "file to correct": SAMPLE, "data file": SAMPLE, "model": "{work}/model.onnx"}
"""Files that a link may lead to."""
OUTPUTS = {
    "corrected.root": ("correct", SAMPLE, "--force", *_CORRECT),
    "out/model/pfn/checkpoint.pt": (*_TRAIN, "--out", "{work}/made/out"),
    "out/model/pfn/state.pt": (*_TRAIN, "--out", "{work}/made/out"),
    "out/model/pfn/.lock": (*_TRAIN, "--out", "{work}/made/out"),
    "out/model": (*_TRAIN, "--out", "{work}/made/out"),
    "out": (*_TRAIN, "--out", "{work}/made/out"),
    "out/tuning/journal.jsonl": ("tune", *SMALL, "-p", "tuning.trials", "1", "--out", "{work}/made/out"),
    "out/run.json": ("run", *SMALL, "--from", "06", "--out", "{work}/made/out"),
    "simulation.json": ("simulate", "--jets", "10", "--out", "{work}/made"),
    "jets_000.root": ("simulate", "--jets", "10", "--out", "{work}/made"),
}  # fmt: skip
"""Commands that write something under a name, by the name."""


def _cases() -> list[tuple[str, str, str]]:
    """Input or output, its place, and what is put there."""
    devices = ("device", "link to a device") if is_root() else ()
    inputs = [("input", place, kind) for place in INPUTS for kind in (*SPECIAL, *devices)]
    inputs += [("input", place, kind) for place in GOOD for kind in ("good symbolic link", "good hard link")]
    outputs = [("output", place, kind) for place in OUTPUTS for kind in (*LINKS, "socket", "link to itself", *devices)]
    return inputs + outputs


def special_files(tries: int, seed: int, sandbox: Sandbox) -> list[Row]:
    """Put something special in the place of an input or an output, each time another."""
    cases = _cases()
    random.Random(f"{seed}-links").shuffle(cases)
    rows = {kind: Row("no regular file", kind, seed=seed) for kind in ("input", "output")}
    for case in tqdm(cases[:tries], desc="links", unit="case"):
        _try(rows[case[0]], *case, sandbox)
    for kind, row in rows.items():
        row.note = f"of {sum(case[0] == kind for case in cases)} cases"
    return [row for row in rows.values() if row.tries]


def _try(row: Row, way: str, place: str, kind: str, sandbox: Sandbox) -> None:
    work = sandbox.work
    shutil.rmtree(work)
    (work / "made").mkdir(parents=True)
    shutil.copy(exported("pfn"), work / "model.onnx")
    (victim := work / "victim").write_text("of another", encoding="utf-8")
    it = work / "it" if way == "input" else work / "made" / place
    if kind.startswith("good"):
        source = Path(GOOD[place].format(work=work))
        shutil.copy(project_root() / source, good := work / f"good{source.suffix}")
        plant(kind.split()[1], it, good)
    elif kind in LINKS:
        plant(kind, it, victim)
    else:
        it.parent.mkdir(parents=True, exist_ok=True)
        make_special(kind, it)
    before = _kinds(work)
    words = (INPUTS if way == "input" else OUTPUTS)[place]
    process = sandbox.start([*CLI, *(word.format(work=work, it=it) for word in words)])
    row.tries += 1
    problems = [] if process.ends(PATIENCE) else ["it waits for ever"]
    after = _kinds(work)
    if process.code and not clear(process):
        problems.append(f"unclear: {process.output[-500:]}")
    if kind.startswith("good") == bool(process.code) and way == "input" and not problems:
        problems.append(f"exit code {process.code}: {process.output[-300:]}")
    problems += [f"{name} was {what}, is {after.get(name)}" for name, what in before.items() if after.get(name) != what]
    if left := process.left():
        problems.append(f"{len(left)} processes left")
    row.add(wrong=bool(problems))
    row.remember(*(f"{place}, {kind}: {problem}" for problem in problems))


def _kinds(work: Path) -> dict[str, object]:
    """What must stay as it is: targets, and all that is no link in the place where something is written."""
    found: dict[str, object] = {"new": (work / "new").exists(), "victim": (work / "victim").read_text(encoding="utf-8")}
    for path in (*work.glob("it"), *work.rglob("target"), *work.rglob("made/**/*")):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            found[str(path.relative_to(work))] = stat.S_IFMT(mode)
    return found

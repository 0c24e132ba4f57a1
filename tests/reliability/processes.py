"""Commands in processes of their own that can be killed, and whether anything of them is left afterwards.

Every process that a command starts inherits a mark in its environment, also a notebook's kernel, which has a session of
its own; the Triton server gets no variables of ours, but its temporary folder lies in that of the command. So those
that stay behind are found in /proc.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from jetcorr_utils.config import project_root

__all__ = ["Process", "Sandbox"]

MARK = "JETCORR_RELIABILITY_MARK"
PATIENCE = 30.0
"""Seconds within which the processes of a killed command must have gone."""


class Sandbox:
    """A folder for one command at a time: `work` for its files, `temporary` for what it puts aside."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work, self.temporary = folder, folder / "work", folder / "tmp"
        for path in (self.work, self.temporary):
            path.mkdir(parents=True, exist_ok=True)

    def start(
        self, command: Sequence[str], *, variables: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> Process:
        """Start `python …` in the project's folder, by way of `prefix`; its temporary files go to `temporary`."""
        mark = uuid.uuid4().hex
        environment = os.environ | {
            "OMP_NUM_THREADS": "1", "PYTHONPATH": str(project_root()), "TMPDIR": str(self.temporary), MARK: mark,
            "JUPYTER_RUNTIME_DIR": str(self.temporary / "jupyter"), "PYTHONWARNINGS": "ignore",
            **(variables or {}),
        }  # fmt: skip
        log = self.folder / "log.txt"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [*prefix, sys.executable, *command], cwd=project_root(), env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return Process(process, (f"{MARK}={mark}\0", f"{self.temporary}/"), log)

    def run(self, command: Sequence[str], **options) -> Process:
        """Run a command to its end."""
        process = self.start(command, **options)
        process.wait()
        return process


class Process:
    """A started command."""

    def __init__(self, process: subprocess.Popen, marks: tuple[str, ...], log: Path) -> None:
        self._process, self._marks, self._log = process, [os.fsencode(mark) for mark in marks], log
        self.output = ""

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def said(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def wait(self, timeout: float | None = 3600) -> int:
        """Wait for its end and read what it printed."""
        code = self._process.wait(timeout)
        self.output = self.said()
        return code

    @property
    def pid(self) -> int:
        """Of the command itself."""
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL to the command alone: its helpers have to notice by themselves."""
        self._process.send_signal(signal.SIGKILL)
        self.wait()

    def ends(self, seconds: float) -> bool:
        """Wait for its end; if it does not come in time, it is killed."""
        try:
            self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def family(self) -> list[int]:
        """The processes that the command started and that live (zombies do not)."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                variables = (folder / "environ").read_bytes()
                if state != "Z" and any(mark in variables for mark in self._marks):
                    found.append(int(folder.name))
        return found

    def workers(self) -> list[int]:
        """The processes that do a part of the command's work: not those that start them or clean up after them."""
        found = []
        for pid in self.family():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                text, parent = " ".join(process.cmdline()), process.parent()
                forked = parent is not None and "multiprocessing.forkserver" in " ".join(parent.cmdline())
                if forked or "multiprocessing.spawn" in text:
                    found.append(pid)
        return found

    def left(self) -> list[int]:
        """The processes that are there long after the end of the command; they are killed."""
        deadline = time.monotonic() + PATIENCE
        while (family := self.family()) and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return family

"""`jetcorr run` in a real terminal, as somebody sees it who presses Ctrl-C in the training and goes on.

``python -m tests.terminal results/reference/terminal.txt`` records the session of the guide.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pexpect

from jetcorr_utils.config import project_root

EPOCHS = 150
LONG = f"-p models.pfn.training.epochs {EPOCHS} -p models.pfn.training.patience {EPOCHS}"
COMMAND = f"jetcorr run --study smoke --out run {LONG}"
BAR = rf"pfn: +\d+% ([1-9]\d*)/{EPOCHS}"
WAIT = 900


class Terminal:
    """A command in a terminal of 110 columns, in a folder of its own."""

    def __init__(self, command: str, folder: Path) -> None:
        program, *arguments = command.split()
        assert program == "jetcorr"
        arguments += ["-p", "data.directory", str(folder / "data")]
        environment = {"PYTHONPATH": str(project_root()), "TERM": "xterm", "LANG": "C.UTF-8", "HOME": str(folder)}
        self.process = pexpect.spawn(
            sys.executable, ["-m", "jetcorr_utils.cli", *arguments], cwd=folder, env=environment, timeout=WAIT,
            encoding="utf-8", dimensions=(30, 120),
        )  # fmt: skip
        self._seen = ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the pattern is shown."""
        self.process.expect(pattern)
        self._seen += self.process.before + self.process.after
        return self.process.match

    def press_ctrl_c(self) -> None:
        """As on a keyboard: the terminal sends the signal to all processes in its foreground."""
        self.process.sendintr()

    def end(self) -> int:
        """Wait for the end; its exit code."""
        self.process.expect(pexpect.EOF)
        self._seen += self.process.before
        self.process.close()
        return self.process.exitstatus

    @property
    def screen(self) -> list[str]:
        """The lines that stand on the screen: what was written over another line is all that is left of it."""
        return [written_over(line) for line in self._seen.replace("\r\n", "\n").split("\n")]


def written_over(line: str) -> str:
    """What is left of a line whose parts were written over each other."""
    shown = ""
    for part in line.split("\r"):
        shown = part + shown[len(part) :]
    return shown.rstrip()


def record(folder: Path) -> str:
    """The session: a run that is stopped in the training, and the same command again."""
    lines = []
    for stopped in (True, False):
        terminal = Terminal(COMMAND, folder)
        if stopped:
            terminal.wait_for(BAR)
            terminal.press_ctrl_c()
        code = terminal.end()
        assert code == (130 if stopped else 0), "\n".join(terminal.screen)
        lines += [f"$ {COMMAND}", *(line for line in terminal.screen if line), ""]
    return "\n".join(lines).replace(str(folder), "…")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        Path(sys.argv[1]).write_text(record(Path(temporary)), encoding="utf-8")

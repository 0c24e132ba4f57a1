"""The table of faults, kept as JSON lines and written as Markdown: reliability.jsonl and .md in results/reference."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from jetcorr_utils.config import project_root
from jetcorr_utils.files import write_text

__all__ = ["REPORT", "ROWS", "Row", "commit_of_the_tree", "keep", "made_by", "rows_made"]

REPORT = project_root() / "results" / "reference" / "reliability.md"
ROWS = REPORT.with_suffix(".jsonl")
CHANGED = ", changed"
"""After a commit: not all files are those of it."""


@dataclass
class Row:
    """One line of the table.

    Attributes
    ----------
    fault, subject
        What was done, to which command.
    tries, lost, wrong, left
        How often; after how many of them something was lost, was wrong, or stayed behind.
    seed
        Of the random moments.
    note
        What was measured, or why nothing was.
    problems
        What was seen where something was lost, wrong or left.
    command, commit, seconds, date
        What made it, of which commit, how long all rows of that command took together, and when.
    """

    fault: str
    subject: str
    tries: int = 0
    lost: int = 0
    wrong: int = 0
    left: int = 0
    seed: int = 0
    note: str = ""
    problems: list[str] = field(default_factory=list)
    command: str = ""
    commit: str = ""
    seconds: float = 0.0
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M"))

    def add(self, *, lost: bool = False, wrong: bool = False, left: bool = False) -> None:
        """Count one try's outcome."""
        self.lost, self.wrong, self.left = self.lost + lost, self.wrong + wrong, self.left + left

    def remember(self, *problems: str) -> None:
        """Keep what was seen."""
        self.problems += [problem for problem in problems if problem]

    @property
    def good(self) -> bool:
        """Whether nothing was lost, wrong or left."""
        return not (self.lost or self.wrong or self.left)


def commit_of_the_tree() -> str:
    """The commit of the working tree, which says so where a file has been changed since; empty where there is no git.

    The results are no part of what is tried, and this program writes there.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(project_root()), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", ".", ":!results")
    return git("rev-parse", "--short=10", "HEAD") + (CHANGED if changed else "")


def rows_made(rows_file: Path = ROWS) -> list[Row]:
    """The rows of earlier runs."""
    return [Row(**json.loads(line)) for line in rows_file.read_text().splitlines()] if rows_file.exists() else []


def made_by(command: str, commit: str, rows: list[Row]) -> list[Row]:
    """The rows that a command has made of a commit: none where files had been changed, or where nothing was tried."""
    if not commit or commit.endswith(CHANGED):
        return []
    return [row for row in rows if (row.command, row.commit) == (command, commit) and row.tries]


def keep(rows: list[Row], rows_file: Path = ROWS, report: Path = REPORT) -> Path:
    """Add rows to those of earlier runs (a newer one of the same fault and subject replaces it); write the table."""
    known = {(row.fault, row.subject): row for row in [*rows_made(rows_file), *rows]}
    write_text(rows_file, "".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in known.values()))
    return write_text(report, _markdown(list(known.values())))


def _markdown(rows: list[Row]) -> str:
    table = ["fault", "command", "tries", "lost", "wrong", "left", "remark", "made by", "commit", "s", "when (UTC)"]
    lines = [f"| {' | '.join(table)} |", f"|{'---|' * len(table)}"]
    for row in rows:
        cells = [row.fault, row.subject, row.tries, row.lost, row.wrong, row.left, row.note, f"`{row.command}`",
                 row.commit or "older", f"{row.seconds:.0f}" if row.seconds else "", row.date]  # fmt: skip
        lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")
    text = "\n".join(lines)
    return f"""# Reliability

Made by `make reliability` (`python -m tests.reliability`); each row names the command that makes it alone, the commit
that was tried, and the seconds that the command took, two at a time on two cores. The seed of all random moments and
faults is in the command. Rows that a commit has made are not made again, but with `--again`.

*lost*: a result was missing or the next run failed; *wrong*: a result, or a message, was not what it must be; *left*: a
temporary file, or a process, stayed behind.

ROOT's blocks have no checksum where they are compressed with ZSTD, or too short to be compressed: a bit flipped there
gives another number and no error, in any reader. The simulation therefore notes the checksums of its files, and a study
refuses one that differs; files of other origin are as safe as their compression.

{text}
"""

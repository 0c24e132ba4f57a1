"""The table of faults: rows replace older ones, and what a commit has made is known."""

from __future__ import annotations

import dataclasses

import pytest

from .report import Row, keep, made_by, rows_made

ROW = Row("killed", "train", tries=3, seed=1, command="c", commit="abc", seconds=12.0)


def test_a_newer_row_takes_the_place_of_one_of_the_same_fault_and_subject(tmp_path):
    files = tmp_path / "rows.jsonl", tmp_path / "report.md"
    keep([ROW, dataclasses.replace(ROW, subject="tune")], *files)
    text = keep([dataclasses.replace(ROW, wrong=1, commit="def")], *files).read_text(encoding="utf-8")
    assert [(row.subject, row.wrong, row.commit) for row in rows_made(files[0])] == [
        ("train", 1, "def"),
        ("tune", 0, "abc"),
    ]
    assert [line.split(" | ")[8] for line in text.splitlines() if line.startswith("| killed")] == ["def", "abc"]


def test_rows_of_before_commits_were_noted_are_read(tmp_path):
    rows, report = tmp_path / "rows.jsonl", tmp_path / "report.md"
    rows.write_text('{"fault": "killed", "subject": "cache", "tries": 3, "command": "c"}\n', encoding="utf-8")
    assert "| older |" in keep([ROW], rows, report).read_text(encoding="utf-8")
    assert made_by("c", "", rows_made(rows)) == []


@pytest.mark.parametrize(
    ("command", "commit", "changes"),
    [("c", "def", {}), ("d", "abc", {}), ("c", "abc", {"tries": 0}), ("c", "abc, changed", {"commit": "abc, changed"})],
)
def test_a_row_is_made_again_where_it_could_be_another(command, commit, changes):
    assert made_by("c", "abc", [ROW]) == [ROW]
    assert made_by(command, commit, [dataclasses.replace(ROW, **changes)]) == []

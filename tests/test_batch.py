"""The batch run: it runs all, redoes only what is out of date, and keeps what failed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest

from jetcorr_utils.batch import run_notebook, run_study
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import Lock, fingerprint, read_json
from jetcorr_utils.run import NOTEBOOKS, RunFolder

pytestmark = pytest.mark.slow


def _executed(output: str) -> list[str]:
    """The numbers of the notebooks that a run executed, from what it printed."""
    return [line[:2] for line in output.splitlines() if re.match(r"0\d_", line) and not line.endswith("up to date")]


@pytest.fixture
def copied_run(smoke_run, tmp_path):
    """A copy of the smoke run to break, and the command that brings it up to date."""
    folder = RunFolder(shutil.copytree(smoke_run.folder.path, tmp_path / "run"))
    arguments = [folder.path if argument == smoke_run.folder.path else argument for argument in smoke_run.arguments]
    return folder, arguments


def test_a_fresh_run_executes_every_notebook_and_prints_the_results(smoke_run):
    assert _executed(smoke_run.output) == list(NOTEBOOKS)
    assert "pfn" in smoke_run.output.lower()
    assert str(smoke_run.folder.report) in smoke_run.output


def _times(folder: RunFolder) -> dict[Path, int]:
    """When each file of a run was written."""
    return {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_second_run_executes_nothing(smoke_run, cli):
    before = _times(smoke_run.folder)
    assert _executed(cli(*smoke_run.arguments).stdout) == []
    assert before == _times(smoke_run.folder)


def test_a_deleted_figure_redoes_the_notebook_that_draws_it(copied_run, cli):
    folder, arguments = copied_run
    deleted = next(
        folder.path / name
        for name in read_json(folder.state)["stages"]["06"]["outputs"]
        if name.startswith("figures/") and name.endswith(".png")
    )
    deleted.unlink()
    assert _executed(cli(*arguments).stdout) == ["06"]
    assert deleted.is_file()


def test_a_changed_setting_redoes_what_reads_it(copied_run, cli):
    folder, arguments = copied_run
    assert _executed(cli(*arguments, "-p", "physics.replicas", "10").stdout) == ["06"]
    assert read_json(folder.state)["study"]["physics"]["replicas"] == 10


def test_the_record_of_a_run_is_complete(smoke_run):
    record = read_json(smoke_run.folder.state)
    assert list(record["stages"]) == list(NOTEBOOKS)
    assert record["versions"]["torch"]
    assert record["seeds"]["training"] == {"pfn": 1}
    assert all(len(file["sha256"]) == 64 for file in record["data"]["files"])
    for stage in record["stages"].values():
        assert stage["seconds"] > 0
        for name, checksum in stage["outputs"].items():
            assert fingerprint(smoke_run.folder.path / name) == checksum


def test_a_failing_notebook_is_kept_and_stops_the_run(cli, tmp_path):
    result = cli("run", "--study", "smoke", "--out", tmp_path, "-p", "data.files", "[missing.root]", check=False)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-2:]
    assert "01_data_exploration stopped at cell" in last[0]
    assert "missing.root" in last[0]
    assert _executed(result.stdout) == ["01"]
    kept = nbformat.read(tmp_path / "notebooks" / "01_data_exploration.ipynb", as_version=4)
    assert any(output.output_type == "error" for cell in kept.cells for output in cell.get("outputs", []))
    assert "01" not in read_json(tmp_path / "run.json")["stages"]


def test_two_runs_do_not_share_a_folder(tmp_path):
    with Lock(tmp_path / ".lock", "run"), pytest.raises(InputError, match="another run"):
        run_notebook("01", "smoke", tmp_path)


def test_an_unknown_notebook_is_refused(tmp_path):
    with pytest.raises(InputError, match="07"):
        run_notebook("07", "smoke", tmp_path)


@pytest.mark.parametrize("name", ["WORKRES", "STUDY", "RUN_DIR"])
def test_a_parameter_that_no_notebook_has_is_refused(name, tmp_path):
    with pytest.raises(InputError, match=f"{name}: no notebook has it; there are .*WORKERS"):
        run_study("smoke", tmp_path, {name: "2"})


def test_a_parameter_that_is_not_yaml_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"WORKERS.*not YAML"):
        run_study("smoke", tmp_path, {"WORKERS": "[2"})

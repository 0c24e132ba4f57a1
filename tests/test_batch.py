"""The batch run: it runs all, redoes only what is out of date, and keeps what failed."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
import uproot

from jetcorr_utils.batch import NotebookError, _Data, _prepare, run_notebook, run_study, why_outdated
from jetcorr_utils.cli import _results
from jetcorr_utils.config import SplitSettings, load_study
from jetcorr_utils.correct import write_predictions
from jetcorr_utils.data import load_clouds
from jetcorr_utils.errors import InputError
from jetcorr_utils.files import Lock, fingerprint, read_json, write_json
from jetcorr_utils.inference.open_predictors import open_predictors
from jetcorr_utils.jets.columns import BRANCHES
from jetcorr_utils.notebooks import NOTEBOOKS
from jetcorr_utils.run import RunFolder
from jetcorr_utils.simulation.ntuple import create_tree
from jetcorr_utils.training import load_result

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


@pytest.mark.skipif("JETCORR_SMOKE_RUN" in os.environ, reason="JETCORR_SMOKE_RUN is set: the run need not be fresh")
def test_a_fresh_run_executes_every_notebook_and_prints_the_results(smoke_run):
    assert _executed(smoke_run.output) == list(NOTEBOOKS)
    assert "pfn" in smoke_run.output.lower()
    assert str(smoke_run.folder.report) in smoke_run.output
    assert not list(smoke_run.folder.path.parent.rglob("HIT"))  # its name is a command for a shell


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
        for name in read_json(folder.state)["stages"]["03"]["outputs"]
        if name.startswith("figures/") and name.endswith(".png")
    )
    deleted.unlink()
    assert _executed(cli(*arguments).stdout) == ["03"]
    assert deleted.is_file()


def test_a_changed_setting_redoes_what_reads_it(copied_run, cli):
    folder, arguments = copied_run
    assert _executed(cli(*arguments, "-p", "physics.replicas", "10").stdout) == ["06"]
    assert read_json(folder.state)["study"]["physics"]["replicas"] == 10


def test_a_moved_run_folder_and_moved_data_are_up_to_date(copied_run, cli, sample, tmp_path):
    folder, arguments = copied_run
    moved = shutil.move(folder.path, tmp_path / "moved")
    data = str(shutil.copy(sample, tmp_path / "other name.root"))
    arguments = [moved if argument == folder.path else argument for argument in arguments]
    assert _executed(cli(*arguments, "-p", "data.files", json.dumps(data)).stdout) == []


def test_relative_data_files_count_from_the_current_folder_in_notebooks_too(tmp_path, monkeypatch, sample):
    """Also where the folder in which notebooks work, or the project, has a file of the same name."""
    own = tmp_path / "data" / "sample" / "jets.root"
    own.parent.mkdir(parents=True)
    shutil.copy(sample, own)
    (tmp_path / "list.txt").write_text("data/sample/*.root\nhttps://example.org/a.root\nmissing.root\n")
    monkeypatch.chdir(tmp_path)
    for files in ("data/sample/jets.root", "data/sample/*.root", "list.txt", "missing.root"):
        *_, study, _ = _prepare("smoke", tmp_path / "run", {"data.files": files})
        local = [file for file in study.data.files if not file.startswith("https://")]
        assert all(Path(file).is_absolute() and Path(file).is_relative_to(tmp_path) for file in local), study.data.files
    monkeypatch.chdir(tmp_path / "data")
    *_, study, _ = _prepare("smoke", tmp_path / "run", {"data.files": "data/sample/jets.root"})
    assert study.data.files == (str(sample),)  # not below the current folder: the project's


def _reasons(folder: RunFolder, arguments: list, files: object) -> list[str | None]:
    """Why each stage would run with these data files."""
    parameters = {"data.directory": str(arguments[-1]), "data.files": files}
    run, study, own = _prepare("smoke", folder.path, parameters)
    return [why_outdated(stage, study, run, own, _Data(study.data)) for stage in NOTEBOOKS.values()]


def test_a_replaced_data_file_redoes_all_and_is_named(copied_run, tmp_path, sample):
    folder, arguments = copied_run
    file = tmp_path / "jets.root"
    shutil.copy(sample, file)
    assert _reasons(folder, arguments, str(file)) == [None] * 6
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # by its size and time it is the same
    assert _reasons(folder, arguments, str(file)) == ["data file jets.root was changed"] * 6
    assert _reasons(folder, arguments, [str(sample), str(file)]) == ["data file jets.root is new"] * 6
    file.unlink()
    assert _reasons(folder, arguments, str(file)) == ["its data files are missing"] + [None] * 5


def test_a_network_is_not_exported_with_notes_of_other_data(copied_run, cli, tmp_path, sample):
    _, arguments = copied_run
    with uproot.open(sample) as source, uproot.recreate(tmp_path / "fewer.root") as file:
        jets = source["AK4jets/jetTree"].arrays(entry_stop=1500)
        create_tree(file).extend({name: jets[name] for name in BRANCHES})
    change = ("-p", "data.files", json.dumps(str(tmp_path / "fewer.root")), "--from", "04")
    result = cli(*arguments, *change, check=False)
    assert result.returncode == 1
    assert (
        "02_gnn_training: left as it is, because the run starts from 04; data file fewer.root is new" in result.stdout
    )
    assert "this network was trained on jets of other files than the study has now" in result.stderr


def test_jets_that_may_have_been_trained_on_are_not_predicted(smoke_run, tmp_path):
    study = load_study("smoke", {"data.directory": str(smoke_run.data)})
    predictors = open_predictors(smoke_run.folder.model_repository)
    smaller = {"test": 0.3, "validation": 0.1, "seed": 0}
    for split, refused in ((smaller, False), (smaller | {"seed": 1}, True), (smaller | {"validation": 0.3}, True)):
        data = study.data.model_copy(update={"split": SplitSettings.model_validate(split)})
        test = load_clouds(data, progress=False).split("test")
        if not refused:
            assert write_predictions(test, predictors, tmp_path / "out.root", progress=False) == len(test)
            continue
        with pytest.raises(InputError, match="model pfn: was trained with the split"):
            write_predictions(test, predictors, tmp_path / "out.root", progress=False)


@pytest.mark.parametrize(
    "content", [{}, [], {"stages": []}, {"stages": {"01": {}}}, {"stages": {"01": {"key": "a", "outputs": []}}}, 3]
)
def test_a_record_of_another_shape_is_said_to_be_damaged(tmp_path, content):
    write_json(tmp_path / "run.json", content)
    with pytest.raises(InputError, match=r"run\.json: damaged, values are missing"):
        run_study("smoke", tmp_path)


@pytest.mark.parametrize("content", [[], 3, {"pfn": {"pull_width": 1, "resolution_gain": {"0-1.3": 4}}}])
@pytest.mark.parametrize("name", ["metrics.json", "metrics/05.json", "data.json", "model/pfn/result.json"])
def test_other_files_of_another_shape_are_said_to_be_damaged(copied_run, name, content):
    folder, _ = copied_run
    path = folder.path / name
    write_json(path, content)
    ask = {
        "metrics.json": lambda: _results(folder), "metrics/05.json": lambda: folder.record("06", {}),
        "data.json": lambda: folder.source, "model/pfn/result.json": lambda: load_result(folder.model("pfn")),
    }[name]  # fmt: skip
    if isinstance(content, dict) and name in ("metrics/05.json", "data.json"):
        ask()
        return
    with pytest.raises(InputError, match=f"{name}: damaged"):
        ask()


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


@pytest.mark.parametrize("kind", ["symbolic", "hard", "folder"])
def test_an_executed_notebook_is_not_written_over_another_file(kind, tmp_path):
    study, run, victim = tmp_path / "broken.yaml", tmp_path / "run", tmp_path / "victim" / "01_data_exploration.ipynb"
    study.write_text("data: {files: [missing.root]}\nmodels: {pfn: {architecture: pfn}}\n", encoding="utf-8")
    victim.parent.mkdir()
    victim.write_text("of another", encoding="utf-8")
    output = run / "notebooks" / victim.name
    run.mkdir()
    if kind == "folder":
        output.parent.symlink_to(victim.parent)
    else:
        output.parent.mkdir()
        (output.symlink_to if kind == "symbolic" else output.hardlink_to)(victim)
    refused = InputError if kind != "hard" else NotebookError  # which leaves the notebook with its error
    with pytest.raises(refused):
        run_notebook("01", study, run)
    assert victim.read_text(encoding="utf-8") == "of another"
    assert kind != "hard" or "missing.root" in output.read_text(encoding="utf-8")


@pytest.mark.parametrize("value", ["!!binary aGk=", ".inf", "{1: 2}", b"__import__('os')", {"a", "b"}])
def test_a_parameter_that_papermill_would_not_quote_is_refused(value, tmp_path):
    with pytest.raises(InputError, match=r"LOG_DIR.*(use texts|is not known here)") as error:
        run_study("smoke", tmp_path, {"LOG_DIR": value})
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "value"), [("off", False), ("no", False), ("on", True), ("false", False)])
def test_a_boolean_parameter_is_never_a_text_that_counts_as_true(text, value, tmp_path):
    *_, own = _prepare("smoke", tmp_path, {"TENSORBOARD": text})
    assert own == {"TENSORBOARD": value}
    with pytest.raises(InputError, match="TENSORBOARD: 'perhaps' is neither true nor false"):
        run_study("smoke", tmp_path, {"TENSORBOARD": "perhaps"})

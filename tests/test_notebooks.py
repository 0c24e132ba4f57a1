"""The six notebooks: as committed, and as executed on the study `smoke`."""

from __future__ import annotations

import ast
import base64

import nbformat
import papermill
import pytest
import uproot

from jetcorr_utils.config import load_study
from jetcorr_utils.files import read_json
from jetcorr_utils.notebooks import NOTEBOOKS

PATHS = {number: notebook.path for number, notebook in NOTEBOOKS.items()}
PT_BINS = ["30-inf", "30-100", "100-300", "300-1000", "1000-inf"]
ETA_BINS = ["0-1.3", "1.3-2.5", "0-2.5"]


@pytest.fixture(params=PATHS, scope="module")
def committed(request):
    return nbformat.read(PATHS[request.param], as_version=4)


def _code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_notebook_is_committed_without_outputs(committed):
    assert not any(cell.outputs or cell.execution_count for cell in _code(committed))


def test_notebook_has_one_parameters_cell_that_starts_alike(committed):
    tagged = [cell for cell in _code(committed) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    names = [target.id for node in ast.parse(tagged[0].source).body for target in node.targets]
    assert names[:2] == ["STUDY", "RUN_DIR"]
    assert all(name.isupper() for name in names)


def test_notebook_holds_no_logic_of_its_own(committed):
    logic = ast.FunctionDef | ast.ClassDef | ast.While | ast.Try
    for cell in _code(committed):
        assert not any(isinstance(node, logic) for node in ast.walk(ast.parse(cell.source)))
        assert len(cell.source.splitlines()) <= 25


def test_notebook_tells_a_story(committed):
    kinds = [cell.cell_type for cell in committed.cells]
    assert kinds[0] == "markdown"
    assert kinds.count("markdown") * 2 >= kinds.count("code")


@pytest.mark.parametrize("path", PATHS.values(), ids=list(PATHS))
def test_papermill_finds_the_parameters(path):
    found = papermill.inspect_notebook(str(path))
    assert {"STUDY", "RUN_DIR"} <= found.keys()


@pytest.mark.slow
@pytest.mark.parametrize("number", PATHS)
def test_executed_notebook_has_no_error_and_no_warning(smoke_run, number):
    executed = nbformat.read(smoke_run.folder.notebooks / PATHS[number].name, as_version=4)
    for cell in _code(executed):
        assert cell.execution_count, f"not executed: {cell.source}"
        for output in cell.outputs:
            assert output.output_type != "error"
            assert "Warning" not in output.get("text", "")


@pytest.mark.slow
def test_every_figure_is_there_as_png_and_pdf(smoke_run):
    png = {path.stem for path in smoke_run.folder.figures.glob("*.png")}
    assert len(png) >= 15
    assert png == {path.stem for path in smoke_run.folder.figures.glob("*.pdf")}


@pytest.mark.slow
def test_every_figure_is_shown_as_its_file_has_it(smoke_run):
    """But for the history of a training, which is shown while it grows."""
    executed = [nbformat.read(smoke_run.folder.notebooks / path.name, as_version=4) for path in PATHS.values()]
    outputs = [output for notebook in executed for cell in _code(notebook) for output in cell.outputs]
    shown = {base64.b64decode(o.data["image/png"]) for o in outputs if "image/png" in o.get("data", {})}
    unseen = {path.stem for path in smoke_run.folder.figures.glob("*.png") if path.read_bytes() not in shown}
    assert unseen == {"02_history_pfn"}


@pytest.mark.slow
def test_metrics_have_the_agreed_layout(smoke_run):
    metrics = read_json(smoke_run.folder.metrics)
    for name in load_study("smoke").models:
        model = metrics[name]
        for gain in ("resolution_gain", "flavour_gain", "closure"):
            assert list(model[gain]) == ETA_BINS
            for row in model[gain].values():
                assert list(row) == PT_BINS
                assert all({"value", "error"} <= entry.keys() for entry in row.values())
        assert 0 < model["mae"] < 0.2
        assert 0.5 < model["pull_width"] < 2
        assert 0.4 < model["coverage68"] < 0.9
        for speed in metrics["inference"][name].values():
            assert speed["jets_per_s"] > 0
            assert speed["model_us_per_jet"] > 0
    assert abs(metrics["baseline"]["closure"]["0-2.5"]["30-inf"]["value"]) < 0.05
    assert metrics["tuning"]["trials"] == load_study("smoke").tuning.trials
    assert metrics["tuning"]["best_mae"] < 0.2


@pytest.mark.slow
def test_predictions_have_the_agreed_branches(smoke_run):
    with uproot.open(smoke_run.folder.predictions) as file:
        names = set(file["jets"].keys())
    identifiers = "run lumi event jetPtOrder jetPt jetEta jetRawPt genJetPt genJetEta hadronFlav partonFlav rhoAll"
    assert names >= {*identifiers.split(), "pfn_pt", "pfn_factor", "pfn_sigma"}


@pytest.mark.slow
@pytest.mark.parametrize("number", ["02", "03", "04", "05", "06"])
def test_a_notebook_without_its_predecessor_says_which_to_run(number, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match=r"run notebook 0\d_\w+ first"):
        papermill.execute_notebook(
            str(PATHS[number]), str(tmp_path / "out.ipynb"), cwd=str(PATHS[number].parent), kernel_name="python3",
            parameters={"STUDY": "smoke", "RUN_DIR": str(tmp_path)}, progress_bar=False,
        )  # fmt: skip

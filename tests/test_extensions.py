"""Modules of one's own that a study names: found beside it, run once, known to worker processes; what they add is used.

The files in `tests/examples` are those that CONTRIBUTING.md tells of.
"""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
import uproot

from jetcorr_utils import extensions
from jetcorr_utils.config import load_study
from jetcorr_utils.data import describe, load_clouds
from jetcorr_utils.errors import StudyError
from jetcorr_utils.files import read_json
from jetcorr_utils.inference.model_file import model_metadata
from jetcorr_utils.physics import input_importance, plot_input_importance
from jetcorr_utils.processes import worker_processes
from jetcorr_utils.run import RunFolder
from jetcorr_utils.training import load_model, predict
from jetcorr_utils.tuning.search_plots import plot_correlations
from jetcorr_utils.tuning.search_result import load_search
from tests.toys import own_study, toy_file

MODELS = "models: {pfn: {architecture: pfn}}\n"


@pytest.fixture
def study_file(tables, tmp_path):
    """A study in a folder of its own."""

    def write(extension: str) -> str:
        (tmp_path / "study.yaml").write_text(f"extensions: {extension}\n{MODELS}", encoding="utf-8")
        return str(tmp_path / "study.yaml")

    return write


def test_a_file_beside_the_study_is_run_once_and_found_from_another_folder(study_file, tmp_path):
    (tmp_path / "counted_extension.py").write_text("import sys\nsys.counted = getattr(sys, 'counted', 0) + 1\n")
    study = load_study(study_file("counted_extension.py"))
    assert study.extensions == (str(tmp_path / "counted_extension.py"),)
    load_study(study_file("counted_extension"))
    load_study(study_file(f"[{study.extensions[0]}]"))
    assert sys.__dict__.pop("counted") == 1
    assert extensions.source_files() == [tmp_path / "counted_extension.py"]


def test_an_installed_module_is_one_too(study_file):
    assert load_study(study_file("[tests.tasks]")).extensions == ("tests.tasks",)
    assert "tests.tasks" in sys.modules


def test_workers_know_what_the_extension_defines(study_file, tmp_path):
    (tmp_path / "sent_extension.py").write_text("class Sent(int):\n    pass\n")
    load_study(study_file("sent_extension.py"))
    value = sys.modules["sent_extension"].Sent(3)
    with worker_processes(1) as executor:
        answer = executor.submit(abs, value).result()
        assert executor.submit(type(value), 4).result() == 4
    assert answer == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("missing.py", None, "missing.py: there is no such file"),
        ("no_such_module", None, "'no_such_module': neither a Python file beside the study nor a module"),
        ("not-a-name.py", "", "letters, digits and underscores"),
        ("json.py", "", "another module is called 'json'"),
        ("broken_extension.py", "a = 1\nb = a +\n", "broken_extension.py: SyntaxError: invalid syntax"),
        ("failing_extension.py", "1 / 0", "failing_extension.py: ZeroDivisionError: division by zero"),
        ("exiting_extension.py", "raise SystemExit", "exiting_extension.py: SystemExit"),
        ("{a: b}", None, "extensions.0"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(name, text, message, study_file, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        load_study(study_file(name))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def _texts(figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}


@pytest.mark.slow
def test_a_network_columns_a_metric_and_a_format_of_ones_own_arrive_everywhere(tables, cli, sample, tmp_path):
    study = own_study(tmp_path)
    toys = toy_file(sample, tmp_path)
    printed = cli("run", "--study", "my_study.yaml", "--out", "run", cwd=tmp_path).stdout
    run = RunFolder(tmp_path / "run")
    shown = {path.name for path in run.figures.iterdir()}

    assert describe(str(toys)).format == "Toy"
    settings = study.data.model_copy(update={"files": (str(toys),), "directory": tmp_path / "data"})
    clouds = load_clouds(settings, study.models["mine"].features, progress=False)
    assert (clouds.columns[-1], clouds.jet_columns[-1]) == ("PF_energy", "charged")
    eta = clouds.particle("PF_dEta") + np.repeat(clouds.jet("jetEta"), clouds.multiplicity)
    energy = np.hypot(clouds.particle("PF_pT") * np.cosh(eta), clouds.particle("PF_mass"))
    np.testing.assert_allclose(clouds.particle("PF_energy"), energy, rtol=1e-4)
    assert 1 < clouds.jet("charged").mean() < clouds.multiplicity.mean()

    model = load_model(run.model("mine"))  # trained
    assert type(model).__name__ == "DeepSets"
    assert "log_energy" in model.inputs.particle_names
    assert "charged" in model.inputs.jet_names
    assert "PF_energy" in (run.model("mine") / "model_card.md").read_text(encoding="utf-8")
    few = clouds.split("validation").slice(0, 50)
    attention = plot_input_importance(input_importance(few, lambda jets: predict(model, jets)[0]), "mine")
    assert any("energy" in text for text in _texts(attention))
    assert any("charged particles" in text for text in _texts(attention))
    assert "02_inputs_mine.png" in shown

    found = load_search(run.tuning)  # searched
    assert found.complete["far_off"].between(0, 0.5).all()
    assert set(found.best_values) == {"width", "pooling"}
    assert "With jets far off" in _texts(plot_correlations(found))

    noted = model_metadata(run.model_repository / "mine" / "1" / "model.onnx")  # exported
    assert json.loads(noted["particle_features"])[-1] == "PF_energy"
    for kept in ("training_range", "training_summary"):  # what is corrected is compared with them
        assert {"PF_energy", "charged"} <= {name.rpartition(": ")[2] for name in json.loads(noted[kept])}

    with uproot.open(run.predictions) as file:  # served
        served = file["jets"]["mine_factor"].array(library="np")
    assert len(served) > 500
    assert 0.5 < np.median(served) < 1.5

    measured = read_json(run.metrics)
    bins = measured["mine"]["far_off"]["0-2.5"]
    assert 0 <= bins["30-inf"]["value"] < 0.5
    assert measured["baseline"]["far_off"]["0-2.5"]["30-inf"]["value"] is not None
    assert re.search(r"jets far off +\| 0-2.5 +\| 30\+ +\| \d+\.\d ± ", printed)
    assert {"06_far_off.png", "06_pull.png"} <= shown

    model_file = run.model_repository / "mine"
    refused = cli("correct", sample, "--model", model_file, "--out", tmp_path / "out.root", check=False)
    assert refused.returncode == 2
    assert "features 'energy'" in refused.stderr
    assert "--extension" in refused.stderr
    arguments = ("--model", model_file, "--extension", tmp_path / "my_columns.py")  # the network's code is in the file
    cli("correct", sample, "--out", tmp_path / "out.root", *arguments)
    cli("correct", toys, "--out", tmp_path / "toys_out.root", "--extension", tmp_path / "my_formats.py", *arguments)
    with uproot.open(tmp_path / "out.root") as one, uproot.open(tmp_path / "toys_out.root") as other:
        ours, theirs = (pd.Series(file["jets/mine_pt"].array(library="np")) for file in (one, other))
    assert len(ours) > 1500
    assert ours.equals(theirs)


@pytest.mark.parametrize("name", ["a" * 5000, "a" * 300 + ".py", "x/" * 3000 + "y.py", ".".join("a" * 3000)])
def test_a_name_that_no_file_can_have_is_refused_in_one_line(study_file, name):
    with pytest.raises(StudyError, match=r"extension .*: (neither a Python file|there is no such file)"):
        load_study(study_file(f"[{name}]"))

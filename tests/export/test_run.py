"""The export of a run: the better network, checked, in the run's model repository."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from jetcorr_utils.config import load_study
from jetcorr_utils.data import load_clouds
from jetcorr_utils.errors import InputError, MissingStageError
from jetcorr_utils.export import export_run
from jetcorr_utils.export.export_models import best_checkpoint
from jetcorr_utils.files import fingerprint
from jetcorr_utils.inference import model_metadata, open_predictor
from jetcorr_utils.run import RunFolder
from jetcorr_utils.training import load_result, train
from jetcorr_utils.training.result import save_result


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study and a run folder with one network, trained for an epoch on the committed sample."""
    folder = tmp_path_factory.mktemp("run")
    study = load_study("smoke", {"data.directory": str(folder / "data"), "models.pfn.training.epochs": 1})
    clouds = load_clouds(study.data, "open", progress=False)
    run = RunFolder(folder / "run")
    train(study.models["pfn"], clouds.split("train"), clouds.split("validation"), run.model("pfn"), progress=False)
    return study, run


def test_a_run_without_a_model_says_what_to_run(tmp_path):
    with pytest.raises(MissingStageError, match="run notebook 02"):
        export_run(load_study("smoke"), RunFolder(tmp_path))


def test_export_writes_a_checked_model_with_the_range_of_its_training(trained):
    study, run = trained
    (row,) = export_run(study, run).to_dict("records")
    assert row["model"] == "pfn"
    assert row["from"] == "model/pfn"
    assert max(row["factor"], row["sigma"]) < study.export.tolerance
    assert row["nodes"] > 50
    predictor = open_predictor(run.path)
    assert predictor.name == "pfn"
    metadata = model_metadata(row["file"])
    assert metadata["checkpoint"] == fingerprint(run.model("pfn") / "checkpoint.pt")
    low, high = json.loads(metadata["training_range"])["jetPt"]
    assert study.data.selection.min_pt <= low < high
    before = fingerprint(row["file"])
    export_run(study, run)
    assert fingerprint(row["file"]) == before


def test_the_better_of_the_trained_and_the_tuned_network_is_taken(trained):
    study, run = trained
    tuned = run.tuning / "best"
    shutil.copytree(run.model("pfn"), tuned)
    result = load_result(tuned)
    for shift, expected in ((-0.01, tuned), (+0.01, run.model("pfn"))):
        history = result.history.assign(validation_mae=result.history["validation_mae"] + shift)
        changed = dataclasses.replace(result, history=history, validation_mae=result.validation_mae + shift)
        save_result(changed, tuned, "key", ())
        assert best_checkpoint(study, run, "pfn") == expected


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [("history.csv", lambda text: text.partition("\n")[0] + "\n", r"history\.csv: damaged"),
     ("history.csv", lambda text: "epoch,validation_mae\n1,\n", r"history\.csv: damaged"),
     ("history.csv", lambda text: "epoch,validation_mae\n1,0.01\n", r"history\.csv: damaged"),
     ("history.csv", lambda text: "", r"history\.csv: damaged"),
     ("result.json", lambda text: text.replace('"validation_mae": 0', '"validation_mae": 1'), r"result\.json: damaged"),
     ("result.json", lambda text: text.replace('"parameters": ', '"parameters": 1'), r"result\.json: damaged"),
     ("result.json", lambda text: text.replace('"best_epoch": ', '"best_epoch": 9'), r"result\.json: damaged"),
     ("result.json", lambda text: "{}", r"result\.json: damaged")],
)  # fmt: skip
def test_a_training_whose_records_are_damaged_is_not_exported(trained, tmp_path, file, change, said):
    study, run = trained[0], RunFolder(tmp_path)
    shutil.copytree(trained[1].model("pfn"), run.model("pfn"))
    path = run.model("pfn") / file
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        best_checkpoint(study, run, "pfn")

"""Inputs by name: sets, groups and columns, in any mixture, from the files to the corrected jets."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot

from jetcorr_utils.config import load_study
from jetcorr_utils.correct import correct_files
from jetcorr_utils.data import iterate_jets, load_clouds
from jetcorr_utils.data.dataset import clouds_from_jets
from jetcorr_utils.errors import InputError
from jetcorr_utils.export import export_run
from jetcorr_utils.inference import open_predictor
from jetcorr_utils.jets.columns import VERTICES, candidates_of, groups_of, jet_columns, particle_columns, together
from jetcorr_utils.models.inputs import CloudInputs
from jetcorr_utils.run import RunFolder
from jetcorr_utils.training import load_model, predict, train

AXIS = ("PF_pT", "PF_dEta", "PF_dPhi", "jetPt", "jetEta")


def test_the_inputs_of_the_paper():
    assert particle_columns("paper") == ("PF_dEta", "PF_dPhi", "PF_pT", "PF_dR", "PF_dTheta")
    assert jet_columns("paper") == (
        "jetPt", "jetEta", "jetPhi", "jetMass", "jetArea", "QG_ptD", "QG_axis2", "QG_mult"
    )  # fmt: skip
    inputs = CloudInputs("paper")
    assert {"log_pt", "log_pt_over_jet", "d_eta", "d_phi", "PF_dTheta", "PF_dR"} <= {*inputs.particle_names}
    assert {"log_pt", "abs_eta", "jetPhi", "area", "qg_ptd", "log_qg_axis2", "log_qg_mult"} <= {*inputs.jet_names}
    assert candidates_of("paper", "jet") == ("window", 100)
    assert candidates_of("open", "jet") == ("jet", None)


def test_columns_stand_beside_groups():
    features = ("rhoAll", "PF_mass", *AXIS, "class")
    assert groups_of(features) == ["class", "PF_pT", "PF_dPhi", "PF_dEta", "PF_mass", "jetPt", "jetEta", "rhoAll"]
    assert particle_columns(features) == ("PF_dEta", "PF_dPhi", "PF_id", "PF_pT", "PF_mass")
    assert jet_columns(features) == ("jetPt", "jetEta", "rhoAll")
    assert groups_of(("open", "rhoAll")) == groups_of("open")  # a group has it already
    assert groups_of(("kinematics", "PF_dR")) == ["kinematics", "PF_dR"]


def test_what_several_models_need_together():
    assert together(["open", "rich"]) == "rich"
    assert together([AXIS, ("kinematics",)]) == ("kinematics",)
    assert together(["paper", "paper"]) == "paper"
    assert particle_columns(together([AXIS, (*AXIS, "PF_dR")])) == ("PF_dEta", "PF_dPhi", "PF_pT", "PF_dR")
    with pytest.raises(InputError, match="see other particles; give each a study"):
        together(["open", "paper"])


def test_the_paper_sees_the_first_hundred_stored_candidates(sample):
    jets = next(iterate_jets(sample, 200))
    clouds = clouds_from_jets(jets, "paper")
    stored = ak.to_numpy(ak.num(jets["particles"]))
    np.testing.assert_array_equal(clouds.multiplicity, np.minimum(stored, 100))
    first = ak.to_numpy(ak.flatten(jets["particles", "PF_pT"][:, :100]))
    np.testing.assert_array_equal(clouds.particle("PF_pT"), first)
    assert (np.abs(clouds.particle("PF_dEta")) > 0.4).any()  # beyond the jet
    with pytest.raises(InputError, match="other candidates"):
        clouds.with_features(AXIS)


def test_nanoaod_serves_the_inputs_of_the_paper(real_data, tmp_path):
    study = load_study("smoke", {"data.files": [str(real_data / "pfnano.root")], "data.directory": str(tmp_path)})
    data = study.data.model_copy(update={"tolerated_strangers": 1.0})
    clouds = load_clouds(data, "paper", progress=False)
    assert len(clouds) > 20
    np.testing.assert_allclose(
        clouds.particle("PF_dR"), np.hypot(clouds.particle("PF_dEta"), clouds.particle("PF_dPhi")), rtol=1e-5
    )


def test_the_inputs_of_the_thesis():
    assert particle_columns("thesis") == ("PF_dEta", "PF_dPhi", "PF_charged", "PF_pT", "PF_vertex")
    assert jet_columns("thesis") == ("jetPt", "jetEta", "jetPhi")
    inputs = CloudInputs("thesis")
    assert {"charged", "secondary_vertex", "log_pt", "d_eta", "d_phi"} <= {*inputs.particle_names}


def test_open_data_lack_vertices_and_say_so_in_one_line(sample, tmp_path):
    """Also if the sample has them: what is read here is a copy without."""
    with uproot.open(sample) as file:
        tree = file["AK4jets/jetTree"]
        names = [name for name in tree.keys() if name not in VERTICES and not name.startswith("n")]  # noqa: SIM118
        columns = tree.arrays(names, entry_stop=50)
    with uproot.recreate(tmp_path / "plain.root") as file:
        tree = file.mktree("AK4jets/jetTree", {name: columns[name].type.content for name in names})
        tree.extend({name: columns[name] for name in names})
    data = load_study("smoke", {"data.files": [str(tmp_path / "plain.root")], "data.directory": str(tmp_path)}).data
    with pytest.raises(InputError, match=r"plain\.root: features 'thesis' need SV_pt and .* use features: open"):
        load_clouds(data, "thesis", progress=False)
    assert len(load_clouds(data, "paper", progress=False)) > 20


@pytest.mark.parametrize(("features", "file"), [
    ("paper", "sample"), (AXIS, "sample"), ("thesis", "nano"),
    (("open", "impact", "puppi", "secondary_vertices"), "nano"),
])  # fmt: skip
def test_a_model_of_such_inputs_is_trained_exported_and_corrects(features, file, sample, real_data, tmp_path):
    path = sample if file == "sample" else real_data / "pfnano.root"
    study = load_study("smoke", {
        "data.directory": str(tmp_path / "data"), "models.pfn.features": features, "models.pfn.training.epochs": 1,
        "data.files": [str(path)], "data.tolerated_strangers": 1.0,
    })  # fmt: skip
    clouds = load_clouds(study.data, study.models["pfn"].features, progress=False)
    run = RunFolder(tmp_path / "run")
    train(study.models["pfn"], clouds.split("train"), clouds.split("validation"), run.model("pfn"), progress=False)
    export_run(study, run)
    correct_files([str(path)], str(run.path), tmp_path / "out.root", tolerated=1.0)
    with uproot.open(tmp_path / "out.root") as opened:
        found = opened["jets"].arrays(["run", "event", "jetPtOrder", "pfn_factor"], library="np")
    model, test = load_model(run.model("pfn")), clouds.split("test")
    expected = np.exp(predict(model, test)[0])
    place = {key: row for row, key in enumerate(zip(found["event"], found["jetPtOrder"], strict=True))}
    rows = [place[key] for key in zip(test.table["event"], test.table["jetPtOrder"], strict=True)]
    np.testing.assert_allclose(found["pfn_factor"][rows], expected, rtol=1e-4)
    assert "PF_pT" in open_predictor(run.path).metadata["training_summary"]

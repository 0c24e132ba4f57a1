"""A column of particles, one of jets and a format, from a file of one's own: they arrive everywhere."""

from __future__ import annotations

import json
import sys

import awkward as ak
import numpy as np
import pytest
import uproot

from jetcorr_utils import extensions
from jetcorr_utils.config import load_study
from jetcorr_utils.correct import correct_files
from jetcorr_utils.data import describe, load_clouds, read_jets
from jetcorr_utils.data.drift import summarise
from jetcorr_utils.data.formats import FORMATS, Format, add_format
from jetcorr_utils.data.ranges import training_range
from jetcorr_utils.errors import InputError, StudyError
from jetcorr_utils.export import export_model
from jetcorr_utils.inference.model_file import model_metadata
from jetcorr_utils.jets.columns import JETS, PARTICLES, TREE, Column, add_column
from jetcorr_utils.physics import input_importance
from jetcorr_utils.training import load_model, predict, train

EXTENSION = '''"""What a study of one's own needs besides the columns and formats of the package."""

import numpy as np

from jetcorr_utils.data import Format, JetReader, add_format
from jetcorr_utils.jets import Column, Fill, add_column, log


def energy(columns):
    momentum = columns["PF_pT"] * np.cosh(columns["PF_dEta"] + columns["jetEta"])
    return {"PF_energy": np.sqrt(momentum**2 + columns["PF_mass"] ** 2)}


class Toy(JetReader):
    format = "Toy"

    def __init__(self, path, tree):
        self.path, self.tree, self.entries = path, tree, tree.num_entries
        self.columns = frozenset(tree.keys())

    def read(self, start, stop, names):
        return {name: self.tree[name].array(entry_start=start, entry_stop=stop) for name in names}


needed = ("PF_pT", "PF_dEta", "PF_mass", "jetEta")
add_column("particle", Column("PF_energy", group="energy", title="energy", unit="GeV",
                              fill=Fill("from pt, eta and mass", energy, needed),
                              features={"log_energy": lambda columns: log(columns["PF_energy"])}))
add_column("jet", Column("charged", "int32", group="charge", title="charged particles",
                         sources={"JetNTuple": "jetChargedMult"}))
add_format(Format("Toy", Toy, tree="toys"))
'''
STUDY = """extensions: own.py
tuning: {{model: mine}}
data: {{files: ["{sample}"], directory: "{folder}", candidates: jet}}
models:
  mine: {{architecture: pfn, features: [open, energy, charge], conv_dim: 8, fc_dim: 8,
          training: {{epochs: 1, warmup: 0}}}}
"""


@pytest.fixture
def tables(monkeypatch):
    """What a test adds to the tables is taken out again."""
    monkeypatch.setattr(extensions, "_loaded", {})
    before = [(table, dict(table)) for table in (JETS, PARTICLES, FORMATS)]
    yield
    sys.modules.pop("own", None)
    for table, content in before:
        table.clear()
        table.update(content)


@pytest.fixture
def study(tables, sample, tmp_path):
    (tmp_path / "own.py").write_text(EXTENSION, encoding="utf-8")
    (tmp_path / "study.yaml").write_text(STUDY.format(sample=sample, folder=tmp_path / "data"), encoding="utf-8")
    return load_study(str(tmp_path / "study.yaml"))


def toy_file(sample, path, without=()):
    """The first jets of the sample as a file of the format of the extension."""
    with uproot.open(sample) as file:
        jets = file[TREE].arrays(entry_stop=300)
    columns = {name: jets[name] for name in jets.fields if name in JETS or name in PARTICLES}
    columns |= {"charged": jets["jetChargedMult"]}
    for name in without:
        del columns[name]
    types = {name: ak.type(values).content for name, values in columns.items()}
    with uproot.recreate(path) as file:
        file.mktree("toys", types, counter_name=lambda _: "nPF").extend(columns)
    return path


def test_columns_and_a_format_of_ones_own_arrive_everywhere(study, sample, tmp_path, cli):
    settings = study.models["mine"]
    clouds = load_clouds(study.data, settings.features, progress=False)
    assert (clouds.columns[-1], clouds.jet_columns[-1]) == ("PF_energy", "charged")
    eta = clouds.particle("PF_dEta") + np.repeat(clouds.jet("jetEta"), clouds.multiplicity)
    energy = np.hypot(clouds.particle("PF_pT") * np.cosh(eta), clouds.particle("PF_mass"))
    np.testing.assert_allclose(clouds.particle("PF_energy"), energy, rtol=1e-4)
    assert 1 < clouds.jet("charged").mean() < clouds.multiplicity.mean()

    train(settings, clouds.split("train"), clouds.split("validation"), tmp_path / "model", progress=False)
    model = load_model(tmp_path / "model")
    assert "log_energy" in model.inputs.particle_names
    assert "charged" in model.inputs.jet_names
    assert "PF_energy" in (tmp_path / "model" / "model_card.md").read_text(encoding="utf-8")

    few = clouds.slice(0, 100)
    shown = input_importance(few, lambda jets: predict(model, jets)[0])
    assert {"particle: energy", "jet: charged particles"} <= set(shown["input"])
    notes = {"training_range": training_range(clouds), "training_summary": summarise(clouds), "candidates": "jet"}
    assert {"photons: PF_energy", "charged"} <= set(notes["training_summary"])
    assert {"PF_energy", "charged"} <= set(notes["training_range"])

    onnx = export_model(model, tmp_path / "mine.onnx", metadata=notes)
    noted = model_metadata(onnx)
    assert json.loads(noted["features"]) == ["open", "energy", "charge"]
    assert json.loads(noted["particle_features"])[-1] == "PF_energy"

    toys = toy_file(sample, tmp_path / "toys.root")
    assert describe(toys).format == "Toy"
    assert ak.all(read_jets(toys)["jetPt"] == read_jets(sample, max_jets=300)["jetPt"])
    for file, jets in ((toys, 300), (sample, 2000)):
        assert correct_files([file], onnx, tmp_path / "out.root", progress=False).corrected > 0.8 * jets
    answer = cli("correct", sample, "--model", onnx, "--out", tmp_path / "other.root", check=False)
    assert answer.returncode == 2
    assert "features 'energy'" in answer.stderr
    assert "--extension" in answer.stderr
    arguments = ("--model", onnx, "--out", tmp_path / "other.root", "--extension", tmp_path / "own.py")
    cli("correct", sample, *arguments)
    with uproot.open(tmp_path / "out.root") as ours, uproot.open(tmp_path / "other.root") as other:
        assert ak.all(ours["jets/mine_pt"].array() == other["jets/mine_pt"].array())


def test_what_a_file_lacks_is_named(study, sample, tmp_path):
    toys = toy_file(sample, tmp_path / "toys.root", without=("charged",))
    settings = study.data.model_copy(update={"files": (str(toys),)})
    with pytest.raises(InputError, match=r"toys\.root: features .* need charged, which it lacks; use features: open"):
        load_clouds(settings, study.models["mine"].features, progress=False)


def test_names_that_are_taken_or_unknown_are_refused(tables, tmp_path):
    with pytest.raises(InputError, match="column PF_pT: there is one of this name"):
        add_column("particle", Column("PF_pT"))
    with pytest.raises(InputError, match="column jetPt2: there is a feature log_pt of a jet already"):
        add_column("jet", Column("jetPt2", features={"log_pt": lambda columns: columns["jetPt2"]}))
    with pytest.raises(InputError, match="column PF_mine: the group kinematics is that of trained models"):
        add_column("particle", Column("PF_mine", group="kinematics"))
    with pytest.raises(InputError, match="format NanoAOD: there is one of this name"):
        add_format(Format("NanoAOD", object, tree="x"))
    with pytest.raises(InputError, match="format Mine: its files are recognised like those of NanoAOD"):
        add_format(Format("Mine", object, tree="Events"))
    with pytest.raises(InputError, match="format Mine: say by which tree"):
        add_format(Format("Mine", object))
    path = tmp_path / "study.yaml"
    path.write_text("models: {pfn: {architecture: pfn, features: [kinematics, colour]}}\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"models\.pfn.*'colour': there are the sets open, rich and the groups kinem"):
        load_study(str(path))

"""A network of one's own in one file, which only the study names: trained, searched, exported, used, and in figures."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jetcorr_utils import physics
from jetcorr_utils.architectures import ARCHITECTURES, Architecture, NetworkSettings, add_architecture, expected_cost
from jetcorr_utils.config import load_study
from jetcorr_utils.data import load_clouds
from jetcorr_utils.errors import InputError, StudyError
from jetcorr_utils.export import check_parity, export_model, export_run
from jetcorr_utils.export.graphs import PaddedPfn, TracedNetwork, padded_network
from jetcorr_utils.inference import OnnxPredictor
from jetcorr_utils.models import build_model
from jetcorr_utils.plain_yaml import dump_yaml
from jetcorr_utils.processes import worker_processes
from jetcorr_utils.run import RunFolder
from jetcorr_utils.style import title_of
from jetcorr_utils.training import load_model, train_models
from jetcorr_utils.tuning import search
from tests.conftest import jetcorr, restored_tables
from tests.networks import SETTINGS, network, some_clouds

EXAMPLE = Path(__file__).parent / "examples" / "my_networks.py"
STUDY = """
data: {{files: [{sample}], directory: {data}}}
models:
  deep_sets: {{architecture: "my_networks:DeepSets", training: &short {{epochs: 1, batch_size: 400, max_jets: 400}}}}
  deep_sets_2: {{architecture: "my_networks:DeepSets", variant_of: deep_sets, pooling: sum, training: *short}}
  edge_gat2: {{architecture: attention_by_name, k: 4, training: *short}}
extensions: my_networks.py
tuning:
  model: deep_sets_2
  trials: 2
  epochs: 1
  max_jets: 300
  space: {{width: {{min: 8, max: 16}}, pooling: {{choices: [sum, mean]}}}}
"""


@pytest.fixture(scope="module")
def folder(sample, tmp_path_factory):
    """A folder with the study and the file of its networks; what they add to the tables is removed in the end."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copy(EXAMPLE, folder)
    (folder / "study.yaml").write_text(STUDY.format(sample=sample, data=folder / "data"), encoding="utf-8")
    with restored_tables():
        yield folder


@pytest.fixture(scope="module")
def study(folder):
    return load_study(folder / "study.yaml")


@pytest.fixture(scope="module")
def trained(study, folder):
    """The run folder after the trainings, of which one was made in a worker process."""
    run = RunFolder(folder / "run")
    clouds = {name: load_clouds(study.data, model.features) for name, model in study.models.items()}
    train_models(study.models, clouds, run, progress=False, workers=2)
    return run


def test_the_settings_of_its_class_are_those_of_the_study(study, folder):
    assert study.models["deep_sets"].width == 24
    assert study.models["edge_gat2"].k == 4
    with pytest.raises(StudyError, match=r"models.deep_sets.pooling: Input should be 'sum' or 'mean'"):
        load_study(folder / "study.yaml", {"models.deep_sets.pooling": "max"})
    with pytest.raises(StudyError, match=r"models.deep_sets.conv_dim: there is no such setting"):
        load_study(folder / "study.yaml", {"models.deep_sets.conv_dim": 3})


def test_worker_processes_know_it(study):
    settings = study.models["deep_sets"]
    with worker_processes(1) as executor:
        assert executor.submit(expected_cost, settings, 30.0).result() == expected_cost(settings, 30.0)


def test_the_study_of_a_run_finds_it_again_in_another_process(study, folder):
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / "study.yaml").write_text(dump_yaml(study.model_dump(mode="json")), encoding="utf-8")
    code = (
        "from jetcorr_utils.config import load_study; import sys\n"
        "study = load_study('study.yaml')\n"
        "print(study.models['deep_sets'].width, study.extensions, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=folder / "run", capture_output=True, text=True, check=False)
    assert run.stdout == f"24 ('{folder / 'my_networks.py'}',) True\n", run.stderr


def test_a_checkpoint_runs_no_code(trained, folder, monkeypatch):
    for name in study_names(trained):
        assert load_model(trained.model(name)).settings.architecture in ARCHITECTURES
    monkeypatch.delitem(ARCHITECTURES, "my_networks:DeepSets")
    with pytest.raises(InputError, match=r"architecture 'my_networks:DeepSets': .* must be loaded first"):
        load_model(trained.model("deep_sets"))


def study_names(run: RunFolder) -> list[str]:
    return sorted(path.name for path in (run.path / "model").iterdir())


def test_its_own_settings_are_searched(study, folder):
    clouds = load_clouds(study.data, "open")
    result = search(study, clouds.split("train"), clouds.split("validation"), folder / "tuning", progress=False)
    assert set(result.trials["state"]) == {"complete"}
    assert set(result.best_values) == {"width", "pooling"}
    other = load_study(folder / "study.yaml", {"tuning.space": {"conv_dim": {"choices": [4]}}})
    with pytest.raises(StudyError, match="'conv_dim' is not a setting of my_networks:DeepSets; there are fc_layers"):
        search(other, clouds.split("train"), clouds.split("validation"), folder / "none", progress=False)


def test_it_is_exported_used_without_its_code_and_shown(study, trained, folder, sample):
    table = export_run(study, trained)  # each compared with PyTorch jet by jet
    assert table["model"].tolist() == ["deep_sets", "deep_sets_2", "edge_gat2"]
    assert (table[["factor", "sigma"]] < 1e-5).all(axis=None)
    jetcorr("correct", sample, "--model", trained.model_repository, "--out", folder / "out.root", cwd=folder / "run")
    test = load_clouds(study.data, "open").split("test")
    names = list(study.models)
    files = {name: trained.model_repository / name / "1" / "model.onnx" for name in names}
    outputs = {name: OnnxPredictor(file).predict(test) for name, file in files.items()}
    predictions = physics.predictions_table(test.table, outputs)
    assert physics.main_models(physics.model_names(predictions), study.models) == ["deep_sets", "edge_gat2"]
    figure = physics.plot_pull(predictions, names)
    shown = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    for title in ("deep_sets", "deep_sets (2)", "edge_gat2"):
        assert title in map(title_of, names)
        assert any(text.startswith(f"{title}, width") for text in shown)


def test_a_network_without_a_twin_gives_the_same_numbers_as_one_with(tmp_path, monkeypatch):
    pfn = network("pfn")
    assert isinstance(padded_network(pfn), PaddedPfn)
    monkeypatch.setitem(ARCHITECTURES, "pfn", dataclasses.replace(ARCHITECTURES["pfn"], padded=None))
    assert isinstance(padded_network(pfn), TracedNetwork)
    path = export_model(pfn, tmp_path / "pfn.onnx")
    assert max(check_parity(pfn, path, some_clouds(500, 2)).values()) < 1e-5


def test_what_cannot_be_traced_is_said_in_one_line(tmp_path, monkeypatch):
    settings = SETTINGS["pfn"]
    model = build_model(settings)
    monkeypatch.setitem(ARCHITECTURES, "pfn", dataclasses.replace(ARCHITECTURES["pfn"], padded=None))
    model.fast = False
    del model.pool
    model.pool = lambda x, ptr, dim: torch.stack([part.sum(dim=0) for part in x.split(ptr.diff().tolist())])
    with pytest.raises(
        InputError, match=r"^ParticleFlowNetwork: torch cannot trace it .*give it a `padded_class`"
    ) as got:
        export_model(model.eval(), tmp_path / "model.onnx")
    assert "\n" not in str(got.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("transformer", "architecture 'transformer': there are pfn, particlenet.*file:Class"),
        ("my_networks:Nothing", "my_networks has no CloudNetwork or Architecture 'Nothing'"),
        ("my_networks:MLP", "my_networks has no CloudNetwork or Architecture 'MLP'"),
        ("my_network:DeepSets", "extension 'my_network': neither a Python file"),
    ],
)
def test_a_network_that_is_not_there_is_named(folder, architecture, message):
    with pytest.raises(StudyError, match=message):
        load_study(folder / "study.yaml", {"models.deep_sets.architecture": architecture})


def test_a_name_is_given_once():
    with pytest.raises(InputError, match="architecture 'pfn': there is one of this name already"):
        add_architecture("pfn", Architecture("somewhere:Else", NetworkSettings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant_of": "other"}, "models.pfn.variant_of: there is no other model 'other'"),
        ({"seed_of": "pfn"}, "models.pfn.seed_of: there is no other model 'pfn'"),
        ({"scan": "max_jets"}, "models.pfn.scan: 'max_jets' is not a setting; there are .*training.max_jets"),
    ],
)
def test_relations_are_to_models_and_settings_that_there_are(settings, message):
    with pytest.raises(StudyError, match=message):
        load_study("smoke", {f"models.pfn.{name}": value for name, value in settings.items()})


def test_relations_change_no_training():
    pfn = SETTINGS["pfn"]
    assert pfn.model_copy(update={"variant_of": "other", "scan": "fc_dim"}).key() == pfn.key()
    assert pfn.model_copy(update={"fc_dim": 3}).key() != pfn.key()

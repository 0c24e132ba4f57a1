"""Studies: defaults, overrides, and one clear line for every mistake."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils.config import Study, load_study, project_root, study_path
from jetcorr_utils.data.locations import data_directory
from jetcorr_utils.errors import InputError, StudyError
from jetcorr_utils.files import local_path

PFN = {"models": {"pfn": {"architecture": "pfn"}}}
STUDIES = sorted(path.stem for path in (project_root() / "pipelines" / "studies").glob("*.yaml"))


@pytest.fixture
def study_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("models: {pfn: {architecture: pfn}}\n")
    return path


def test_a_text_that_no_path_is_is_one_line(study_file):
    study_file.write_text('data: {directory: "a\\0b"}\nmodels: {pfn: {architecture: pfn}}\n', encoding="utf-8")
    settings = load_study(study_file).data
    for enter in (lambda: local_path("a\0b"), lambda: data_directory(settings)):
        with pytest.raises(InputError, match="a path cannot have a zero byte in it"):
            enter()


@pytest.mark.parametrize("name", ["~", "~/data"])
def test_a_home_is_that_of_the_user(monkeypatch, tmp_path, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = load_study("smoke", {"data.directory": json.dumps(name)}).data
    assert data_directory(settings) == tmp_path / name.removeprefix("~").lstrip("/")
    assert local_path("~no_such_user_is_here/x") == Path("~no_such_user_is_here/x")


@pytest.mark.parametrize(
    ("name", "value"),
    [("data.simulation.seed", -1), ("data.split.seed", 2**31), ("models.pfn.training.seed", -1), ("tuning.seed", -1),
     ("physics.seed", -1), ("tuning.trials", 1001),
     (f"models.{'a' * 65}", {"architecture": "pfn"}), ("name", "a" * 300),
     ("cluster.namespace", "A B"), ("cluster.memory", "much"), ("cluster.volume", "../x"), ("cluster.mount", "x y"),
     ("cluster.image", "a b"), ("cluster.runtime", "A")],
)  # fmt: skip
def test_what_no_generator_file_or_cluster_takes_is_refused(name, value):
    with pytest.raises(StudyError, match="models" if "aaa" in name else re.escape(name)):
        load_study("smoke", {name: value})


@pytest.mark.parametrize(
    "name",
    ["models.pfn.conv_dim", "models.pfn.conv_layers", "models.pfn.fc_dim", "models.pfn.fc_layers", "models.net.k",
     "models.net.blocks", "models.net.conv_dim", "models.pfn.training.batch_size", "data.simulation.jets",
     "data.simulation.reuse", "data.simulation.workers", "tuning.workers", "tuning.trials", "physics.replicas",
     "physics.variation_jets", "export.max_batch_size", "serving.batch_sizes"],
)  # fmt: skip
def test_what_would_take_the_whole_machine_is_refused(name):
    """An own network has settings of its own, which the memory alone limits."""
    with pytest.raises(StudyError, match=rf"{re.escape(name)}(\.0)?: Input should be less than or equal to \d+$"):
        load_study("smoke", {"models.net.architecture": "particlenet", name: 10**12})


def test_a_folder_that_cannot_be_one_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"data\.directory"):
        load_study("smoke", {"data.directory": "''"})
    with pytest.raises(InputError, match="an empty text stands where a path"):
        local_path("")
    with pytest.raises(InputError, match="a path cannot have a zero byte"):
        data_directory(load_study("smoke", {"data.directory": '"a\\0b"'}).data)
    (tmp_path / "file").touch()
    settings = load_study("smoke", {"data.directory": str(tmp_path / "file")}).data
    with pytest.raises(InputError, match=r"data\.directory .*file: is a file, not a folder"):
        data_directory(settings)


@pytest.mark.parametrize("name", STUDIES)
def test_shipped_studies_are_valid(name):
    assert load_study(name).name == name


def test_a_file_of_the_name_of_a_study_needs_its_folder(study_file, tmp_path, monkeypatch):
    study_file.rename(tmp_path / "smoke")
    monkeypatch.chdir(tmp_path)
    assert study_path("smoke") == project_root() / "pipelines" / "studies" / "smoke.yaml"
    assert study_path("./smoke") == Path("smoke")


def test_file_gives_its_name_to_the_study(study_file):
    assert load_study(study_file).name == "mine"


@pytest.mark.parametrize(
    ("stem", "name"),
    [("a 'b\" & $(touch HIT) é {x} [a] *", "a-b-touch-HIT-x-a"), ("é", "study"), (".a", "a"), ("x" * 99, "x" * 64)],
)
def test_a_file_of_any_name_is_a_study(tmp_path, stem, name):
    path = tmp_path / f"{stem}.yaml"
    path.write_text("models: {pfn: {architecture: pfn}}\n")
    assert load_study(path).name == name


def test_what_is_no_file_is_no_study(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.yaml")
    for name in ("folder", "folder.yaml", "quick"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for name, what in (
        ("pipe.yaml", "a pipe"),
        ("folder", "a folder"),
        ("folder.yaml", "a folder"),
        ("/dev/null", "a pipe"),
    ):
        with pytest.raises(StudyError, match=f"study '{name}': is {what}"):
            load_study(name)
    assert load_study("quick").name == "quick"  # one of the project's, whatever else has its name


@pytest.mark.parametrize("name", ["", "data.", ".data", "models..pfn"])
def test_a_name_that_is_none_is_shown(name):
    with pytest.raises(StudyError, match=re.escape(f"parameter {name!r}: is no name of a setting")):
        load_study("smoke", {name: 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [("models.pfn.training.epochs", "true"), ("data.selection.min_pt", "false"), ("serving.batch_sizes", "[1, true]"),
     ("physics.prior", "true"), ("seeds", "{pfn: true}"), ("tuning.max_jets", "true"),
     ("physics.variations", "{a: {generator.tune: true}}")],
)  # fmt: skip
def test_true_is_no_number(name, value):
    with pytest.raises(StudyError, match=rf"{re.escape(name)}.*Input should be a valid (integer|number)"):
        load_study("smoke", {name: value})


@pytest.mark.parametrize(("value", "expected"), [(7, 7), ("7", 7)])
def test_override_by_dotted_name(study_file, value, expected):
    study = load_study(study_file, {"models.pfn.training.epochs": value})
    assert study.models["pfn"].training.epochs == expected


def test_a_study_read_back_from_its_dump_is_equal():
    study = load_study("quick")
    assert Study.model_validate(study.model_dump(mode="json")) == study


def test_settings_cannot_change_after_reading(study_file):
    with pytest.raises(ValueError, match="frozen"):
        load_study(study_file).name = "other"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"models.pfn.training.epocs": 3}, r"models\.pfn.*epocs"),
        ({"models.pfn.training.epochs": 0}, "greater than 0"),
        ({"models.pfn.architecture": "transformer"}, "architecture"),
        ({"models": {}}, "models"),
        ({"models": {"a b": {"architecture": "pfn"}}}, "lower-case letters"),
        ({"tuning.model": "gnn"}, "tuning.model is 'gnn', but models has pfn"),
        ({"tuning.space": {"k": {"choices": []}}}, "tuning.space.k"),
        ({"tuning.space": {"k": {"min": 5, "max": 2}}}, "min 5 is above max 2"),
        ({"tuning.space": {"lr": {"min": 0, "max": 2, "log": True}}}, "min above 0"),
        (
            {"tuning.space": {"conv_dim": {"choices": [32, 64]}}, "seeds": {"pfn": 2}},
            r"pfn_seed2 would be compared with what the search makes of 'pfn'.* pfn_tuned",
        ),
        ({"data.split.test": 0.95}, "leave a share"),
        ({"seeds": {"gnn": 2}}, r"seeds\.gnn: there is no model"),
        ({"seeds": {"pfn": 0}}, r"seeds\.pfn"),
        ({"name.first": "x"}, "no settings of its own"),
        ({"name": "../x"}, "name"),
    ],
)
def test_mistakes_are_named_in_one_line(study_file, overrides, message):
    study_file.write_text("name: mine\nmodels: {pfn: {architecture: pfn}}\n")
    with pytest.raises(StudyError, match=message) as error:
        load_study(study_file, overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("serving.shared_memory", "off", "off"),
        ("serving.shared_memory", "true", "on"),
        ("physics.closure", "yes", True),
        ("export.triton_release", "24.10", "24.10"),
        ("cluster.cpu", "4", "4"),
        ("data.directory", "2026-01-31", "2026-01-31"),
        ("data.files", "a.root", ("a.root",)),
        ("data.files", "[a.root, 24.10]", ("a.root", "24.10")),
        ("data.files", "'*.root'", ("*.root",)),
        ("serving.batch_sizes", "64", (64,)),
        ("data.simulation.slices", "{jets: 10, min_pthat: 1e3}", ({"jets": 10, "min_pthat": 1000, "leading": None},)),
        ("models.pfn.training.learning_rate", "1e-3", 0.001),
        ("tuning.space", "{no: {choices: 4}}", {"no": {"choices": (4,)}}),
        ("physics.variations", "{2026: {generator.tune: 3}}", {"2026": {"generator.tune": 3}}),
    ],
)
def test_settings_are_taken_as_people_write_them(tmp_path, as_file, name, text, expected):
    path = tmp_path / "mine.yaml"
    keys = name.split(".")
    lines = [f"{'  ' * depth}{key}:" for depth, key in enumerate(keys)]
    models = "" if keys[0] == "models" else "models: {pfn: {architecture: pfn}}\n"
    if as_file:
        lines += ["    architecture: pfn"] if keys[0] == "models" else []
        order = "\n".join([*lines[: len(keys) - 1], f"{lines[len(keys) - 1]} {text}", *lines[len(keys) :]])
        path.write_text(f"{models}{order}\n")
        value = load_study(path).model_dump()
    else:
        path.write_text("models: {pfn: {architecture: pfn}}\n")
        value = load_study(path, {name: text}).model_dump()
    for key in keys:
        value = value[key]
    assert value == expected
    assert type(value) is type(expected)


def test_a_pattern_on_the_command_line_needs_no_quotes(study_file):
    assert load_study(study_file, {"data.files": "*.root"}).data.files == ("*.root",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {files: *.root}", r"begins with \* needs quotes"),
        ("tuning: {trials: 3}\ntuning: {epochs: 2}", r"'tuning' is given twice \(line 3"),
        ("data: {files: !!binary aGk=}", "!!binary is not known here"),
        ("tuning: {seed: 12:30}", "tuning.seed: Input should be a valid integer"),
        ("export: {triton_release: [24.10]}", "triton_release"),
    ],
)
def test_what_yaml_would_take_for_something_else_is_said(study_file, text, message):
    study_file.write_text(f"models: {{pfn: {{architecture: pfn}}}}\n{text}\n")
    with pytest.raises(StudyError, match=message) as error:
        load_study(study_file)
    assert "\n" not in str(error.value)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(StudyError, match="quick"):
        load_study("quik")


@pytest.mark.parametrize("text", ["[1, 2", "just text", "- a\n- b", "\x00"])
def test_files_that_are_no_study(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=r"bad\.yaml") as error:
        load_study(path)
    assert "\n" not in str(error.value)


SECTIONS = st.sampled_from(["name", "data", "models", "tuning", "physics", "other"])
VALUES = st.none() | st.integers() | st.text() | st.lists(st.integers())


@given(st.dictionaries(SECTIONS, VALUES))
def test_any_mistyped_study_is_a_study_error(tmp_path_factory, settings):
    import yaml

    path = tmp_path_factory.mktemp("study") / "any.yaml"
    path.write_text(yaml.safe_dump(settings))
    with pytest.raises(StudyError):
        load_study(path)


def test_key_depends_on_values_alone():
    one, two = (Study.model_validate({"name": "a", **PFN}) for _ in range(2))
    assert one.key() == two.key()
    assert one.key() != Study.model_validate({"name": "b", **PFN}).key()


def test_further_seeds_are_models_of_their_own(study_file):
    study = load_study(study_file, {"seeds": "{pfn: 3}", "models.pfn.training": "{epochs: 7, seed: 5}"})
    assert list(study.models) == ["pfn", "pfn_seed2", "pfn_seed3"]
    assert [model.training.seed for model in study.models.values()] == [5, 6, 7]
    assert {model.training.epochs for model in study.models.values()} == {7}
    assert Study.model_validate(study.model_dump(mode="json")) == study

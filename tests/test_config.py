"""Studies: defaults, overrides, and one clear line for every mistake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils.config import Study, load_study, project_root
from jetcorr_utils.errors import StudyError

PFN = {"models": {"pfn": {"architecture": "pfn"}}}
STUDIES = sorted(path.stem for path in (project_root() / "pipelines" / "studies").glob("*.yaml"))


@pytest.fixture
def study_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("models: {pfn: {architecture: pfn}}\n")
    return path


@pytest.mark.parametrize("name", STUDIES)
def test_shipped_studies_are_valid(name):
    assert load_study(name).name == name


def test_file_gives_its_name_to_the_study(study_file):
    assert load_study(study_file).name == "mine"


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

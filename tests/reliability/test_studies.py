"""Studies and parameters of any content: a valid study, or one line that says what is wrong."""

from __future__ import annotations

import copy
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jetcorr_utils.config import Study, load_study, project_root
from jetcorr_utils.errors import InputError, StudyError
from jetcorr_utils.kubeflow.pipeline_parameters import check_parameters

SMOKE = yaml.safe_load((project_root() / "pipelines" / "studies" / "smoke.yaml").read_text())
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=5,
)


def _places(value, path=()):
    """The path of each value inside."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += _places(inner, (*path, key))
    return found


PLACES = _places(Study.model_validate(SMOKE | {"name": "smoke"}).model_dump(mode="json"))


def _refused(error: InputError) -> None:
    assert "\n" not in str(error)


def _load_or_refuse(path, overrides=None) -> Study | None:
    try:
        study = load_study(path, overrides)
    except StudyError as error:
        return _refused(error)
    numbers = [study.data.selection.min_pt, *(model.training.learning_rate for model in study.models.values())]
    assert all(map(math.isfinite, numbers))
    assert load_study(path, overrides).key() == study.key()
    return study


@settings(max_examples=120)
@given(st.sampled_from(PLACES), JUNK, st.booleans())
def test_a_study_with_any_value_in_any_place(tmp_path_factory, place, junk, removed):
    content = copy.deepcopy(SMOKE)
    inner = content
    for key in place[:-1]:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            return
    inner[place[-1]] = junk
    if removed:
        del inner[place[-1]]
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(content))
    _load_or_refuse(path)


@settings(max_examples=120)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_a_study_of_any_bytes(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    _load_or_refuse(path)


BOMB = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])
"""Twelve lines that stand for thirty milliards of values."""


@pytest.mark.parametrize(
    "text",
    ["[" * 1500, "1" * 5000, "2023-13-45", "a: &a [*a]", "a: &a {b: *a}", BOMB,
     "!!python/object/apply:os.system ['true']", "? {a: 1}\n: 2",
     "models: {pfn: {architecture: pfn, training: {learning_rate: .inf}}}", "a: 1\na: 2", "\0", "%"],
)  # fmt: skip
def test_texts_that_break_parsers(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    assert _load_or_refuse(path) is None
    assert _load_or_refuse("smoke", {"models.pfn.training": text}) is None


@settings(max_examples=120)
@given(st.text(max_size=30) | st.sampled_from([".".join(place) for place in PLACES]), JUNK | st.text(max_size=20))
def test_any_override(name, value):
    _load_or_refuse("smoke", {name: value})


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_parameters_of_the_pipeline_are_names_and_paths_or_refused(study, run_dir, data_dir):
    try:
        check_parameters(study, run_dir, data_dir)
    except InputError as error:
        return _refused(error)
    for value in (study, run_dir, data_dir):
        assert all((c.isalnum() and c.isascii()) or c in "._-/" for c in value)

"""YAML as people mean it: what PyYAML's rules of version 1.1 would turn into something else."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils.plain_yaml import as_text, dump_yaml, is_plain, parse_yaml, plain

SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
WRITTEN = st.text() | st.sampled_from(
    ["off", "no", "12:30", "1e-3", "0o17", "0x1f", "2026-01-31", "<<", "~", "1_0", "="]
)
VALUES = st.recursive(
    SCALARS | WRITTEN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WRITTEN, inner, max_size=3)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"), ("No", "No"), ("y", "y"), ("true", True), ("12:30", "12:30"), ("2026-01-31", "2026-01-31"),
        ("1e-3", 0.001), ("1.5E6", 1.5e6), (".5", 0.5), ("017", 17), ("0o17", 15), ("0x1F", 31), ("10_000", 10_000),
        ("~", None), ("", None), ("none", "none"), ("1.2.3", "1.2.3"), ("-.inf", -math.inf), ("'7'", "7"),
    ],
)  # fmt: skip
def test_plain_values_follow_version_1_2(text, value):
    found = parse_yaml(f"a: {text}")["a"]
    assert found == value
    assert isinstance(found, type(value))


@pytest.mark.parametrize("text", ["24.10", "1e-3", "007", "10_000", "4"])
def test_a_number_remembers_how_it_was_written(text):
    assert as_text(parse_yaml(f"[{text}]")) == [text]
    assert as_text(parse_yaml(f"{{{text}: x}}")) == {text: "x"}


@pytest.mark.parametrize("text", ["!!binary aGk=", "!!set {a}", "!!timestamp 2026-01-31", "!!omap [a: 1]", "!x 1"])
def test_only_plain_values_are_known(text):
    with pytest.raises(yaml.YAMLError, match="is not known here"):
        parse_yaml(text)


@pytest.mark.parametrize("text", ["1" * 5000, "0x" + "f" * 5000, "1" * 2000 + ".0"])
def test_a_number_that_nobody_means_is_refused(text):
    """Printed, an integer of thousands of digits is an error of Python's."""
    with pytest.raises(yaml.YAMLError, match=r"a number of [0-9]+ digits"):
        parse_yaml(f"a: {text}")


def test_a_key_given_twice_is_refused_and_one_that_is_merged_in_may_be_overridden():
    with pytest.raises(yaml.YAMLError, match="'epochs' is given twice"):
        parse_yaml("epochs: 3\nseed: 1\nepochs: 30\n")
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}")["b"] == {"x": 3, "y": 2}


@given(VALUES)
def test_what_is_dumped_reads_alike_by_both_versions(value):
    text = dump_yaml(value)
    assert plain(parse_yaml(text)) == yaml.safe_load(text) == value


@given(VALUES)
def test_papermill_writes_plain_values_as_themselves(value):
    import ast

    from papermill.translators import PythonTranslator

    assert is_plain(value)
    assert ast.literal_eval(PythonTranslator.translate(value)) == value


@pytest.mark.parametrize("value", [b"x", (1,), {1}, {1: 2}, math.nan, math.inf, [b"x"], {"a": {None: 1}}, object()])
def test_other_values_are_not_plain(value):
    assert not is_plain(value)


def test_a_mapping_that_overrides_what_it_merges_can_be_merged_itself():
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, y: 3}"
    assert parse_yaml(text)["c"] == {"x": 2, "y": 3}

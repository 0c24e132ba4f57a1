import dataclasses

import pytest

from jetcorr_utils.config import project_root
from jetcorr_utils.simulation import Parameters, parameter_table


def test_every_parameter_has_a_meaning_and_a_source():
    for group in dataclasses.fields(Parameters):
        for item in dataclasses.fields(getattr(Parameters(), group.name)):
            assert item.metadata["meaning"], item.name
            assert item.metadata["source"], item.name
            assert f"| {group.name}.{item.name} |" in parameter_table()
    assert parameter_table() in (project_root() / "data" / "README.md").read_text()


def test_the_key_is_the_same_for_equal_values():
    assert Parameters().key() == Parameters().key()


@pytest.mark.parametrize("group", ["generator", "pileup", "detector"])
def test_the_key_follows_each_value(group):
    settings = getattr(Parameters(), group)
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        other = tuple(2 * v + 1 for v in value) if isinstance(value, tuple) else 2 * value + 1
        changed = dataclasses.replace(Parameters(), **{group: dataclasses.replace(settings, **{item.name: other})})
        assert changed.key() != Parameters().key(), item.name

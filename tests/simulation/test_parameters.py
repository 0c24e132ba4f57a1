import dataclasses

import pytest

from jetcorr_utils.simulation import Parameters, parameter_table
from jetcorr_utils.simulation.parameters import FIXED_BY_COMPARISON


def test_every_parameter_has_a_meaning_and_a_source():
    for group in dataclasses.fields(Parameters):
        for item in dataclasses.fields(getattr(Parameters(), group.name)):
            assert item.metadata["meaning"], item.name
            assert item.metadata["source"], item.name
            assert f"| {group.name}.{item.name} |" in parameter_table()


def test_few_parameters_are_fixed_by_the_comparison_and_none_is_assumed():
    sources = {item.name: item.metadata["source"] for item in dataclasses.fields(Parameters().detector)}
    fixed = {name.removesuffix("_constant").removesuffix("_stochastic") for name, source in sources.items()
             if FIXED_BY_COMPARISON in source}  # fmt: skip
    assert len(fixed) < 10
    assert not [name for name, source in sources.items() if "assumed" in source]


def test_the_key_is_the_same_for_equal_values():
    assert Parameters().key() == Parameters().key()


@pytest.mark.parametrize("group", ["generator", "pileup", "detector", "tracking"])
def test_the_key_follows_each_value(group):
    settings = getattr(Parameters(), group)
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        other = tuple(2 * v + 1 for v in value) if isinstance(value, tuple) else 2 * value + 1
        changed = dataclasses.replace(Parameters(), **{group: dataclasses.replace(settings, **{item.name: other})})
        assert changed.key() != Parameters().key(), item.name

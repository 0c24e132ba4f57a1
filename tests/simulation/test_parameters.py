import dataclasses

from jetcorr_utils.simulation import Parameters, parameter_table
from jetcorr_utils.simulation.parameters import Detector


def test_every_parameter_has_a_meaning_and_a_source():
    for group in dataclasses.fields(Parameters):
        for item in dataclasses.fields(getattr(Parameters(), group.name)):
            assert item.metadata["meaning"], item.name
            assert item.metadata["source"], item.name
            assert f"| {group.name}.{item.name} |" in parameter_table()


def test_the_key_follows_the_values():
    assert Parameters().key() == Parameters().key()
    other = dataclasses.replace(Parameters(), detector=dataclasses.replace(Detector(), track_efficiency=0.9))
    assert other.key() != Parameters().key()

"""The training range of every input: a jet is beyond it if one feature of it, or of one of its particles, is."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from jetcorr_utils.data import ranges
from jetcorr_utils.data.ranges import factor_range, factors_within, inputs_within, range_names, training_range
from jetcorr_utils.jets.columns import jet_columns, particle_columns
from tests.clouds import random_clouds

TRAINING = random_clouds(300, seed=1, features="rich")
NOTES = {
    "training_range": json.dumps(training_range(TRAINING)),
    "factor_range": json.dumps(factor_range(TRAINING)),
}
COLUMNS, JET_COLUMNS = particle_columns("rich"), jet_columns("rich")


def test_every_input_has_a_range_and_the_training_jets_are_within(monkeypatch):
    assert list(training_range(TRAINING)) == range_names("rich")
    assert inputs_within(TRAINING, NOTES).all()
    assert factors_within(TRAINING.target, NOTES).all()
    monkeypatch.setattr(ranges, "CHUNK", 7)
    assert json.dumps(training_range(TRAINING)) == NOTES["training_range"]


@pytest.mark.parametrize("value", [1e30, -1e30, np.nan])
@pytest.mark.parametrize("name", [*JET_COLUMNS, *COLUMNS])
def test_one_value_beyond_the_range_of_its_feature_flags_its_jet(name, value):
    if name in JET_COLUMNS:
        jets = TRAINING.jets.copy()
        jets[5, JET_COLUMNS.index(name)] = value
        clouds = dataclasses.replace(TRAINING, jets=jets)
    else:
        particles = TRAINING.particles.copy()
        particles[TRAINING.ptr[6] - 1, COLUMNS.index(name)] = value
        clouds = dataclasses.replace(TRAINING, particles=particles)
    assert np.flatnonzero(~inputs_within(clouds, NOTES)).tolist() == [5]


def test_a_jet_of_too_many_particles_is_beyond():
    clouds = random_clouds([3, 200], features="rich")
    assert inputs_within(clouds, {"training_range": '{"particles": [1, 100]}'}).tolist() == [True, False]


@pytest.mark.parametrize(("notes", "log_factor"), [(NOTES, 0.6), (NOTES, np.nan), ({}, 3.0), ({}, -1e5)])
def test_a_factor_that_training_did_not_have_is_beyond(notes, log_factor):
    assert factors_within(np.array([0.01, log_factor], np.float32), notes).tolist() == [True, False]

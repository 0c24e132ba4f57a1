"""The drift check: silent for jets like those of the training, with figures for others, however they come in."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from jetcorr_utils.data.drift import DriftCheck, summarise
from tests.networks import some_clouds

TRAINING = some_clouds(4000, 1, "rich")
PF_ID = TRAINING.columns.index("PF_id")


def _check(*chunks, summary=None):
    check = DriftCheck(json.loads(json.dumps(summary or summarise(TRAINING))))
    for chunk in chunks:
        check.add(chunk)
    return check


def test_jets_like_those_of_the_training_give_no_warning():
    assert _check(some_clouds(1500, 2, "rich")).drifts() == []
    assert _check(TRAINING).drifts() == []
    # few jets: what chance does is no drift
    assert _check(some_clouds(20, 3, "rich")).drifts() == []
    assert _check().drifts() == []
    assert _check(TRAINING.slice(0, 0)).drifts() == []


def test_a_shifted_feature_of_the_jets_is_named_with_figures():
    jets = np.array(some_clouds(1500, 2, "rich").jets)
    jets[:, TRAINING.jet_columns.index("rhoAll")] += 12
    (drift,) = _check(replace(some_clouds(1500, 2, "rich"), jets=jets)).drifts()
    assert drift.feature == "rhoAll"
    assert drift.mean == pytest.approx(drift.training_mean + 12, abs=0.5)
    assert drift.distance == pytest.approx(12 / 25, abs=0.05)  # rho is uniform over 25 GeV
    assert "rhoAll: mean 29" in drift.text()


def test_a_shifted_feature_of_one_class_of_particles_is_named_for_this_class_only():
    clouds = some_clouds(1500, 2, "rich")
    particles = np.array(clouds.particles)
    photons = particles[:, PF_ID] == 22
    particles[photons, TRAINING.columns.index("PF_pT")] *= 1.5
    (drift,) = _check(replace(clouds, particles=particles)).drifts()
    assert drift.feature == "photons: PF_pT"
    particles = np.array(clouds.particles)
    particles[photons, PF_ID] = 130
    named = {drift.feature for drift in _check(replace(clouds, particles=particles)).drifts()}
    assert named == {"photons: number in a jet", "neutral hadrons: number in a jet"}


def test_chunks_and_merged_checks_give_what_all_jets_at_once_give():
    clouds = some_clouds(1800, 4, "rich", mean=40)
    summary = summarise(TRAINING)
    whole = _check(clouds, summary=summary)
    parts = _check(clouds.slice(0, 700), summary=summary)
    parts.merge(pickle.loads(pickle.dumps(_check(clouds.slice(700, 1800), summary=summary))))
    assert whole.drifts()
    assert [drift.feature for drift in parts.drifts()] == [drift.feature for drift in whole.drifts()]
    for one, other in zip(parts.drifts(), whole.drifts(), strict=True):
        assert one.distance == pytest.approx(other.distance)
        assert one.mean == pytest.approx(other.mean)


def test_a_large_chunk_is_sampled(monkeypatch):
    monkeypatch.setattr("jetcorr_utils.data.drift.JETS_A_CHUNK", 300)
    clouds = some_clouds(1500, 4, "rich", mean=40)
    assert {drift.feature for drift in _check(clouds).drifts()} >= {"QG_mult"}


def test_the_summary_is_small_repeatable_and_the_same_from_a_sample():
    summary = summarise(TRAINING)
    assert summary == summarise(TRAINING)
    assert len(json.dumps(summary)) < 10_000
    sample = summarise(TRAINING, jets=2000)
    assert sample["rhoAll"]["mean"] == pytest.approx(summary["rhoAll"]["mean"], rel=0.05)


def test_open_features_are_checked_against_a_summary_of_rich_ones():
    clouds = some_clouds(1500, 2)
    assert _check(clouds).drifts() == []


def test_values_that_are_not_finite_are_left_out():
    jets = np.array(TRAINING.jets)
    jets[:50, TRAINING.jet_columns.index("rhoAll")] = np.nan
    assert _check(replace(TRAINING, jets=jets)).drifts() == []

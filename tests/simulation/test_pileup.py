import dataclasses

import numpy as np
from numpy.testing import assert_array_equal

from jetcorr_utils.simulation.parameters import Detector, Pileup
from jetcorr_utils.simulation.pileup import join_pool, overlay


def test_the_pool_has_only_what_can_leave_a_trace(pool):
    assert not np.isin(np.abs(pool.pdg), (12, 14, 16)).any()
    assert pool.pt[pool.charge != 0].min() >= np.float32(Detector().track_min_pt)
    assert np.abs(pool.eta).max() < Detector().max_abs_eta


def test_interactions_vary_around_the_mean_and_are_numbered(pool):
    draw = overlay(pool, 400, Pileup(), np.random.default_rng(1))
    settings = Pileup()
    assert abs(draw.interactions.mean() - settings.mean) < 5 * np.hypot(settings.spread, settings.mean**0.5) / 20
    assert draw.mean.std() > 0.5 * settings.spread
    for i in range(20):
        rows = slice(draw.particles.offsets[i], draw.particles.offsets[i + 1])
        assert draw.particles.vertex[rows].min() >= 1
        assert draw.particles.vertex[rows].max() <= draw.interactions[i]


def test_collisions_are_turned_but_keep_their_pt(pool):
    draw = overlay(pool, 50, dataclasses.replace(Pileup(), mean=1.0, spread=0.0), np.random.default_rng(2))
    assert set(np.round(draw.particles.pt, 6)) <= set(np.round(pool.pt.astype(float), 6))
    assert np.abs(draw.particles.phi).max() <= np.pi


def test_the_same_generator_state_gives_the_same_pileup(pool):
    first, second = (overlay(pool, 10, Pileup(), np.random.default_rng(4)) for _ in range(2))
    assert_array_equal(first.particles.phi, second.particles.phi)


def test_no_pileup_is_possible(pool):
    draw = overlay(pool, 5, dataclasses.replace(Pileup(), mean=0.0, spread=0.0), np.random.default_rng(1))
    assert len(draw.particles) == 0
    assert draw.particles.events == 5


def test_joining_keeps_the_parts_in_order(pool):
    both = join_pool([pool, pool])
    assert both.events == 2 * pool.events
    assert_array_equal(both.pt[: len(pool)], both.pt[len(pool) :])

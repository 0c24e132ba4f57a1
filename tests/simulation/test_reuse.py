"""Collisions that are used several times: other pileup, another detector, the same side of the split."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot

from jetcorr_utils.config import DataSettings, SplitSettings
from jetcorr_utils.data import ensure_files
from jetcorr_utils.data.split import split_of
from jetcorr_utils.jets.columns import TREE
from jetcorr_utils.simulation import simulate
from jetcorr_utils.simulation.parameters import Generator, Parameters, Pileup
from tests.own_detector import few, with_known_corrections

JETS, SEED, COPIES, COLLISIONS = 260, 7, 3, 5
SMALL_POOL = Pileup(pool_events=20)


def small(reuse: int = 1) -> Parameters:
    return Parameters(generator=Generator(events_per_block=COLLISIONS, reuse=reuse), pileup=SMALL_POOL)


@pytest.fixture(scope="module")
def jets(tmp_path_factory) -> ak.Array:
    out = tmp_path_factory.mktemp("reuse")
    files = simulate(JETS, SEED, out, workers=1, progress=False, parameters=small(COPIES))
    return ak.concatenate([uproot.open(path)[TREE].arrays() for path in files])


def test_copies_of_a_collision_are_never_on_both_sides_of_the_split(jets):
    """The scale of the hard process, a number of many digits, says which collision a jet is of."""
    side = split_of(jets.run, jets.lumi, jets.event, SplitSettings(validation=0.2, test=0.4))
    assert set(side) == {0, 1, 2}
    collisions, which = np.unique(jets.pthat, return_inverse=True)
    assert len(collisions) < JETS / (2 * COPIES)
    for collision in range(len(collisions)):
        assert len(set(side[which == collision])) == 1


def test_collisions_have_numbers_of_their_own(jets):
    numbers = {(lumi, event): pthat for lumi, event, pthat in zip(jets.lumi, jets.event, jets.pthat, strict=True)}
    assert len(numbers) == len(set(numbers.values())) == len(np.unique(jets.pthat))
    assert min(jets.event) >= 1
    assert (np.asarray(jets.event - 1) // COLLISIONS == np.asarray(jets.lumi - 1)).all()


def test_copies_have_another_pileup_and_another_detector(jets):
    assert len(np.unique(jets.Pileup_nTrueInt)) > 2 * len(np.unique(jets.pthat))  # it is drawn for each event
    assert len(np.unique(jets.jetRawPt)) == len(jets)
    generated, times = np.unique(ak.to_numpy(jets.genJetPt[jets.jetGenMatch == 1]), return_counts=True)
    assert times.max() == COPIES
    assert len(generated) < 0.6 * len(jets)


def test_the_copies_are_of_the_collisions_that_are_there_without_them(jets, tmp_path):
    (file,) = simulate(30, SEED, tmp_path, workers=1, progress=False, parameters=small())
    once = set(uproot.open(file)[TREE]["pthat"].array())
    assert len(once & set(jets.pthat)) > len(once) / 2  # all but those with jets at the threshold


def test_two_workers_make_the_same_copies(jets, tmp_path):
    files = simulate(JETS, SEED, tmp_path, workers=2, progress=False, parameters=small(COPIES))
    assert ak.array_equal(ak.concatenate([uproot.open(path)[TREE].arrays() for path in files]), jets)


def test_a_study_reuses_its_collisions_and_those_of_its_slices(tmp_path):
    simulation = {"jets": 60, "seed": 3, "workers": 1, "reuse": COPIES, "slices": [{"jets": 60, "min_pthat": 1000}]}
    simulation |= {"parameters": few(COLLISIONS, SMALL_POOL.pool_events)}
    settings = with_known_corrections(DataSettings(simulation=simulation, directory=str(tmp_path)))
    files = ensure_files(settings, progress=False)
    assert len(files) == 2
    for file in files:
        jets = uproot.open(file)[TREE].arrays(["pthat", "rhoAll"])
        assert len(np.unique(jets.rhoAll)) > 1.5 * len(np.unique(jets.pthat))

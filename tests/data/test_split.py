"""The split by event: fair, reproducible, and deaf to everything but the event's numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils.config import DataSettings, SplitSettings
from jetcorr_utils.data import load_clouds
from jetcorr_utils.data.split import SPLITS, require_unseen, split_of
from jetcorr_utils.errors import InputError

EVENTS = np.arange(200_000)
KNOWN = [2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 2]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.4), (0.2, 0.05)])
def test_the_shares_are_those_of_the_settings(validation, test, seed):
    part = split_of(
        np.ones(len(EVENTS)), EVENTS // 100, EVENTS, SplitSettings(validation=validation, test=test, seed=seed)
    )
    shares = np.bincount(part, minlength=3) / len(EVENTS)
    np.testing.assert_allclose(shares, [1 - validation - test, validation, test], atol=0.005)


def test_the_split_does_not_see_neighbours():
    """Whether an event is held out tells nothing about the next event, lumi or run."""
    held = split_of(np.ones(len(EVENTS)), np.ones(len(EVENTS)), EVENTS, SplitSettings(test=0.5)) == SPLITS["test"]
    assert abs(np.mean(held[1:] & held[:-1]) - 0.25) < 0.005
    other = split_of(np.full(len(EVENTS), 2), np.ones(len(EVENTS)), EVENTS, SplitSettings(test=0.5)) == SPLITS["test"]
    assert abs(np.mean(held & other) - 0.25) < 0.005


@given(
    st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(0, 2**64 - 1)), min_size=1),
    st.integers(0, 1000),
)
def test_an_event_is_split_alone_as_in_company(events, seed):
    run, lumi, event = (np.array(column, dtype=np.uint64) for column in zip(*events, strict=True))
    settings = SplitSettings(seed=seed)
    together = split_of(run, lumi, event, settings)
    alone = [split_of(run[i : i + 1], lumi[i : i + 1], event[i : i + 1], settings)[0] for i in range(len(events))]
    assert together.tolist() == alone
    assert split_of(run.astype(np.int64), lumi.astype(np.int32), event, settings).tolist() == alone


def test_known_values_do_not_change():
    """A change here would move events between training and test: raise the version of the cache, and say so."""
    part = split_of(np.full(12, 2016), np.arange(12), np.arange(12) ** 2, SplitSettings())
    assert part.tolist() == KNOWN


def test_the_test_events_do_not_depend_on_the_share_for_validation():
    parts = [split_of(EVENTS, EVENTS, EVENTS, SplitSettings(validation=share)) for share in (0.05, 0.3)]
    np.testing.assert_array_equal(*[part == SPLITS["test"] for part in parts])


def test_adding_a_file_moves_no_event(ntuple, tmp_path):
    files = [str(ntuple(f"{seed}.root", seed=seed)) for seed in range(3)]

    def parts(names):
        clouds = load_clouds(DataSettings(files=names, directory=str(tmp_path)), progress=False)
        keys = zip(*(clouds.table[name].tolist() for name in ("run", "lumi", "event", "jetPtOrder")), strict=True)
        return dict(zip(keys, clouds.part.tolist(), strict=True))

    before, after = parts(files[:2]), parts([files[2], *files[:2]])
    assert len(before) == 120
    assert len(after) == 180
    assert before.items() <= after.items()
    for jets in (before, after):  # and all jets of an event stay together
        assert len({(key[:3], part) for key, part in jets.items()}) == len({key[:3] for key in jets})


SETTINGS = st.builds(
    SplitSettings, validation=st.floats(0.05, 0.4), test=st.floats(0.05, 0.55), seed=st.sampled_from([0, 0, 1])
)


@given(SETTINGS, SETTINGS)
def test_jets_that_pass_as_unseen_were_never_trained_on(trained, now):
    events = EVENTS[:20_000]
    before, after = (split_of(events // 100, events // 7, events, settings) for settings in (trained, now))
    seen = (before == SPLITS["train"]) & (after != SPLITS["train"])
    try:
        require_unseen("pfn", trained, now)
    except InputError:
        smaller = now.seed == trained.seed and now.test <= trained.test
        assert not (smaller and now.test + now.validation <= trained.test + trained.validation)
    else:
        assert not seen.any()
    require_unseen("pfn", now, now)


def test_a_model_that_does_not_say_what_it_was_trained_on_is_refused():
    with pytest.raises(InputError, match="pfn: which events it was trained on is not recorded"):
        require_unseen("pfn", None, SplitSettings())

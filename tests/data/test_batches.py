"""Batches: every jet once, in an order that seed and epoch decide, shared fairly between processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils.data.batches import BatchLoader, gather
from jetcorr_utils.data.dataset import CloudDataset
from jetcorr_utils.errors import InputError
from jetcorr_utils.jets.flavours import paper_flavour


def make_clouds(jets: int, seed: int = 0, *, least: int = 1) -> CloudDataset:
    """Random clouds whose first column tells the jet."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(least, 20, jets)
    ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    particles = rng.random((ptr[-1], 7), dtype=np.float32)
    particles[:, 0] = np.repeat(np.arange(jets), counts)
    return CloudDataset(
        particles=particles,
        ptr=ptr,
        jets=rng.random((jets, 10), dtype=np.float32),
        target=rng.normal(0, 0.1, jets).astype(np.float32),
        part=rng.integers(0, 3, jets).astype(np.uint8),
        table={
            "hadronFlav": rng.choice([0, 4, 5], jets),
            "partonFlav": rng.choice([-2, 1, 21], jets),
            "genJetPt": rng.uniform(20, 900, jets).astype(np.float32),
        },
        features="open",
        key="random",
    )


def rows(loader: BatchLoader) -> list[list[int]]:
    return [batch.index.tolist() for batch in loader]


def test_a_batch_holds_its_jets():
    data = make_clouds(100)
    index = np.array([7, 3, 99, 3])
    batch = gather(data, index)
    assert len(batch) == 4
    assert batch.particles.dtype == batch.jets.dtype == batch.target.dtype == torch.float32
    assert batch.ptr.dtype == batch.flavour.dtype == batch.index.dtype == torch.int64
    assert batch.particles[:, 0].tolist() == np.repeat(index, data.multiplicity[index]).tolist()
    for i, row in enumerate(index):
        own = batch.particles[batch.ptr[i] : batch.ptr[i + 1]].numpy()
        np.testing.assert_array_equal(own, data.particles[data.ptr[row] : data.ptr[row + 1]])
    np.testing.assert_array_equal(batch.jets, data.jets[index])
    np.testing.assert_array_equal(batch.gen_pt, data.table["genJetPt"][index])
    flavour = paper_flavour(data.table["hadronFlav"], data.table["partonFlav"])
    np.testing.assert_array_equal(batch.flavour, flavour[index])


def test_a_batch_is_a_copy():
    """Training may change a batch in place; the mapped data set must not follow."""
    data = make_clouds(10)
    before = data.particles.copy()
    gather(data, np.arange(10)).particles.zero_()
    np.testing.assert_array_equal(data.particles, before)


@given(st.integers(0, 60), st.integers(1, 25), st.booleans(), st.booleans(), st.integers(0, 5))
def test_an_epoch_has_each_jet_once(jets, size, shuffle, drop, seed):
    loader = BatchLoader(make_clouds(jets), size, shuffle=shuffle, seed=seed, drop_last=drop)
    batches = rows(loader)
    assert len(batches) == len(loader)
    full, rest = divmod(jets, size)
    assert [len(batch) for batch in batches] == [size] * full + ([rest] if rest and not drop else [])
    seen = [row for batch in batches for row in batch]
    assert len(set(seen)) == len(seen)
    assert drop or sorted(seen) == list(range(jets))
    assert shuffle or seen == list(range(len(seen)))


@given(st.integers(0, 60), st.integers(1, 4), st.integers(4, 20), st.booleans())
def test_processes_together_see_the_batches_of_one(jets, world, size, shuffle):
    data = make_clouds(jets)
    single = rows(BatchLoader(data, size, shuffle=shuffle))
    shares = [rows(BatchLoader(data, size, shuffle=shuffle, rank=rank, world_size=world)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert len(single) - len(shares[0]) in (0, 1)  # a last batch with fewer jets than processes
    for step, pieces in enumerate(zip(*shares, strict=True)):
        assert all(pieces)
        assert [row for piece in pieces for row in piece] == [
            row for rank in range(world) for row in single[step][rank::world]
        ]


def test_the_order_follows_seed_and_epoch_only():
    data = make_clouds(200)
    loader = BatchLoader(data, 32, shuffle=True, seed=3)
    first = rows(loader)
    assert rows(loader) == first
    loader.set_epoch(1)
    second = rows(loader)
    assert second != first
    fresh = BatchLoader(data, 32, shuffle=True, seed=3)
    fresh.set_epoch(1)
    assert rows(fresh) == second
    assert rows(BatchLoader(data, 32, shuffle=True, seed=4)) != first


def test_shares_of_a_batch_have_equal_work():
    """The jets of a batch are sorted by multiplicity, and the processes take turns."""
    data = make_clouds(4000)
    ranks = [BatchLoader(data, 500, shuffle=True, rank=rank, world_size=2) for rank in range(2)]
    for one, other in zip(*ranks, strict=True):
        assert abs(len(one.particles) - len(other.particles)) <= 20


def test_batches_are_fair_samples():
    data = make_clouds(20_000)
    means = [np.diff(batch.ptr).mean() for batch in BatchLoader(data, 500, shuffle=True)]
    expected = data.multiplicity.std() / np.sqrt(500)
    assert np.std(means) == pytest.approx(expected, rel=0.4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 4, "rank": 2, "world_size": 2}, "rank 2 is not one of 2"),
        ({"batch_size": 1, "world_size": 2}, "leaves nothing for some of 2"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        BatchLoader(make_clouds(10), **arguments)

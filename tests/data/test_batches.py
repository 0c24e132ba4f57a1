"""Batches: every jet once, in an order that seed and epoch decide, shared fairly between processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils.config import DataSettings
from jetcorr_utils.data import load_clouds
from jetcorr_utils.data.batches import BatchLoader, Shards, gather
from jetcorr_utils.data.dataset import CloudDataset
from jetcorr_utils.errors import InputError
from jetcorr_utils.jets.flavours import paper_flavour
from tests.cold import can_forget, epoch_on_small_memory, repeated


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


SHARDS = st.none() | st.integers(1, 70)


@given(st.integers(0, 60), st.integers(1, 25), st.booleans(), st.integers(0, 5), SHARDS)
def test_an_epoch_has_each_jet_once(jets, size, shuffle, seed, shard):
    loader = BatchLoader(make_clouds(jets), size, shuffle=shuffle, seed=seed, shard_jets=shard)
    batches = rows(loader)
    assert len(batches) == len(loader)
    full, rest = divmod(jets, size)
    assert [len(batch) for batch in batches] == [size] * full + ([rest] if rest else [])
    seen = [row for batch in batches for row in batch]
    assert sorted(seen) == list(range(jets))
    assert shuffle or seen == list(range(jets))


@given(st.integers(0, 60), st.integers(1, 4), st.integers(4, 20), st.booleans(), SHARDS)
def test_processes_together_see_the_batches_of_one(jets, world, size, shuffle, shard):
    data, options = make_clouds(jets), {"shuffle": shuffle, "shard_jets": shard}
    single = rows(BatchLoader(data, size, **options))
    shares = [rows(BatchLoader(data, size, **options, rank=rank, world_size=world)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert len(single) - len(shares[0]) in (0, 1)  # a last batch with fewer jets than processes
    for step, pieces in enumerate(zip(*shares, strict=True)):
        assert all(pieces)
        assert [row for piece in pieces for row in piece] == [
            row for rank in range(world) for row in single[step][rank::world]
        ]


@pytest.mark.parametrize("shard", [None, 64])
def test_the_order_follows_seed_and_epoch_only(shard):
    data = make_clouds(200)
    loader = BatchLoader(data, 32, shuffle=True, seed=3, shard_jets=shard)
    first = rows(loader)
    assert rows(loader) == first
    loader.set_epoch(1)
    second = rows(loader)
    assert second != first
    fresh = BatchLoader(data, 32, shuffle=True, seed=3, shard_jets=shard)
    fresh.set_epoch(1)
    assert rows(fresh) == second
    assert rows(BatchLoader(data, 32, shuffle=True, seed=4, shard_jets=shard)) != first


def test_shares_of_a_batch_have_equal_work():
    """The jets of a batch are sorted by multiplicity, and the processes take turns."""
    data = make_clouds(4000)
    ranks = [BatchLoader(data, 500, shuffle=True, rank=rank, world_size=2) for rank in range(2)]
    for one, other in zip(*ranks, strict=True):
        assert abs(len(one.particles) - len(other.particles)) <= 20


@pytest.mark.parametrize("shard", [None, 5000])
def test_batches_are_fair_samples(shard):
    data = make_clouds(20_000)
    means = [np.diff(batch.ptr).mean() for batch in BatchLoader(data, 500, shuffle=True, shard_jets=shard)]
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


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 3))
def test_a_shard_lies_in_few_blocks_and_its_jets_are_shuffled(jets, most, seed):
    shards = Shards(jets, most)
    order = shards.order(np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(jets))
    for first in range(0, jets, shards.length):
        shard = order[first : first + shards.length]
        found = {start for start, _ in shards.blocks(order, first, first + 1)}
        assert found == set((shard // shards.block * shards.block).tolist())
        assert len(found) <= shards.length // shards.block + 1  # one more where the data set's last block is in between
    if jets >= 100 and shards.length >= 64:
        assert np.abs(np.diff(order)).mean() > shards.block / 4


def test_shards_come_from_all_over_the_data_set():
    """Files lie one after the other in a cache: the jets of one alone would make no fair sample."""
    shards = Shards(160_000, 16_000)
    order = shards.order(np.random.default_rng(1))
    for first in range(0, 160_000, shards.length):
        tenths = np.unique(order[first : first + shards.length] // 16_000)
        assert len(tenths) >= 5


@pytest.mark.slow
def test_a_cache_larger_than_the_memory_is_read_about_once_in_shards(tmp_path, sample, record_property):
    """In random order a read of the disk brings far more than the jet that it is for."""
    few = load_clouds(DataSettings(files=[str(sample)], directory=str(tmp_path / "data")), progress=False)
    data = repeated(few, 30, tmp_path / "cache")
    if not can_forget(data):
        pytest.skip("reads of the disk are not seen on this file system")
    size = data.particles.nbytes
    read = {}
    for name, shard, most in (("shards", len(data) // 16, None), ("random", None, size // 100)):
        loader = BatchLoader(CloudDataset.open(*data.__reduce_ex__(4)[1]), 100, shuffle=True, shard_jets=shard)
        read[name] = epoch_on_small_memory(loader, size // 4, most)
        record_property(f"bytes read from the disk for each that is used, {name}", round(read[name], 1))
    assert read["shards"] < 2
    assert read["random"] > 5 * read["shards"]

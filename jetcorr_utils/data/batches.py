"""Batches of clouds for PyTorch: gathered from the (mapped) data set by array operations, never jet by jet in Python.

The order of the jets depends on the seed and on the epoch only. Inside a batch the jets are sorted by multiplicity:
neighbours in memory need alike work, and the shares of several processes, which take turns along the sorted batch, take
equally long. Which jets share a batch stays random, so that batch normalisation sees fair samples.

A cache that is larger than the memory is read in *shards*: of jets in random order all over it each would cost a read
of many pages. A shard is put together from blocks that are chosen at random, and only its jets are shuffled: the system
is told to read these blocks, each once an epoch, and any part of the data may come into any batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..jets.flavours import paper_flavour
from ..jets.ragged import rows_of
from .dataset import CloudDataset

__all__ = ["BatchLoader", "CloudBatch", "Shards", "gather"]

BLOCK = 4096
"""Jets of a block, at most: some megabytes of particles, and a few pages of each plain column."""


@dataclass
class CloudBatch:
    """b clouds of n particles in all.

    Attributes
    ----------
    particles, jets, ptr, target
        As in `CloudDataset`: `(n, 2 + F)`, `(b, J)`, `(b + 1,)`, `(b,)`.
    flavour
        `(b,)` int64, the paper's flavour: 0 to 5 and 21.
    gen_pt
        `(b,)`, pt of the generator jet in GeV.
    index
        `(b,)` int64, the rows of the jets in the data set.
    """

    particles: Tensor
    jets: Tensor
    ptr: Tensor
    target: Tensor
    flavour: Tensor
    gen_pt: Tensor
    index: Tensor

    def __len__(self) -> int:
        """The number of jets."""
        return len(self.target)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> CloudBatch:
        """The batch on another device."""
        return CloudBatch(*(getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)))


def gather(dataset: CloudDataset, index: NDArray[np.int64]) -> CloudBatch:
    """The jets of the rows `index` as a batch, in this order."""
    rows, ptr = rows_of(dataset.ptr, index)
    hadron, parton = (np.take(dataset.table[name], index) for name in ("hadronFlav", "partonFlav"))
    return CloudBatch(
        particles=torch.from_numpy(np.take(dataset.particles, rows, axis=0)),
        jets=torch.from_numpy(np.take(dataset.jets, index, axis=0)), ptr=torch.from_numpy(ptr),
        target=torch.from_numpy(np.take(dataset.target, index)),
        flavour=torch.from_numpy(paper_flavour(hadron, parton)),
        gen_pt=torch.from_numpy(np.take(dataset.table["genJetPt"], index)), index=torch.from_numpy(index),
    )  # fmt: skip


class Shards:
    """An order of `jets` rows in which those of a shard, `length` in a row, lie in few blocks of the data set.

    Blocks of `block` rows are put together in random order, and then the rows of each shard shuffled.

    Parameters
    ----------
    jets
        The rows, all of which are in the order once.
    most
        Rows of a shard, at most: it has a whole number of blocks.
    """

    def __init__(self, jets: int, most: int) -> None:
        self.jets, self.block = jets, max(1, min(BLOCK, most // 16))
        self.length = most - most % self.block

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """A random one, `(jets,)`."""
        starts = self.block * generator.permutation(-(-self.jets // self.block))
        rows = (starts[:, np.newaxis] + np.arange(self.block)).ravel()
        rows = rows[rows < self.jets]  # the last block may be shorter
        for first in range(0, self.jets, self.length):
            generator.shuffle(rows[first : first + self.length])
        return rows

    def blocks(self, order: NDArray[np.int64], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The ranges of rows of the shards that begin between `start` and `stop` of an order."""
        for first in range(-(-start // self.length) * self.length, stop, self.length):
            for number in np.unique(order[first : first + self.length] // self.block).tolist():
                yield number * self.block, min((number + 1) * self.block, self.jets)


class BatchLoader:
    """Iterate over a data set in batches.

    Parameters
    ----------
    dataset
        The clouds.
    batch_size
        Jets a step, of all processes together.
    shuffle
        Draw a new order each epoch; otherwise the order of the data set is kept, in and between batches.
    seed
        Of the order; the same seed and epoch give the same batches.
    shard_jets
        Jets that are shuffled together, see `Shards`; default: all.
    rank, world_size
        Process `rank` of `world_size` takes every `world_size`-th jet of each batch, so that all processes together
        see the batches that one process would see. A batch with fewer jets than processes is left out.
    """

    def __init__(
        self,
        dataset: CloudDataset,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        shard_jets: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size {batch_size} must be at least 1")
        if not 0 <= rank < world_size:
            raise InputError(f"rank {rank} is not one of {world_size} processes")
        if batch_size < world_size:
            raise InputError(f"batch_size {batch_size} leaves nothing for some of {world_size} processes")
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.shards: Shards | None = None
        if shuffle and shard_jets is not None and shard_jets < len(dataset):
            self.shards = Shards(len(dataset), shard_jets)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, before it starts."""
        self.epoch = epoch

    def __len__(self) -> int:
        """The number of batches, equal for all processes."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest >= self.world_size)

    def _order(self) -> NDArray[np.int64]:
        """The rows of the whole epoch, `(B,)`: batch after batch."""
        jets = len(self.dataset)
        if not self.shuffle:
            return np.arange(jets)
        generator = np.random.default_rng([self.seed, self.epoch])
        return generator.permutation(jets) if self.shards is None else self.shards.order(generator)

    def __iter__(self) -> Iterator[CloudBatch]:
        """Yield this process's share of each batch."""
        order, ptr = self._order(), self.dataset.ptr
        try:
            for step in range(len(self)):
                start, stop = step * self.batch_size, (step + 1) * self.batch_size
                if self.shards is not None:
                    for block in self.shards.blocks(order, start, stop):
                        self.dataset.read_at_once(*block)
                index = order[start:stop]
                if self.shuffle:
                    index = index[np.argsort(ptr[index + 1] - ptr[index], kind="stable")]
                yield gather(self.dataset, np.ascontiguousarray(index[self.rank :: self.world_size]))
        finally:
            if self.shards is not None:
                self.dataset.read_in_order()

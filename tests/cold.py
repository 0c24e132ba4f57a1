"""What is read from the disk, as by a machine whose memory is smaller than a cache of clouds."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

import numpy as np

from jetcorr_utils.data.batches import BatchLoader
from jetcorr_utils.data.dataset import CloudDataset
from jetcorr_utils.data.store import write_meta

__all__ = ["can_forget", "epoch_on_small_memory", "forget", "read_bytes", "repeated"]


def repeated(dataset: CloudDataset, times: int, folder: Path) -> CloudDataset:
    """A cache with the jets of another one, several times over."""
    folder.mkdir()
    columns = {name: getattr(dataset, name) for name in ("particles", "jets", "target")}
    for name, column in (columns | {f"table.{name}": column for name, column in dataset.table.items()}).items():
        shape = times * len(column), *column.shape[1:]
        out = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", column.dtype, shape)
        for one in range(times):
            out[one * len(column) : (one + 1) * len(column)] = column
    np.save(folder / "ptr.npy", np.concatenate([[0], np.cumsum(np.tile(dataset.multiplicity, times))]))
    counts = {name: times * number for name, number in dataset.info["jets"].items()}
    write_meta(folder, {**dataset.info, "jets": counts})
    return CloudDataset.open(folder, dataset.features, f"{times} times {dataset.key}")


def read_bytes() -> int:
    """Bytes that this process has had read from disks."""
    return int(re.search(r"^read_bytes: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)[1])


def forget(dataset: CloudDataset) -> None:
    """Have the system drop what it has in memory of a cache's files."""
    for column in (dataset.particles, dataset.ptr, dataset.jets, dataset.target, *dataset.table.values()):
        column._mmap.madvise(mmap.MADV_DONTNEED)  # mapped pages would stay
    for path in Path(dataset.place[0]).glob("*.npy"):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # those that are still to be written would stay, too
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def can_forget(dataset: CloudDataset) -> bool:
    """Whether that works here, and is seen: not on a file system in memory, for example."""
    forget(dataset)
    before = read_bytes()
    np.array(dataset.particles[: 1 << 12])
    return read_bytes() > before


def epoch_on_small_memory(loader: BatchLoader, memory: int, most: int | None = None) -> float:
    """Read an epoch, or its first `most` bytes of particles; forget the cache whenever `memory` bytes were used of it.

    Returns the bytes that were read from the disk for each byte that was used of the particles.
    """
    forget(loader.dataset)
    start, used, kept = read_bytes(), 0, 0
    for batch in loader:
        size = batch.particles.numel() * batch.particles.element_size()
        used, kept = used + size, kept + size
        if most is not None and used >= most:
            break
        if kept >= memory:
            forget(loader.dataset)
            kept = 0
    return (read_bytes() - start) / used

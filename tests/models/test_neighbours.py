"""Both searches for the nearest neighbours against one by exhaustion."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils.models.neighbours import edge_starts, fast_neighbours, nearest_neighbours


def by_exhaustion(positions: np.ndarray, ptr: np.ndarray, k: int) -> list[list[int]]:
    """The neighbours of each particle: all others of its jet, sorted by distance and then by place, the first k."""
    found = []
    for first, last in pairwise(ptr):
        for i in range(first, last):
            others = [j for j in range(first, last) if j != i]
            distance = {j: float(((positions[i] - positions[j]) ** 2).sum()) for j in others}
            found.append(sorted(others, key=lambda j: (distance[j], j))[:k])
    return found


def searches(positions: np.ndarray, sizes: list[int], k: int):
    ptr = torch.tensor([0, *np.cumsum(sizes)])
    x = torch.from_numpy(positions)
    start = edge_starts(ptr, k)
    for source in (nearest_neighbours(x, ptr, k), fast_neighbours(x, ptr, start, k)):
        assert len(source) == start[-1]
        yield [source[a:b].tolist() for a, b in pairwise(start)]


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.integers(1, 20),
    st.sampled_from([2, 5]),
    st.integers(0, 99),
)
def test_nearest_neighbours(sizes, k, dim, seed):
    # Small whole numbers: distances are exact, and many are equal
    positions = np.random.default_rng(seed).integers(0, 6, (sum(sizes), dim)).astype(np.float32)
    expected = by_exhaustion(positions, np.concatenate([[0], np.cumsum(sizes)]), k)
    for found in searches(positions, sizes, k):
        assert found == expected


def test_particles_at_equal_positions_are_neighbours_but_not_of_themselves():
    for found in searches(np.zeros((4, 2), np.float32), [3, 1], 2):
        assert found == [[1, 2], [0, 2], [0, 1], []]


@pytest.mark.parametrize("dim", [2, 7])
def test_threads_do_not_change_the_result(dim):
    sizes = np.random.default_rng(1).integers(1, 40, 30).tolist()
    positions = np.random.default_rng(2).normal(size=(sum(sizes), dim)).astype(np.float32)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(list(searches(positions, sizes, 8))[1])
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1] == results[2]

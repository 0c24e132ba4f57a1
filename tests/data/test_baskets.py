"""Arrays gathered from baskets equal the plain slices, wherever the baskets and the entries begin and end."""

from __future__ import annotations

import itertools

import numpy as np
import uproot
from hypothesis import given
from hypothesis import strategies as st
from uproot.interpretation.jagged import JaggedArray

from jetcorr_utils.data.baskets import AsPieces
from jetcorr_utils.data.reading import iterate_jets
from jetcorr_utils.data.selection import own_particles
from tests.data.conftest import make_jets

BIG_ENDIAN = np.dtype(">i4")


@st.composite
def trees(draw):
    """Arrays of entries, the borders of their baskets, and a range of entries."""
    lists = draw(st.lists(st.lists(st.integers(-5, 1000), max_size=5), min_size=1, max_size=12))
    border = st.integers(0, len(lists))
    inner = draw(st.lists(border, max_size=4))
    start, stop = sorted(draw(st.tuples(border, border)))
    return lists, sorted({0, len(lists), *inner}), start, stop


def flat(lists) -> np.ndarray:
    """All values, one after the other."""
    return np.array(list(itertools.chain.from_iterable(lists)), dtype=np.int32)


@given(trees(), st.randoms(use_true_random=False))
def test_pieces_are_the_entries_of_the_range(tree, random):
    lists, borders, start, stop = tree
    baskets = {}
    for number, (first, last) in enumerate(itertools.pairwise(borders)):
        offsets = np.cumsum([0, *map(len, lists[first:last])])
        baskets[number] = JaggedArray(offsets, flat(lists[first:last]).astype(BIG_ENDIAN))
    interpretation = AsPieces(uproot.AsDtype(BIG_ENDIAN, BIG_ENDIAN))
    found = interpretation.final_array(baskets, start, stop, borders, None, None, None)
    expected = flat(lists[start:stop])
    np.testing.assert_array_equal(found.offsets, np.cumsum([0, *map(len, lists[start:stop])]))
    np.testing.assert_array_equal(found.values(np.int32), expected)
    assert found.values(np.float32).dtype == np.float32
    np.testing.assert_array_equal(found.positive(), np.flatnonzero(expected > 0))
    rows = np.array(sorted(random.sample(range(len(expected)), len(expected) // 2)), dtype=np.int64)
    np.testing.assert_array_equal(found.values(np.int32, rows), expected[rows])


def test_the_reader_gives_the_candidates_of_the_jet_or_of_the_window(ntuple):
    path = ntuple(PF_fromAK4Jet=make_jets()["PF_fromAK4Jet"] - 1)  # 0 and -1: no candidate is the jet's
    (empty,) = iterate_jets(path, candidates="jet")
    assert empty["particles", "PF_pT"].tolist() == [[]] * 60
    for inside, outside in zip(
        iterate_jets(ntuple(), 7, candidates="jet"), iterate_jets(ntuple(), 7, candidates="window"), strict=True
    ):
        assert inside.tolist() == own_particles(outside).tolist()

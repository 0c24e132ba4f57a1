import awkward as ak
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from jetcorr_utils.jets.ragged import offsets_of, owners
from jetcorr_utils.simulation.particles import Particles, concatenate, to_cartesian

COUNTS = st.lists(st.integers(0, 5), min_size=1, max_size=6)


def numbered(counts: list[int], first: int) -> Particles:
    """Particles whose pt numbers them."""
    n = sum(counts)
    column = np.arange(first, first + n).astype(float)
    return Particles(column, column, column, column, column, column, column, column, offsets_of(np.array(counts)))


@given(COUNTS, st.data())
def test_concatenation_keeps_each_event_together_and_the_first_in_front(counts, data):
    others = data.draw(st.lists(st.integers(0, 5), min_size=len(counts), max_size=len(counts)))
    first, second = numbered(counts, 0), numbered(others, 1000)
    both = concatenate(first, second)
    for i in range(len(counts)):
        expected = [
            *first.pt[first.offsets[i] : first.offsets[i + 1]], *second.pt[second.offsets[i] : second.offsets[i + 1]],
        ]  # fmt: skip
        assert_array_equal(both.pt[both.offsets[i] : both.offsets[i + 1]], expected)


@given(COUNTS, st.randoms(use_true_random=False))
def test_selection_keeps_order_and_events(counts, random):
    everything = numbered(counts, 0)
    mask = np.array([random.random() < 0.5 for _ in range(len(everything))], dtype=bool)
    kept = everything.select(mask)
    assert_array_equal(kept.pt, everything.pt[mask])
    assert_array_equal(owners(kept.offsets), owners(everything.offsets)[mask])


def test_cartesian_momenta_have_the_mass_they_were_given():
    momenta = to_cartesian(*(np.array(x) for x in ([3.0, 5.0], [1.0, -2.0], [0.5, 3.0], [0.14, 5.0], [0, 1, 2])))
    assert ak.num(momenta).tolist() == [1, 1]
    flat = ak.flatten(momenta)
    assert_allclose(np.sqrt(flat.E**2 - flat.px**2 - flat.py**2 - flat.pz**2), [0.14, 5.0], rtol=1e-6)
    assert_allclose(np.arcsinh(flat.pz / np.hypot(flat.px, flat.py)), [1.0, -2.0])

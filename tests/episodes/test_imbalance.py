"""Shares of the queries, and the whole numbers near them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy.episodes.imbalance import apportioned, dirichlet_shares


def test_shares_are_gamma_numbers_over_their_sum():
    uniform = np.array([[[0.5, 0.0], [0.75, 0.5]]])
    # −log ½ = log 2 and −log ¼ − log ½ = 3 log 2.
    np.testing.assert_allclose(dirichlet_shares(uniform), [[0.25, 0.75]], rtol=1e-12)


def test_shares_exist_at_both_ends_of_the_numbers():
    uniform = np.array([[[0.0, 0.0], [1 - 2**-53, 1 - 2**-53], [0.0, 0.0]]])
    shares = dirichlet_shares(uniform)
    assert np.isfinite(shares).all()
    assert (shares > 0).all()
    np.testing.assert_allclose(shares[0, 1], 1)


def test_largest_remainders_by_hand():
    shares, wide = np.array([[0.46, 0.32, 0.22]]), np.full((1, 3), 99)
    # 4.6, 3.2, 2.2: 4 + 3 + 2, and one for the first.
    assert apportioned(shares, 10, wide).tolist() == [[5, 3, 2]]
    # 6.9, 4.8, 3.3: 6 + 4 + 3, and one each for the first two.
    assert apportioned(shares, 15, wide).tolist() == [[7, 5, 3]]


def test_what_a_class_cannot_hold_falls_to_the_others_by_their_shares():
    shares = np.array([[0.6, 0.3, 0.1]] * 3)
    room = np.array([[2, 9, 9], [2, 5, 9], [99, 99, 99]])
    # 4 of the 6 are left, of which 3 and 1 would go to the others; where only 2 fit, the last one
    # takes what remains.
    assert apportioned(shares, 10, room).tolist() == [[2, 6, 2], [2, 5, 3], [6, 3, 1]]


@st.composite
def problems(draw):
    ways = draw(st.integers(1, 6))
    rows = draw(st.integers(1, 4))
    total = draw(st.integers(1, 60))
    numbers = st.floats(1e-6, 1.0)
    raw = draw(
        st.lists(st.lists(numbers, min_size=ways, max_size=ways), min_size=rows, max_size=rows)
    )
    each = st.integers(math.ceil(total / ways), 2 * total)
    room = draw(
        st.lists(st.lists(each, min_size=ways, max_size=ways), min_size=rows, max_size=rows)
    )
    shares = np.array(raw)
    return shares / shares.sum(1, keepdims=True), total, np.array(room)


@given(problems())
@settings(max_examples=300)
def test_numbers_sum_to_the_total_and_fit(problem):
    shares, total, room = problem
    counts = apportioned(shares, total, room)
    assert (counts.sum(1) == total).all()
    assert (counts >= 0).all()
    assert (counts <= room).all()
    free = (shares * total + 1 <= room).all(1)
    assert (np.abs(counts - shares * total)[free] < 1 + 1e-9).all()
    # No class is given less for the room that others lack.
    assert (counts + 1 + 1e-9 >= np.minimum(np.floor(shares * total), room)).all()


@pytest.mark.parametrize("total", [1, 7])
def test_one_class_takes_all(total):
    assert apportioned(np.ones((2, 1)), total, np.full((2, 1), 9)).tolist() == [[total], [total]]

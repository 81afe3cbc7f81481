"""The order of leaves: rows are kept, halves lie apart, and threads do not matter."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qspace_nd.searching import tree_order
from qspace_nd.searching.tree_order import in_order
from tests.searching.conftest import normal


def ordered(rows: np.ndarray, count: int, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    moved = rows.copy()
    with ThreadPoolExecutor(threads) as pool:
        return moved, in_order(moved, count, pool)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.integers(1, 4), st.sampled_from([0, 1, 5]), st.integers(0, 99))
def test_every_row_comes_once_and_is_told_from_where(
    count: int, dimensions: int, decimals: int, seed: int
) -> None:
    rows = normal(count + 3, dimensions, seed).round(decimals)  # of no decimals: many are equal
    moved, ids = ordered(rows, count)
    assert sorted(ids) == list(range(count))
    np.testing.assert_array_equal(moved[:count], rows[ids])
    np.testing.assert_array_equal(moved[count:], rows[count:])


def assert_split(rows: np.ndarray, first: int, last: int) -> None:
    """Halves down to single leaves do not overlap along some axis."""
    if last - first < 2:
        return
    cut = tree_order._cut(first, last)
    assert first < cut < last
    lower, upper = rows[16 * first : 16 * cut], rows[16 * cut : 16 * last]
    assert (lower.max(axis=0) <= upper.min(axis=0)).any()
    assert_split(rows, first, cut)
    assert_split(rows, cut, last)


@pytest.mark.parametrize("count", [16, 17, 1000, 6000])
def test_halves_lie_apart(count: int) -> None:
    moved, _ = ordered(normal(count, 3), count)
    assert_split(moved, 0, -(-count // 16))


def test_points_that_vary_in_one_axis_are_sorted_along_it() -> None:
    rows = normal(5000, 4) * np.float32([0.01, 1, 0.01, 0.01])
    moved, _ = ordered(rows, 5000)
    leaves = moved[: 5000 // 256 * 256, 1].reshape(-1, 256)  # whole subtrees of 16 leaves
    assert (leaves[:-1].max(axis=1) <= leaves[1:].min(axis=1)).all()


@pytest.mark.parametrize("leaves", [2, 16, 17, 31, 256, 257, 5000])
def test_the_lower_half_is_of_whole_subtrees(leaves: int) -> None:
    subtree = 16 ** int(np.floor(np.log(leaves - 1) / np.log(16) + 1e-9))
    lower = tree_order._cut(0, leaves)
    assert lower % subtree == 0
    assert 0 < leaves - lower <= lower


def test_the_number_of_threads_does_not_matter() -> None:
    rows = normal(20_000, 3)
    one, three = (ordered(rows, 20_000, threads) for threads in (1, 3))
    np.testing.assert_array_equal(one[0], three[0])
    np.testing.assert_array_equal(one[1], three[1])

"""Sixteen numbers at once against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.searching.vectors import CHUNK, Bound, Vector, lowest_bit, make_within, prefetch
from qspace_nd.system.compiling import compiled
from tests.searching.conftest import normal


def _add(sums: list[Vector], tile: list[Vector], query: list[Vector]) -> list[Vector]:
    """One sum of (a - q)² b, and a product of what keeps to 1: its least and most."""
    a, b = tile
    difference = a - query[0]
    return [sums[0] + difference * difference * b, (sums[1] * b / b).most(1.0).least(1.0)]


def _quotient(sums: list[Vector]) -> Vector:
    return sums[0] * (1.0 / sums[1])


_within = make_within(Bound(2, 1, [0.0, 1.0], _add, _quotient))
_log2 = make_within(Bound(1, 1, [0.0], lambda _, tile, __: tile, lambda sums: sums[0].low_log2()))


@compiled
def within(tiles, at, queries, row, dimensions, limit, found):
    return _within(tiles, at, queries, row, dimensions, limit, found)


@compiled
def log2(tile, found):
    return _log2(tile, 0, tile, 0, CHUNK, np.float32(np.inf), found)


@compiled
def lowest(bits):
    prefetch(np.zeros(16, np.float32), 0)  # which may not do anything but help
    return lowest_bit(bits)


def tiles_of(dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Two tiles (2, dimensions, 2, 16) and three queries (3, dimensions)."""
    tiles = normal(2 * dimensions * 2, 16).reshape(2, dimensions, 2, 16)
    tiles[:, :, 1] = np.abs(tiles[:, :, 1]) + np.float32(0.1)
    return tiles, normal(3, dimensions, seed=1)


@pytest.mark.parametrize("dimensions", [8, 24])
def test_sums_and_lanes_within_the_limit_are_those_of_numpy(dimensions: int) -> None:
    tiles, queries = tiles_of(dimensions)
    found = np.empty(16, np.float32)
    for tile in range(2):
        for query in range(3):
            apart = tiles[tile, :, 0] - queries[query][:, None]
            sums = (apart**2 * tiles[tile, :, 1]).sum(axis=0)
            limit = np.float32(np.sort(sums)[7:9].mean())  # 8 lanes are within it
            at, row = tile * dimensions * 32, query * dimensions
            bits = within(tiles.ravel(), at, queries.ravel(), row, dimensions, limit, found)
            assert [bool(bits >> lane & 1) for lane in range(16)] == (sums <= limit).tolist()
            np.testing.assert_allclose(found, sums, rtol=1e-5)


def test_it_ends_where_no_lane_is_within_the_limit_any_more() -> None:
    tiles, queries = tiles_of(24)
    found = np.empty(16, np.float32)
    assert within(tiles.ravel(), 0, queries.ravel(), 0, 24, np.float32(1e-6), found) == 0
    apart = tiles[0, :CHUNK, 0] - queries[0, :CHUNK, None]
    np.testing.assert_allclose(found, (apart**2 * tiles[0, :CHUNK, 1]).sum(axis=0), rtol=1e-5)


def test_what_is_no_number_is_not_beyond_the_limit() -> None:
    tiles, queries = tiles_of(8)
    tiles[0, 3, 0, 5] = np.nan
    found = np.empty(16, np.float32)
    assert within(tiles.ravel(), 0, queries.ravel(), 0, 8, np.float32(0), found) == 1 << 5


def test_a_logarithm_is_low_by_less_than_it_says_and_exact_for_powers_of_2() -> None:
    values = np.float32([1, 2, 0.125, 2**30, 2**-100, *np.exp(normal(11, 1)[:, 0])])
    found = np.empty(16, np.float32)
    log2(np.tile(values, CHUNK), found)
    expected = np.log2(values.astype(np.float64))
    np.testing.assert_array_equal(found[:5], expected[:5])
    assert (found <= expected + 1e-5).all()
    assert (found > expected - 0.09).all()


def test_the_lowest_bit_is_found() -> None:
    assert [lowest(bits) for bits in (1, 0b1010, 1 << 40, -1)] == [0, 1, 40, 0]

"""What is compiled of the search: bounds leave out nothing that is nearer."""

from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.gaussian import Gaussian
from qspace_nd.searching import tree_search
from qspace_nd.searching.tree import DensityTree, OverlapTree, PointTree
from qspace_nd.searching.tree_search import Index, Queries, search, sum_densities
from tests.searching.conftest import brute_force, normal

UNTOLD = np.empty((0, 8), np.int64)
"""Where it is not asked which points were found."""


def of_points(points: np.ndarray, queries: np.ndarray) -> tuple[Index, Queries]:
    """A tree, and queries in the order that they are in."""
    index = PointTree(points)._index
    rows = np.zeros((len(queries), index.dimensions), np.float32)
    rows[:, : queries.shape[1]] = queries
    return index, Queries(rows.ravel(), queries.ravel(), np.zeros(len(queries)))


def test_only_what_is_nearer_than_known_takes_its_place() -> None:
    points, x = normal(900, 3), normal(50, 3, seed=1)
    index, queries = of_points(points, x)
    here = brute_force(points, x, 4) ** 2
    known = np.sort(here * np.random.default_rng(0).uniform(0.5, 2, size=(50, 4)), axis=1)
    nearest = known.copy()
    search(index, queries, nearest, UNTOLD[:, : nearest.shape[1]])
    expected = np.sort(np.hstack([known, here]), axis=1)[:, :4]
    np.testing.assert_allclose(nearest, expected, rtol=1e-13)


def test_queries_far_from_the_one_before_are_exact_all_the_same() -> None:
    points = normal(2000, 4)
    x = normal(64, 4, seed=1) * np.where(np.arange(64) % 2, 1, 1000).astype(np.float32)[:, None]
    index, queries = of_points(points, x)
    nearest = np.full((64, 3), np.inf)
    search(index, queries, nearest, UNTOLD[:, : nearest.shape[1]])
    np.testing.assert_allclose(np.sqrt(nearest), brute_force(points, x, 3), rtol=1e-13)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e15])
def test_a_sum_in_float32_is_within_the_limit_of_its_distance(scale: float) -> None:
    points, x = normal(160, 6) * np.float32(scale), normal(100, 6, seed=1) * np.float32(scale)
    index, queries = of_points(points, x)
    found = np.empty(16, np.float32)
    for query in range(len(x)):
        for leaf in range(10):
            bits = tree_search._points_near(index, leaf, queries, query, np.float32(np.inf), found)
            assert bits == 2**16 - 1
            for lane, seen in enumerate(found):
                exact = tree_search._measure(index, 16 * leaf + lane, queries, query)
                limit = tree_search._limit(index, exact, 0.0)
                assert exact * (1 - 1e-4) <= seen <= limit <= exact * (1 + 1e-4) + 2e-36


@pytest.mark.parametrize("tree", [OverlapTree, DensityTree])
def test_a_box_is_no_farther_than_the_gaussians_in_it(tree: type) -> None:
    healthy = Gaussian(normal(256, 9), np.exp(normal(256, 9, seed=2)))
    index = tree(healthy)._tree.index
    mean, std = normal(30, 9, seed=1), np.exp(normal(30, 9, seed=3))
    parts = np.stack([mean, std**2, 2 * std], axis=-1)[:, :, : index.query_parts]
    rows = np.zeros((30, index.dimensions, index.query_parts), np.float32)
    rows[:, :, 1:] = (1, 2)[: index.query_parts - 1]
    rows[:, :9] = parts
    queries = Queries(rows.ravel(), rows[:, :9, 0].ravel().copy(), np.zeros(30))
    boxes, found, everything = np.empty(16, "f4"), np.empty(16, "f4"), np.float32(np.inf)
    for query in range(30):
        assert tree_search._boxes_near(index, 1, 0, queries, query, everything, boxes) == 2**16 - 1
        for leaf in range(16):
            tree_search._points_near(index, leaf, queries, query, everything, found)
            assert boxes[leaf] <= found.min() * (1 + 1e-4) + 1e-4
            for lane in range(16):
                exact = tree_search._measure(index, 16 * leaf + lane, queries, query)
                assert found[lane] <= tree_search._limit(index, exact, 0.0)


def test_what_is_negligible_is_left_out_of_a_density_and_nothing_else() -> None:
    mean = np.float32([[0], [1], [20], [8.8], [9.1]])  # 40 nats are at 8.94 deviations
    index = DensityTree(Gaussian(mean, np.ones_like(mean)))._tree.index
    rows = np.zeros((1, index.dimensions), np.float32)
    queries = Queries(rows.ravel(), rows[:, :1].ravel().copy(), np.zeros(1))
    totals = np.empty(1)
    sum_densities(index, queries, 0, 1, np.zeros(1), totals)
    distances = mean[[0, 1, 3], 0].astype(np.float64) ** 2 / 2
    np.testing.assert_allclose(totals, np.exp(-distances).sum(), rtol=1e-15)

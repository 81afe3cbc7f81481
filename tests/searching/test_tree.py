"""Trees that are too deep, too wide or too uneven for the laws of all searches in test_nearest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qspace_nd.gaussian import Gaussian
from qspace_nd.searching import tree
from qspace_nd.searching.tree import DensityTree, LogSums, OverlapTree, PointTree
from qspace_nd.system.scratch import Scratch
from tests.searching.conftest import brute_force, found_by, normal


@pytest.mark.parametrize("dimensions", [2, 9])
def test_a_tree_of_many_levels_is_exact(dimensions: int) -> None:
    points, queries = normal(70_001, dimensions), normal(40, dimensions, seed=1)
    points[:, 1] = 3.0  # which no box can tell apart
    np.testing.assert_allclose(
        found_by("tree", points, queries, 20), brute_force(points, queries, 20), rtol=1e-13
    )


def test_a_tree_among_outliers_is_exact() -> None:
    points, queries = normal(3000, 12), normal(50, 12, seed=1)
    points[::50] *= np.float32(1e6)
    queries[::5] = points[::300][:10] + np.float32(0.5)
    np.testing.assert_allclose(
        found_by("tree", points, queries, 3), brute_force(points, queries, 3), rtol=1e-13
    )


@pytest.mark.parametrize("dimensions", [3, 12])
def test_every_box_holds_its_children(dimensions: int) -> None:
    index = PointTree(normal(5003, dimensions))._index
    leaves = index.leaves.reshape(-1, index.dimensions, 16)
    boxes = index.boxes.reshape(-1, index.boxed, 2, 16)
    assert index.sizes.tolist() == [5003, 313, 20, 2, 1]
    assert index.begins.tolist() == [0, 20, 22, 23]
    low, high = leaves[:, : index.boxed].min(axis=-1), leaves[:, : index.boxed].max(axis=-1)
    for begin, parents in zip(index.begins[:-1], index.sizes[2:], strict=True):
        for child in range(len(low)):
            box = boxes[begin + child // 16, :, :, child % 16]
            np.testing.assert_array_equal(box, np.stack([low[child], high[child]], axis=1))
        level = boxes[begin : begin + parents]
        low, high = level[:, :, 0].min(axis=-1), level[:, :, 1].max(axis=-1)


def gaussians(number: int, dimensions: int, seed: int) -> Gaussian[np.ndarray]:
    std = np.exp(0.5 * normal(number, dimensions, seed + 100))
    return Gaussian(normal(number, dimensions, seed), std)


def all_overlaps(
    queries: Gaussian[np.ndarray], healthy: Gaussian[np.ndarray]
) -> np.ndarray:  # (n, N)
    mean, std = queries.mean[:, None].astype(np.float64), queries.std[:, None].astype(np.float64)
    its_std = healthy.std.astype(np.float64)
    variances = std**2 + its_std**2
    distances = (mean - healthy.mean) ** 2 / (4 * variances)
    return (distances + 0.5 * np.log(variances / (2 * std * its_std))).sum(axis=-1)


def test_overlaps_known_are_lowered_where_one_here_is_less() -> None:
    queries, healthy = gaussians(60, 5, 0), gaussians(700, 5, 1)
    expected = all_overlaps(queries, healthy).min(axis=1)
    known = expected * np.where(np.arange(60) % 2, 0.5, 2.0)
    least = known.copy()
    OverlapTree(healthy).improve(least, queries)
    np.testing.assert_allclose(least, np.minimum(known, expected), rtol=1e-12)


def test_densities_of_two_trees_add_up() -> None:
    points, healthy = normal(60, 5), gaussians(700, 5, 1)
    sums = LogSums(np.full(60, -np.inf), np.zeros(60))
    for some in (slice(0, 300), slice(300, None)):
        DensityTree(healthy[some]).add(sums, points)
    std = healthy.std.astype(np.float64)
    apart = (points[:, None].astype(np.float64) - healthy.mean) / std
    terms = (-0.5 * apart**2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum(axis=-1)
    np.testing.assert_allclose(sums.peak, terms.max(axis=1), rtol=1e-12)
    expected = np.logaddexp.reduce(terms, axis=1)
    np.testing.assert_allclose(sums.peak + np.log(sums.total), expected, rtol=1e-12)


def test_a_search_in_batches_is_that_of_all_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    points, queries = normal(2000, 12), normal(300, 12, seed=1)
    whole = PointTree(points).distances(queries, 3)
    monkeypatch.setattr(tree, "_BATCH", 97)
    monkeypatch.setattr(tree, "_SHARE", 17)
    np.testing.assert_array_equal(PointTree(points).distances(queries, 3), whole)


@pytest.mark.parametrize("dimensions", [3, 12])
def test_a_tree_tells_which_points_are_nearest_of_equally_near_ones_the_first(
    dimensions: int,
) -> None:
    points = normal(3000, dimensions).round()
    queries = normal(200, dimensions, seed=1).round()
    apart = ((queries[:, None].astype(np.float64) - points) ** 2).sum(axis=-1)
    expected = np.argsort(apart, axis=1, kind="stable")[:, :30]
    distances, numbers = PointTree(points).neighbours(queries, 30)
    np.testing.assert_array_equal(numbers, expected)
    np.testing.assert_array_equal(distances, PointTree(points).distances(queries, 30))
    assert PointTree(points).neighbours(queries[:0], 30)[1].shape == (0, 30)


@pytest.mark.parametrize("dimensions", [3, 12])
@pytest.mark.parametrize("k", [1, 10, 400])
def test_points_are_left_out_as_if_they_were_not_there(dimensions: int, k: int) -> None:
    points = normal(5003, dimensions)
    tree = PointTree(points)
    queries = np.concatenate([points[1000:1300], normal(40, dimensions, seed=1)])
    for ranges in ([], [(0, 4900)], [(4000, 5003), (900, 1200)]):
        without = np.array(ranges, np.int64).reshape(-1, 2)
        kept = np.ones(len(points), bool)
        for first, last in ranges:
            kept[first:last] = False
        others = points[kept]
        found = tree.distances(queries, k, without=without)
        assert found.shape == (len(queries), min(k, len(others)))
        np.testing.assert_array_equal(found, PointTree(others).distances(queries, k))


def test_without_all_points_nothing_is_found() -> None:
    tree = PointTree(normal(50, 3))
    assert tree.distances(normal(4, 3), 3, without=np.array([[0, 50]])).shape == (4, 0)


@pytest.mark.parametrize("dimensions", [3, 8, 12])
def test_a_tree_that_is_built_on_the_disk_is_the_same(dimensions: int, tmp_path: Path) -> None:
    points = normal(70_001, dimensions)
    with Scratch(tmp_path) as scratch:
        built, held = PointTree(points, scratch.room).to_arrays(), PointTree(points).to_arrays()
        assert built.keys() == held.keys()
        for name, array in built.items():
            np.testing.assert_array_equal(array, held[name])


@pytest.mark.parametrize("dimensions", [3, 12])
def test_what_is_farther_than_asked_for_is_left_out_and_nothing_else(dimensions: int) -> None:
    tree, queries = PointTree(normal(5003, dimensions)), normal(300, dimensions, seed=1)
    all_ = tree.distances(queries, 10)
    for within in (all_[:, 4], all_[:, 0] * 0.5, np.full(300, np.inf), np.zeros(300)):
        found = tree.distances(queries, 10, within)
        expected = np.where(all_ <= within[:, None], all_, np.inf)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("number", [2, 4])
def test_blocks_bounded_by_each_other_find_what_one_tree_does(number: int) -> None:
    points, queries = normal(5000, 3), 0.1 * normal(8000, 3, seed=1)
    found = np.full((len(queries), 10), np.inf)
    for block in np.array_split(points, number):
        more = PointTree(block.copy()).distances(queries, 10, found[:, -1])
        found = np.sort(np.hstack([found, more]), axis=1)[:, :10]
    np.testing.assert_array_equal(found, PointTree(points).distances(queries, 10))

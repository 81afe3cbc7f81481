"""Laws of every exact search, and the choice among them."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qspace_nd.searching import nearest
from qspace_nd.searching.nearest import ENGINES, Engine, Finder, NearestNeighbours
from tests.searching.conftest import CPU, FINDERS, PAIRS, brute_force, found_by, normal

every_finder = pytest.mark.parametrize("finder", FINDERS)
small_blocks = pytest.mark.usefixtures("small_blocks")


@small_blocks
@every_finder
@pytest.mark.parametrize("dimensions", [1, 3, 8, 9, 24, 46])
@pytest.mark.parametrize("k", [1, 5])
def test_distances_are_those_of_brute_force(finder: str, dimensions: int, k: int) -> None:
    points, queries = normal(1500, dimensions), normal(70, dimensions, seed=1)
    found = found_by(finder, points, queries, k)
    assert found.shape == (70, k)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, brute_force(points, queries, k), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("queries", [1, 300])
@pytest.mark.parametrize("dimensions", [2, 46])
@pytest.mark.parametrize("k", [1, 50])
@pytest.mark.parametrize("blocks", ["as they are", "small"])
def test_all_searches_give_the_same_bits(
    pairs: str, queries: int, dimensions: int, k: int, blocks: str, request: pytest.FixtureRequest
) -> None:
    if blocks == "small":
        request.getfixturevalue("small_blocks")
    points, far = normal(2500, dimensions), normal(queries, dimensions, seed=1)
    np.testing.assert_array_equal(*(found_by(one, points, far, k) for one in ("tree", pairs)))


@small_blocks
@every_finder
def test_a_large_mean_does_not_cost_digits(finder: str) -> None:
    points = normal(3000, 8) + np.float32(1e4)
    queries = normal(50, 8, seed=1) + np.float32(1e4)
    np.testing.assert_allclose(
        found_by(finder, points, queries), brute_force(points, queries), rtol=1e-13
    )


@every_finder
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_does_not_matter(finder: str, scale: float) -> None:
    points, queries = normal(1000, 5), normal(50, 5, seed=1)
    scaled = found_by(finder, points * np.float32(scale), queries * np.float32(scale))
    np.testing.assert_allclose(scaled, brute_force(points, queries) * scale, rtol=1e-5)


@small_blocks
@every_finder
@pytest.mark.parametrize("distance", [1e6, 1e20])
def test_far_queries_have_their_distance(finder: str, distance: float) -> None:
    points, queries = normal(1000, 14), normal(30, 14, seed=1) * np.float32(distance)
    np.testing.assert_allclose(
        found_by(finder, points, queries), brute_force(points, queries), rtol=1e-13
    )


@small_blocks
@every_finder
def test_far_points_do_not_hide_near_ones(finder: str) -> None:
    points, queries = normal(3000, 14), normal(50, 14, seed=1)
    points[::100] *= np.float32(1e5)
    np.testing.assert_allclose(
        found_by(finder, points, queries), brute_force(points, queries), rtol=1e-13
    )


@small_blocks
@every_finder
def test_neighbours_whose_squares_overflow_float32_are_found(finder: str) -> None:
    points = normal(1000, 14) * np.float32(1e17)
    points[::2] += np.float32(9e19)
    queries = points[:40] + normal(40, 14, seed=1) * np.float32(1e16)
    np.testing.assert_allclose(
        found_by(finder, points, queries), brute_force(points, queries), rtol=1e-13
    )


@small_blocks
@every_finder
def test_distances_within_tight_clusters_are_exact(
    clusters: tuple[np.ndarray, np.ndarray], finder: str
) -> None:
    np.testing.assert_allclose(
        found_by(finder, *clusters, k=2), brute_force(*clusters, 2), rtol=1e-13
    )


@every_finder
def test_a_point_of_the_set_is_at_distance_nothing(finder: str) -> None:
    points = normal(2500, 9) + np.float32(3)
    assert (found_by(finder, points, points[::7]) == 0).all()


@small_blocks
@every_finder
def test_duplicated_points_count_each(finder: str) -> None:
    points = np.repeat(normal(40, 6), 30, axis=0)
    queries = np.concatenate([points[:5], normal(5, 6, seed=1)])
    np.testing.assert_allclose(
        found_by(finder, points, queries, k=40), brute_force(points, queries, 40), rtol=1e-13
    )


@every_finder
@pytest.mark.parametrize("points", [1, 7])
def test_there_are_no_more_neighbours_than_points(finder: str, points: int) -> None:
    few, queries = normal(points, 3), normal(10, 3, seed=1)
    found = found_by(finder, few, queries, k=10)
    assert found.shape == (10, points)
    np.testing.assert_allclose(found, brute_force(few, queries, 10), rtol=1e-13)


@every_finder
def test_no_queries_have_no_distances(finder: str) -> None:
    assert found_by(finder, normal(50, 3), normal(0, 3)).shape == (0, 1)


@every_finder
def test_the_number_of_threads_does_not_matter(finder: str) -> None:
    points, queries = normal(2000, 14), normal(3000, 14, seed=1)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(found_by(finder, points, queries))
    np.testing.assert_array_equal(*found)


@every_finder
def test_what_was_given_is_left_as_it_was(finder: str) -> None:
    points, queries = normal(500, 3), normal(50, 3, seed=1)
    before = points.copy(), queries.copy()
    found_by(finder, points, queries)
    np.testing.assert_array_equal(points, before[0])
    np.testing.assert_array_equal(queries, before[1])


def sets_of(dimensions: int) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    def rows(number: int) -> st.SearchStrategy[np.ndarray]:
        return arrays(np.float32, (number, dimensions), elements=st.floats(-99, 99, width=32))

    return st.tuples(st.integers(1, 12).flatmap(rows), rows(3))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4).flatmap(sets_of), st.integers(1, 4), st.sampled_from(list(FINDERS)))
def test_any_few_points_are_found(sets: tuple[np.ndarray, np.ndarray], k: int, finder: str) -> None:
    np.testing.assert_allclose(found_by(finder, *sets, k), brute_force(*sets, k), rtol=1e-13)


# --- Which engine, and what it must not change


@pytest.fixture
def every_size_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_SMALL", 100)


@pytest.mark.usefixtures("every_size_is_timed")
def test_the_choice_of_engine_is_made_once_told_and_leaves_distances_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "qspace_nd")
    points, queries = normal(3000, 6), normal(600, 6, seed=1)
    neighbours = NearestNeighbours(points)
    assert neighbours.engine == ""
    first = neighbours.distances(queries)
    assert neighbours.engine in ("tree", "all pairs")
    np.testing.assert_array_equal(neighbours.distances(queries), first)
    np.testing.assert_allclose(first, brute_force(points, queries), rtol=1e-13)
    (told,) = caplog.records
    assert told.levelno == logging.DEBUG
    assert told.message.startswith(f"Nearest of 3000 in 6 dimensions: by {neighbours.engine} (tree")


@pytest.mark.usefixtures("every_size_is_timed")
@pytest.mark.parametrize("device", ["cpu", "mps", "cuda"])
def test_engines_are_tried_that_run_beside_the_device(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def engine(name: str, one: Engine) -> Engine:
        def build(points: np.ndarray, where: torch.device) -> Finder:
            tried.append((name, where.type, len(points)))
            return nearest.by_tree(points, CPU)

        return Engine(build, one.devices, one.queries, one.points and 2000)

    engines = {name: engine(name, one) for name, one in ENGINES.items()}
    monkeypatch.setattr(nearest, "ENGINES", engines)
    points = normal(3000, 24)
    found = NearestNeighbours(points, torch.device(device)).distances(points[:40])
    assert (found == 0).all()
    pairs = (
        ("all pairs on a GPU", device, 3000) if device == "cuda" else ("all pairs", device, 2000)
    )
    assert tried[:2] == [("tree", device, 3000), pairs]


@pytest.mark.usefixtures("every_size_is_timed")
@pytest.mark.parametrize("fast", ["tree", "all pairs"])
def test_the_fastest_engine_has_all_points(fast: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(ENGINES[fast].build(normal(3, 2), CPU))
    monkeypatch.setattr(nearest, "_time", lambda timed, *_: 0.1 + (not isinstance(timed, kind)))
    some = Engine(nearest.by_all_pairs, ("cpu",), queries=10, points=2000)
    monkeypatch.setitem(ENGINES, "all pairs", some)
    points = normal(3000, 6)
    neighbours = NearestNeighbours(points)
    assert (neighbours.distances(points) == 0).all()
    assert neighbours.engine == fast


@pytest.mark.usefixtures("every_size_is_timed")
def test_time_on_some_points_counts_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"PointTree": 1.2, "AllPairs": 1.0}
    monkeypatch.setattr(nearest, "_time", lambda timed, *_: seconds[type(timed).__name__])
    for points, engine in ((3000, "all pairs"), (2000, "tree")):
        some = Engine(nearest.by_all_pairs, ("cpu",), queries=10, points=points)
        monkeypatch.setitem(ENGINES, "all pairs", some)
        neighbours = NearestNeighbours(normal(3000, 6))
        neighbours.distances(normal(5, 6))
        assert neighbours.engine == engine


def test_for_few_points_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(nearest, "_time")
    neighbours = NearestNeighbours(normal(3000, 6))
    neighbours.distances(normal(5, 6))
    assert neighbours.engine == "tree"


def test_distances_do_not_depend_on_how_queries_are_split() -> None:
    points, queries = normal(2000, 14), normal(300, 14, seed=1)
    neighbours = NearestNeighbours(points)
    whole = neighbours.distances(queries)
    parts = [neighbours.distances(part) for part in np.split(queries, [0, 1, 18, 100])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)

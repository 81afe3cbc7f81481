from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qspace_nd import search
from qspace_nd.search import NearestNeighbours, Scan
from qspace_nd.tree import PointTree

ENGINES = {"tree": PointTree, "scan": Scan}


def brute_force(points: np.ndarray, queries: np.ndarray, k: int = 1) -> np.ndarray:
    differences = queries[:, None].astype(np.float64) - points[None].astype(np.float64)
    return np.sort(np.sqrt((differences**2).sum(axis=-1)), axis=1)[:, :k]


def by_engine(engine: str, points: np.ndarray, queries: np.ndarray, k: int = 1) -> np.ndarray:
    return ENGINES[engine](points).nearest(queries, min(k, len(points)))


def normal(rows: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dimensions", [1, 2, 3, 8, 16, 24, 46])
@pytest.mark.parametrize("k", [1, 5])
def test_distances_are_those_of_brute_force(engine: str, dimensions: int, k: int) -> None:
    points, queries = normal(1500, dimensions), normal(70, dimensions, seed=1)
    found = by_engine(engine, points, queries, k)
    assert found.shape == (70, k)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, brute_force(points, queries, k), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("queries", [1, 19, 300])
@pytest.mark.parametrize("dimensions", [2, 46])
def test_all_engines_give_the_same_distances(queries: int, dimensions: int) -> None:
    points, far = normal(2000, dimensions), normal(queries, dimensions, seed=1)
    tree, scan = (by_engine(engine, points, far, k=3) for engine in ENGINES)
    np.testing.assert_array_equal(tree, scan)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_large_mean_does_not_cost_digits(engine: str) -> None:
    points = normal(3000, 8) + np.float32(1e4)
    queries = normal(50, 8, seed=1) + np.float32(1e4)
    np.testing.assert_allclose(
        by_engine(engine, points, queries), brute_force(points, queries), rtol=1e-5
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_does_not_matter(engine: str, scale: float) -> None:
    points, queries = normal(1000, 5), normal(50, 5, seed=1)
    scaled = by_engine(engine, points * np.float32(scale), queries * np.float32(scale))
    np.testing.assert_allclose(scaled, brute_force(points, queries) * scale, rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("distance", [1e6, 1e20])
def test_far_queries_have_their_distance(engine: str, distance: float) -> None:
    points, queries = normal(1000, 14), normal(30, 14, seed=1) * np.float32(distance)
    np.testing.assert_allclose(
        by_engine(engine, points, queries), brute_force(points, queries), rtol=1e-6
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_far_points_do_not_hide_near_ones(engine: str) -> None:
    points, queries = normal(3000, 14), normal(50, 14, seed=1)
    points[::100] *= np.float32(1e5)
    np.testing.assert_allclose(
        by_engine(engine, points, queries), brute_force(points, queries), rtol=1e-3
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_neighbours_whose_squares_overflow_float32_are_found(engine: str) -> None:
    points = normal(1000, 14) * np.float32(1e17)
    points[::2] += np.float32(9e19)
    queries = points[:40] + normal(40, 14, seed=1) * np.float32(1e16)
    np.testing.assert_allclose(
        by_engine(engine, points, queries), brute_force(points, queries), rtol=1e-2
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_point_of_the_set_is_at_distance_nothing(engine: str) -> None:
    points = normal(2500, 9) + np.float32(3)
    assert (by_engine(engine, points, points[::7]) == 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_duplicated_points_count_each(engine: str) -> None:
    points = np.repeat(normal(40, 6), 30, axis=0)
    queries = np.concatenate([points[:5], normal(5, 6, seed=1)])
    np.testing.assert_allclose(
        by_engine(engine, points, queries, k=40), brute_force(points, queries, 40), rtol=1e-5
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("points", [1, 2, 7])
def test_there_are_no_more_neighbours_than_points(engine: str, points: int) -> None:
    few, queries = normal(points, 3), normal(10, 3, seed=1)
    found = by_engine(engine, few, queries, k=10)
    assert found.shape == (10, points)
    np.testing.assert_allclose(found, brute_force(few, queries, 10), rtol=1e-5)


@pytest.mark.parametrize("dimensions", [2, 9])
def test_a_tree_of_many_levels_is_exact(dimensions: int) -> None:
    points, queries = normal(70_001, dimensions), normal(40, dimensions, seed=1)
    points[:, 1] = 3.0  # which no box can tell apart
    np.testing.assert_allclose(
        by_engine("tree", points, queries, 20), brute_force(points, queries, 20), rtol=1e-13
    )


def test_a_tree_among_outliers_is_exact() -> None:
    points, queries = normal(3000, 12), normal(50, 12, seed=1)
    points[::50] *= np.float32(1e6)
    queries[::5] = points[::300][:10] + np.float32(0.5)
    np.testing.assert_allclose(
        by_engine("tree", points, queries, 3), brute_force(points, queries, 3), rtol=1e-13
    )


# --- The compiler


def test_where_nothing_can_be_cached_the_tree_is_compiled_all_the_same(tmp_path: Path) -> None:
    """A package and a home that may not be written to, as on some clusters."""
    package = tmp_path / "qspace_nd"
    shutil.copytree(
        Path(search.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    (package / "__pycache__").touch()  # not even the superuser can write into a file
    (tmp_path / "home").touch()
    home = str(tmp_path / "home")
    code = (
        "import numpy as np; from qspace_nd.search import NearestNeighbours as N; "
        "x = np.eye(40, 3, dtype='f4'); print(N(x).distances(x).sum())"
    )
    environment = {**os.environ, "HOME": home, "XDG_CACHE_HOME": home, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "0.0\n"), done.stderr
    assert not list(tmp_path.rglob("*.nbi"))


# --- The certificate


@pytest.fixture
def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Points in two tight clusters far apart: a matrix product cannot tell neighbours apart."""
    rng = np.random.default_rng(0)
    side = np.where(np.arange(2000) % 2, 1000.0, -1000.0)[:, None]
    points = (side + rng.normal(scale=1e-2, size=(2000, 14))).astype(np.float32)
    queries = (side[:40] + rng.normal(scale=1e-2, size=(40, 14))).astype(np.float32)
    return points, queries


def test_a_matrix_product_alone_errs(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    points, queries = clusters
    faiss.cvar.distance_compute_blas_threshold = 20
    _, nearest = faiss.knn(queries, points, 5)
    candidates = np.linalg.norm(points[nearest].astype(np.float64) - queries[:, None], axis=-1)
    assert (candidates.min(axis=1) > 1.05 * brute_force(points, queries)[:, 0]).any()


@pytest.mark.parametrize("engine", ENGINES)
def test_distances_within_tight_clusters_are_exact(
    clusters: tuple[np.ndarray, np.ndarray], engine: str
) -> None:
    points, queries = clusters
    np.testing.assert_allclose(
        by_engine(engine, points, queries, k=2), brute_force(points, queries, 2), rtol=2e-3
    )


@pytest.fixture
def measured_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many queries went the slow way, in each call."""
    counts: list[int] = []
    slowly = Scan._by_differences

    def count(self: Scan, queries: np.ndarray, k: int) -> np.ndarray:
        counts.append(len(queries))
        return slowly(self, queries, k)

    monkeypatch.setattr(Scan, "_by_differences", count)
    return counts


def test_where_a_product_errs_distances_are_measured_anew(
    clusters: tuple[np.ndarray, np.ndarray], measured_anew: list[int]
) -> None:
    by_engine("scan", *clusters)
    assert measured_anew == [40]


@pytest.mark.parametrize("dimensions", [8, 46])
def test_plain_queries_are_certain_and_quick(dimensions: int, measured_anew: list[int]) -> None:
    by_engine("scan", normal(3000, dimensions), normal(300, dimensions, seed=1))
    assert measured_anew == [0]


def test_far_points_leave_plain_queries_certain(measured_anew: list[int]) -> None:
    points = normal(3000, 14)
    points[::1000] *= np.float32(1e4)
    by_engine("scan", points, normal(300, 14, seed=1))
    assert measured_anew == [0]


def test_points_of_the_set_are_certain_also_where_duplicated(measured_anew: list[int]) -> None:
    points = np.repeat(normal(200, 14), 20, axis=0)
    by_engine("scan", points, points[::9])
    assert measured_anew == [0]


# --- Laws


def sets_of(dimensions: int) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    def rows(number: int) -> st.SearchStrategy[np.ndarray]:
        return arrays(np.float32, (number, dimensions), elements=st.floats(-99, 99, width=32))

    return st.tuples(st.integers(1, 12).flatmap(rows), rows(3))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4).flatmap(sets_of), st.integers(1, 4), st.sampled_from(list(ENGINES)))
def test_any_few_points_are_found(sets: tuple[np.ndarray, np.ndarray], k: int, engine: str) -> None:
    points, queries = sets
    expected = brute_force(points, queries, k)
    np.testing.assert_allclose(by_engine(engine, points, queries, k), expected, atol=2e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(list(ENGINES)))
def test_more_points_are_never_farther(seed: int, engine: str) -> None:
    points, queries = normal(200, 3, seed), normal(20, 3, seed + 1)
    fewer, all_ = by_engine(engine, points[:100], queries), by_engine(engine, points, queries)
    assert (all_ <= fewer + 1e-5).all()


# --- Which engine, and what it must not change


def test_the_choice_of_engine_is_made_once_and_leaves_distances_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "_SMALL", 100)
    points, queries = normal(3000, 6), normal(600, 6, seed=1)
    neighbours = NearestNeighbours(points)
    first = neighbours.distances(queries)
    assert neighbours.engine in ENGINES
    np.testing.assert_array_equal(neighbours.distances(queries), first)
    np.testing.assert_allclose(first, brute_force(points, queries), rtol=1e-5)


def test_distances_do_not_depend_on_how_queries_are_split() -> None:
    points, queries = normal(2000, 14), normal(300, 14, seed=1)
    neighbours = NearestNeighbours(points)
    whole = neighbours.distances(queries)
    parts = [neighbours.distances(part) for part in np.split(queries, [1, 18, 100])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_number_of_threads_does_not_matter(engine: str) -> None:
    points, queries = normal(2000, 14), normal(300, 14, seed=1)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(by_engine(engine, points, queries))
    torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)


def test_what_was_given_is_left_as_it_was() -> None:
    points, queries = normal(500, 3), normal(50, 3, seed=1)
    before = points.copy(), queries.copy()
    by_engine("tree", points, queries)
    by_engine("scan", points, queries)
    np.testing.assert_array_equal(points, before[0])
    np.testing.assert_array_equal(queries, before[1])


@pytest.mark.parametrize("engine", ENGINES)
def test_no_queries_have_no_distances(engine: str) -> None:
    assert by_engine(engine, normal(50, 3), normal(0, 3)).shape == (0, 1)

"""What is measured of all pairs in float64: what may be nearer, and hardly more."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
import torch

from qspace_nd.searching.all_pairs import AllPairs
from qspace_nd.searching.all_pairs_minima import minima_on
from tests.searching.conftest import PAIRS, brute_force, found_by, normal

either_way = pytest.mark.parametrize("pairs", PAIRS)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch, small_blocks: None) -> list[int]:
    """How many blocks of 64 points are measured for all queries together: first, and then too."""
    counts: list[int] = []
    measure = AllPairs._measure

    def count(
        self: AllPairs,
        queries: np.ndarray,
        minima: np.ndarray,
        above: np.ndarray,
        most: np.ndarray,
        nearest: np.ndarray,
    ) -> None:
        counts.append(int(((minima > above) & (minima <= most)).sum()))
        measure(self, queries, minima, above, most, nearest)

    monkeypatch.setattr(AllPairs, "_measure", count)
    return counts


def test_a_matrix_product_alone_errs(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    points, queries = clusters
    faiss.cvar.distance_compute_blas_threshold = 20
    _, nearest = faiss.knn(queries, points, 5)
    candidates = np.linalg.norm(points[nearest].astype(np.float64) - queries[:, None], axis=-1)
    assert (candidates.min(axis=1) > 1.05 * brute_force(points, queries)[:, 0]).any()


@either_way
def test_where_a_product_errs_all_that_may_be_nearer_is_measured(
    pairs: str, clusters: tuple[np.ndarray, np.ndarray], looks: list[int]
) -> None:
    found_by(pairs, *clusters)
    assert sum(looks) == 40 * 32  # every block holds points of both clusters


@either_way
@pytest.mark.parametrize("dimensions", [8, 46])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("mean", [0, 1000])
def test_of_plain_queries_as_many_blocks_as_neighbours_are_measured(
    pairs: str, dimensions: int, k: int, mean: float, looks: list[int]
) -> None:
    points, queries = normal(3000, dimensions), normal(300, dimensions, seed=1)
    found_by(pairs, points + np.float32(mean), queries + np.float32(mean), k)
    assert looks[0] == 300 * k
    assert looks[1] <= 2


@either_way
def test_far_points_leave_plain_queries_certain(pairs: str, looks: list[int]) -> None:
    points = normal(3000, 14)
    points[::1000] *= np.float32(1e4)
    found_by(pairs, points, normal(300, 14, seed=1))
    assert looks[0] == 300
    assert looks[1] <= 2


def test_for_points_of_the_set_nothing_more_is_measured_where_they_are_duplicated(
    looks: list[int],
) -> None:
    points = np.repeat(normal(200, 14), 20, axis=0)
    found_by("FAISS", points, points[::9])
    assert looks[1] == 0


@either_way
def test_what_overflows_in_float32_is_measured_everywhere(pairs: str, looks: list[int]) -> None:
    points, queries = normal(640, 5), normal(20, 5, seed=1)
    points[7] = np.float32(3e38)
    found = found_by(pairs, points, queries, 640)
    assert looks == [20 * 10, 0]
    np.testing.assert_allclose(found, brute_force(points, queries, 640), rtol=1e-13)


@either_way
@pytest.mark.parametrize("scale", [1e-25, 1e-22])
def test_what_underflows_in_float32_is_measured_everywhere(
    pairs: str, scale: float, looks: list[int]
) -> None:
    points, queries = normal(6400, 5), normal(50, 5, seed=1)
    points, queries = points * np.float32(scale), queries * np.float32(scale)
    found = found_by(pairs, points, queries)
    assert sum(looks) == 50 * 100
    np.testing.assert_array_equal(found, found_by("tree", points, queries))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here")
@pytest.mark.parametrize("dimensions", [2, 8, 24, 46])
@pytest.mark.parametrize("k", [1, 5])
def test_on_a_gpu_distances_are_those_of_the_tree(dimensions: int, k: int, matmul) -> None:
    points, queries = normal(50_000, dimensions), normal(5000, dimensions, seed=1)
    pairs = AllPairs(points, minima_on(torch.device("cuda")))
    matmul.allow_tf32 = True  # which must not matter
    found = pairs.distances(queries, k)
    np.testing.assert_array_equal(found, found_by("tree", points, queries, k))

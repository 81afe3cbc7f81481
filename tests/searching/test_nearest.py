from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import qspace_nd
from qspace_nd.searching import all_pairs, all_pairs_minima, nearest
from qspace_nd.searching.all_pairs import BlockScan
from qspace_nd.searching.all_pairs_minima import FaissMinima, TorchMinima, minima_on
from qspace_nd.searching.nearest import NearestNeighbours
from qspace_nd.searching.tree import PointTree

CPU = torch.device("cpu")
SCANS = {
    "scan": partial(BlockScan, make_minima=FaissMinima),
    "scan by PyTorch": partial(BlockScan, make_minima=partial(TorchMinima, device=CPU)),
}
ENGINES = {"tree": PointTree, **SCANS}


@pytest.fixture(params=[None, 64], ids=["", "blocks of 64"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks as they are, or so small that there are many of few points."""
    if request.param:
        monkeypatch.setattr(all_pairs, "_BLOCK", request.param)
        monkeypatch.setattr(all_pairs_minima, "_PIECE", 3 * request.param)


def brute_force(points: np.ndarray, queries: np.ndarray, k: int = 1) -> np.ndarray:
    differences = queries[:, None].astype(np.float64) - points[None].astype(np.float64)
    return np.sort(np.sqrt((differences**2).sum(axis=-1)), axis=1)[:, :k]


def by_engine(engine: str, points: np.ndarray, queries: np.ndarray, k: int = 1) -> np.ndarray:
    return ENGINES[engine](points).nearest(queries, min(k, len(points)))


def normal(rows: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dimensions", [1, 2, 3, 8, 16, 24, 46])
@pytest.mark.parametrize("k", [1, 5])
def test_distances_are_those_of_brute_force(engine: str, dimensions: int, k: int) -> None:
    points, queries = normal(1500, dimensions), normal(70, dimensions, seed=1)
    found = by_engine(engine, points, queries, k)
    assert found.shape == (70, k)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, brute_force(points, queries, k), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("queries", [1, 19, 300])
@pytest.mark.parametrize("dimensions", [2, 46])
@pytest.mark.parametrize("k", [1, 3, 50])
def test_all_engines_give_the_same_distances(
    scan: str, queries: int, dimensions: int, k: int
) -> None:
    points, far = normal(2000, dimensions), normal(queries, dimensions, seed=1)
    tree, scanned = (by_engine(engine, points, far, k) for engine in ("tree", scan))
    np.testing.assert_array_equal(tree, scanned)


@pytest.mark.usefixtures("blocks")
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


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("distance", [1e6, 1e20])
def test_far_queries_have_their_distance(engine: str, distance: float) -> None:
    points, queries = normal(1000, 14), normal(30, 14, seed=1) * np.float32(distance)
    np.testing.assert_allclose(
        by_engine(engine, points, queries), brute_force(points, queries), rtol=1e-6
    )


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("engine", ENGINES)
def test_far_points_do_not_hide_near_ones(engine: str) -> None:
    points, queries = normal(3000, 14), normal(50, 14, seed=1)
    points[::100] *= np.float32(1e5)
    np.testing.assert_allclose(
        by_engine(engine, points, queries), brute_force(points, queries), rtol=1e-3
    )


@pytest.mark.usefixtures("blocks")
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


@pytest.mark.usefixtures("blocks")
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
        Path(qspace_nd.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    (package / "__pycache__").touch()  # not even the superuser can write into a file
    (tmp_path / "home").touch()
    home = str(tmp_path / "home")
    code = (
        "import numpy as np; from qspace_nd.searching.nearest import NearestNeighbours as N; "
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


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("engine", ENGINES)
def test_distances_within_tight_clusters_are_exact(
    clusters: tuple[np.ndarray, np.ndarray], engine: str
) -> None:
    points, queries = clusters
    np.testing.assert_allclose(
        by_engine(engine, points, queries, k=2), brute_force(points, queries, 2), rtol=2e-3
    )


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many blocks of 64 points are measured for all queries together: first, and then too."""
    counts: list[int] = []
    measure = BlockScan._measure

    def count(
        self: BlockScan,
        queries: np.ndarray,
        minima: np.ndarray,
        above: np.ndarray,
        most: np.ndarray,
        nearest: np.ndarray,
    ) -> None:
        counts.append(int(((minima > above) & (minima <= most)).sum()))
        measure(self, queries, minima, above, most, nearest)

    monkeypatch.setattr(BlockScan, "_measure", count)
    monkeypatch.setattr(all_pairs, "_BLOCK", 64)
    return counts


@pytest.mark.parametrize("engine", SCANS)
def test_where_a_product_errs_all_that_may_be_nearer_is_measured(
    engine: str, clusters: tuple[np.ndarray, np.ndarray], looks: list[int]
) -> None:
    by_engine(engine, *clusters)
    assert sum(looks) == 40 * 32  # every block holds points of both clusters


@pytest.mark.parametrize("engine", SCANS)
@pytest.mark.parametrize("dimensions", [8, 46])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("mean", [0, 1000])
def test_of_plain_queries_as_many_blocks_as_neighbours_are_measured(
    engine: str, dimensions: int, k: int, mean: float, looks: list[int]
) -> None:
    points, queries = normal(3000, dimensions), normal(300, dimensions, seed=1)
    by_engine(engine, points + np.float32(mean), queries + np.float32(mean), k)
    assert looks[0] == 300 * k
    assert looks[1] <= 2


@pytest.mark.parametrize("engine", SCANS)
def test_far_points_leave_plain_queries_certain(engine: str, looks: list[int]) -> None:
    points = normal(3000, 14)
    points[::1000] *= np.float32(1e4)
    by_engine(engine, points, normal(300, 14, seed=1))
    assert looks[0] == 300
    assert looks[1] <= 2


def test_for_points_of_the_set_nothing_more_is_measured_where_they_are_duplicated(
    looks: list[int],
) -> None:
    points = np.repeat(normal(200, 14), 20, axis=0)
    by_engine("scan", points, points[::9])
    assert looks[1] == 0


@pytest.mark.parametrize("engine", SCANS)
def test_what_overflows_in_float32_is_measured_everywhere(engine: str, looks: list[int]) -> None:
    points, queries = normal(640, 5), normal(20, 5, seed=1)
    points[7] = np.float32(3e38)
    found = by_engine(engine, points, queries, 640)
    assert looks == [20 * 10, 0]
    np.testing.assert_allclose(found, brute_force(points, queries, 640), rtol=1e-13)


@pytest.mark.parametrize("engine", SCANS)
@pytest.mark.parametrize("scale", [1e-25, 1e-22])
def test_what_underflows_in_float32_is_measured_everywhere(
    engine: str, scale: float, looks: list[int]
) -> None:
    points, queries = normal(6400, 5), normal(50, 5, seed=1)
    points, queries = points * np.float32(scale), queries * np.float32(scale)
    found = by_engine(engine, points, queries)
    assert sum(looks) == 50 * 100
    np.testing.assert_array_equal(found, by_engine("tree", points, queries))


# --- The minima of blocks

MINIMA = {"FAISS": FaissMinima, "PyTorch": partial(TorchMinima, device=CPU)}


@pytest.mark.parametrize("way", MINIMA)
@pytest.mark.parametrize("number", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("queries", [1, 300])
def test_block_minima_are_within_the_bound_on_their_rounding(
    way: str, number: int, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_pairs_minima, "_PIECE", 192)  # of which 1,000 points need some
    points, x = normal(number, 24), normal(queries, 24, seed=1)
    found = MINIMA[way](points, 64)(x)
    assert found.shape == (-(-number // 64), queries)
    norms = np.linalg.norm(x.astype(np.float64), axis=1)
    for row, start in zip(found, range(0, number, 64), strict=True):
        reach = brute_force(points[start : start + 64], x)[:, 0]
        assert (np.abs(row - reach**2) <= all_pairs._rounding(norms, reach, 24)).all()


def test_points_that_a_device_has_no_room_for_are_moved_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(all_pairs_minima, "_PIECE", 192)
    elsewhere = torch.device("meta")  # which PyTorch has on every machine
    for room, place in ((True, elsewhere), (False, CPU)):
        monkeypatch.setattr(all_pairs_minima, "_has_room", lambda device, size, room=room: room)
        pieces = TorchMinima(normal(1000, 8), 64, elsewhere)._pieces
        assert [len(piece) for piece in pieces] == [192] * 5 + [40]
        assert {piece.device for piece in pieces} == {place}


@pytest.fixture
def matmul() -> Iterator[Any]:
    """CUDA's matrix products, to be set up at will."""
    yield torch.backends.cuda.matmul
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_shortened_floats_are_not_used_and_allowed_again_afterwards(
    precision: str, matmul: Any
) -> None:
    torch.set_float32_matmul_precision(precision)
    with all_pairs_minima._no_shorter_floats():
        assert not matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == precision
    assert matmul.allow_tf32 == (precision != "highest")


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="PyTorch is older than 2.9"
)
@pytest.mark.parametrize("precision", ["none", "ieee", "tf32"])
def test_shortened_floats_are_not_used_by_the_newer_setting_either(
    precision: str, matmul: Any
) -> None:
    matmul.fp32_precision = precision
    with all_pairs_minima._no_shorter_floats():
        assert (matmul.fp32_precision, matmul.allow_tf32) == ("ieee", False)
    assert matmul.fp32_precision == precision


def test_a_scan_is_on_a_cuda_device_alone() -> None:
    assert minima_on(CPU) is FaissMinima
    assert minima_on(torch.device("mps")) is FaissMinima
    on_gpu = minima_on(torch.device("cuda"))
    assert isinstance(on_gpu, partial)
    assert (on_gpu.func, on_gpu.keywords) == (TorchMinima, {"device": torch.device("cuda")})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here")
@pytest.mark.parametrize("dimensions", [2, 8, 24, 46])
@pytest.mark.parametrize("k", [1, 5])
def test_on_a_gpu_distances_are_those_of_the_tree(dimensions: int, k: int, matmul: Any) -> None:
    points, queries = normal(50_000, dimensions), normal(5000, dimensions, seed=1)
    scan = BlockScan(points, minima_on(torch.device("cuda")))
    matmul.allow_tf32 = True  # which must not matter
    found = scan.nearest(queries, k)
    np.testing.assert_array_equal(found, by_engine("tree", points, queries, k))


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
    monkeypatch.setattr(nearest, "_SMALL", 100)
    points, queries = normal(3000, 6), normal(600, 6, seed=1)
    neighbours = NearestNeighbours(points)
    first = neighbours.distances(queries)
    assert neighbours.engine in ("tree", "scan")
    np.testing.assert_array_equal(neighbours.distances(queries), first)
    np.testing.assert_allclose(first, brute_force(points, queries), rtol=1e-5)


def test_a_scan_is_made_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []

    def make_minima(device: torch.device) -> Any:
        devices.append(device)
        return FaissMinima

    monkeypatch.setattr(nearest, "_SMALL", 100)
    monkeypatch.setattr(nearest, "_SCANNED", 2000)
    monkeypatch.setattr(nearest, "minima_on", make_minima)
    points, queries = normal(3000, 24), normal(40, 24, seed=1)
    for device in (CPU, torch.device("cuda")):
        found = NearestNeighbours(points, device).distances(queries)
        np.testing.assert_allclose(found, brute_force(points, queries), rtol=1e-13)
    assert devices == [CPU, torch.device("cuda")]


@pytest.mark.parametrize("engine", ["tree", "scan"])
def test_whichever_engine_is_chosen_has_all_points(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "_SMALL", 100)
    monkeypatch.setattr(nearest, "_SCANNED", 2000)
    fast = {"tree": PointTree, "scan": BlockScan}[engine]
    monkeypatch.setattr(nearest, "_time", lambda timed, queries, k: not isinstance(timed, fast))
    points = normal(3000, 6)
    neighbours = NearestNeighbours(points)
    assert (neighbours.distances(points) == 0).all()
    assert neighbours.engine == engine


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
    for engine in ENGINES:
        by_engine(engine, points, queries)
    np.testing.assert_array_equal(points, before[0])
    np.testing.assert_array_equal(queries, before[1])


@pytest.mark.parametrize("engine", ENGINES)
def test_no_queries_have_no_distances(engine: str) -> None:
    assert by_engine(engine, normal(50, 3), normal(0, 3)).shape == (0, 1)

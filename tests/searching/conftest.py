"""What tests of searches share: points, and the nearest of them by a look at all in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import faiss
import numpy as np
import pytest
import torch

from qspace_nd.searching import all_pairs, all_pairs_minima
from qspace_nd.searching.all_pairs import AllPairs
from qspace_nd.searching.all_pairs_minima import FaissMinima, TorchMinima
from qspace_nd.searching.nearest import Finder
from qspace_nd.searching.tree import PointTree

CPU = torch.device("cpu")

PAIRS: dict[str, Callable[[np.ndarray], Finder]] = {
    "FAISS": partial(AllPairs, make_minima=FaissMinima),
    "PyTorch": partial(AllPairs, make_minima=partial(TorchMinima, device=CPU)),
}
"""All pairs, by what computes the minima of blocks."""

FINDERS: dict[str, Callable[[np.ndarray], Finder]] = {"tree": PointTree, **PAIRS}
"""All exact searches."""


@pytest.fixture(autouse=True)
def global_settings() -> Iterator[None]:
    """Put back the settings of FAISS and of threads, which searches change too."""
    threads, blas = torch.get_num_threads(), faiss.cvar.distance_compute_blas_threshold
    faiss_threads = faiss.omp_get_max_threads()
    yield
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(faiss_threads)
    faiss.cvar.distance_compute_blas_threshold = blas


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 64 points, so that few points fill many."""
    monkeypatch.setattr(all_pairs, "_BLOCK", 64)
    monkeypatch.setattr(all_pairs_minima, "_PIECE", 3 * 64)


@pytest.fixture
def matmul() -> Iterator[Any]:
    """CUDA's matrix products, to be set up at will."""
    yield torch.backends.cuda.matmul
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Points in two tight clusters far apart: a matrix product cannot tell neighbours apart."""
    rng = np.random.default_rng(0)
    side = np.where(np.arange(2000) % 2, 1000.0, -1000.0)[:, None]
    points = (side + rng.normal(scale=1e-2, size=(2000, 14))).astype(np.float32)
    queries = (side[:40] + rng.normal(scale=1e-2, size=(40, 14))).astype(np.float32)
    return points, queries


def normal(rows: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)


def brute_force(points: np.ndarray, queries: np.ndarray, k: int = 1) -> np.ndarray:
    differences = queries[:, None].astype(np.float64) - points[None].astype(np.float64)
    return np.sort(np.sqrt((differences**2).sum(axis=-1)), axis=1)[:, :k]


def found_by(finder: str, points: np.ndarray, queries: np.ndarray, k: int = 1) -> np.ndarray:
    return FINDERS[finder](points).distances(queries, k)

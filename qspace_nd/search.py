"""Exact search for the nearest points of a large set, by Euclidean distance."""

from __future__ import annotations

import time

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

_PROBES = 256  # queries that both engines are timed on
_SMALL = 20_000  # below this many points the choice of engine does not matter
_CANDIDATES = 4  # more neighbours than asked for that a scan in float32 keeps, to be ranked anew


class NearestNeighbours:
    """The nearest of N points in d dimensions, exactly, in bounded memory.

    Two engines find neighbours: a k-d tree, whose cost hardly grows with N where the points fill
    few dimensions, and FAISS's scan of all pairs as a matrix product. Which is faster depends on
    the data, so a few queries are timed on both; the distances are the same, because either
    engine's neighbours are measured again in float64, and a scan's neighbours are accepted only
    where its rounding error cannot have hidden a nearer one.

    Parameters
    ----------
    points : (N, d) array
        The points; held once, as float32 about their mean.
    """

    def __init__(self, points: NDArray[np.float32]) -> None:
        # Centred, because squared distances by a matrix product cancel where the mean is large.
        self._centre = points.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._points = np.ascontiguousarray(points - self._centre)
        self._tree: cKDTree | None = None
        self._engine = ""

    def __len__(self) -> int:
        return len(self._points)

    def distances(self, queries: NDArray[np.float32], k: int = 1) -> NDArray[np.float64]:
        """Distances from `queries` (n, d) to the k nearest points, ascending: (n, k)."""
        centred = np.ascontiguousarray(queries - self._centre)
        k = min(k, len(self))
        if not self._engine:
            self._engine = self._faster_engine(centred, k)
        find = {"tree": self._by_tree, "scan": self._by_scan}[self._engine]
        return find(centred, k)

    def _faster_engine(self, queries: NDArray[np.float32], k: int) -> str:
        if len(self) < _SMALL:
            return "scan" if queries.shape[1] > 12 else "tree"
        probes = queries[:: max(1, len(queries) // _PROBES)][:_PROBES]
        self._build_tree()
        seconds = {}
        for name, find in {"tree": self._by_tree, "scan": self._by_scan}.items():
            find(probes, k)  # the first call pays for memory and threads
            start = time.perf_counter()
            find(probes, k)
            seconds[name] = time.perf_counter() - start
        fastest = min(seconds, key=seconds.__getitem__)
        if fastest == "scan":
            self._tree = None
        return fastest

    def _build_tree(self) -> cKDTree:
        if self._tree is None:
            # Points in the tree's own order lie together in memory: three times faster to query.
            order = cKDTree(self._points).indices
            self._points = self._points[order]
            self._tree = cKDTree(self._points)
        return self._tree

    def _by_tree(self, queries: NDArray[np.float32], k: int) -> NDArray[np.float64]:
        tree = self._build_tree()
        order = cKDTree(queries).indices  # neighbouring queries find the same leaves in the cache
        _, found = tree.query(queries[order], k=np.arange(1, k + 1), workers=_threads())
        neighbours = np.empty_like(found)
        neighbours[order] = found
        return self._measure(queries, neighbours)

    def _by_scan(self, queries: NDArray[np.float32], k: int) -> NDArray[np.float64]:
        faiss.omp_set_num_threads(_threads())
        faiss.cvar.distance_compute_blas_threshold = 20  # else small batches take a slow path
        kept = min(k + _CANDIDATES, len(self))
        squared, neighbours = faiss.knn(queries, self._points, kept)
        distances = np.sort(self._measure(queries, neighbours), axis=1)[:, :k]
        if kept < len(self):
            farthest = distances[:, -1]
            hidden = farthest**2 > squared[:, -1] - _rounding(queries, farthest)
            overflowed = neighbours[:, -1] < 0
            unsure = (hidden & (farthest > 0)) | overflowed
            distances[unsure] = self._by_differences(queries[unsure], k)
        return distances

    def _by_differences(self, queries: NDArray[np.float32], k: int) -> NDArray[np.float64]:
        """The k least distances in float64, with every point: slow, for the few left open."""
        nearest = np.full((len(queries), k), np.inf)
        for start in range(0, len(self), 65_536):
            block = self._points[start : start + 65_536].astype(np.float64)
            for row, query in enumerate(queries):
                distance = np.sqrt(((block - query) ** 2).sum(axis=1))
                nearest[row] = np.sort(np.concatenate([nearest[row], distance]))[:k]
        return nearest

    def _measure(
        self, queries: NDArray[np.float32], neighbours: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Distances in float64 of each query (n, d) to its `neighbours` (n, k): (n, k)."""
        distances = np.empty(neighbours.shape)
        for start in range(0, len(queries), 8192):
            rows = slice(start, start + 8192)
            difference = self._points[neighbours[rows]].astype(np.float64) - queries[rows, None]
            distances[rows] = np.sqrt((difference**2).sum(axis=-1))
        return distances


def _rounding(queries: NDArray[np.float32], distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bound on the error of |x - y|² = |x|² + |y|² - 2 x·y in float32: (n,).

    For `queries` x (n, d) and every point y within `distances` r (n,), so that |y| <= |x| + r.
    Higham, "Accuracy and Stability of Numerical Algorithms", equation 3.5, for each term.
    """
    norms = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    terms = queries.shape[1] + 3
    bound: NDArray[np.float64] = terms * 2.0**-24 * (2.0 * norms + distances) ** 2
    return bound


def _threads() -> int:
    """Return the threads to use: PyTorch's setting serves the whole package."""
    return torch.get_num_threads()

"""Exact search for the nearest points of a large set, by Euclidean distance."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from qspace_nd.leaves import Leaves, rounding

_log = logging.getLogger(__name__)

_Finder = Callable[[NDArray[np.float32], int], NDArray[np.float64]]

_PROBES = 256  # queries that the engines are timed on
_TREE_DIMENSIONS = 32  # beyond, a tree of float64 takes memory and is never faster
_SMALL = 20_000  # below this many points the choice of engine does not matter
_FAR = 1e15  # whose squares float32 may not hold
_CANDIDATES = 4  # more neighbours than asked for that a scan in float32 keeps, to be ranked anew


class NearestNeighbours:
    """The nearest of N points in d dimensions, exactly, in bounded memory.

    Three engines find neighbours: a k-d tree, whose cost hardly grows with N where the points fill
    few dimensions; leaves on the leading principal components, where they fill many but vary mostly
    in a few; and FAISS's scan of all pairs as a matrix product. Which is fastest depends on the
    data, so a few queries are timed on each; the distances are the same, because all of them are
    measured in float64, and a neighbour found in float32 is accepted only where its rounding error
    cannot have hidden a nearer one.

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
        self._leaves: Leaves | None = None
        self.engine = ""

    def __len__(self) -> int:
        return len(self._points)

    def distances(self, queries: NDArray[np.float32], k: int = 1) -> NDArray[np.float64]:
        """Distances from `queries` (n, d) to the k nearest points, ascending: (n, k)."""
        centred = np.ascontiguousarray(queries - self._centre)
        k = min(k, len(self))
        if not self.engine:
            self.engine = self._fastest_engine(centred, k)
        return self._finders()[self.engine](centred, k)

    def _finders(self) -> dict[str, _Finder]:
        return {"tree": self._by_tree, "leaves": self._by_leaves, "scan": self._by_scan}

    def _fastest_engine(self, queries: NDArray[np.float32], k: int) -> str:
        dimensions = queries.shape[1]
        if len(self) < _SMALL:
            return "scan" if dimensions > 12 else "tree"
        probes = queries[:: max(1, len(queries) // _PROBES)][:_PROBES]
        seconds = {}
        for name, find in self._finders().items():
            if name == "tree" and dimensions > _TREE_DIMENSIONS:
                continue
            find(probes, k)  # the first call pays for memory and threads
            start = time.perf_counter()
            find(probes, k)
            seconds[name] = time.perf_counter() - start
        fastest = min(seconds, key=seconds.__getitem__)
        timed = ", ".join(f"{name} {1e6 * s / len(probes):.0f} µs" for name, s in seconds.items())
        _log.info(
            "Nearest of %d in %d dimensions: by %s (%s)", len(self), dimensions, fastest, timed
        )
        self._tree = self._tree if fastest == "tree" else None
        self._leaves = self._leaves if fastest == "leaves" else None
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

    def _by_leaves(self, queries: NDArray[np.float32], k: int) -> NDArray[np.float64]:
        if np.abs(self._points).max() > _FAR:
            return self._by_scan(queries, k)
        if self._leaves is None:
            self._leaves = Leaves(self._points)
        far = (np.abs(queries) > _FAR).any(axis=1)
        distances = np.empty((len(queries), k))
        distances[~far] = self._leaves.distances(queries[~far], k)
        distances[far] = self._by_differences(queries[far], k)
        return distances

    def _by_scan(self, queries: NDArray[np.float32], k: int) -> NDArray[np.float64]:
        faiss.omp_set_num_threads(_threads())
        faiss.cvar.distance_compute_blas_threshold = 20  # else small batches take a slow path
        kept = min(k + _CANDIDATES, len(self))
        squared, neighbours = faiss.knn(queries, self._points, kept)
        distances = np.sort(self._measure(queries, neighbours), axis=1)[:, :k]
        if kept < len(self):
            farthest = distances[:, -1]
            norms = (queries.astype(np.float64) ** 2).sum(axis=1)
            error = rounding(norms, farthest**2, queries.shape[1])
            hidden = farthest**2 > squared[:, -1] - error
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


def _threads() -> int:
    """Return the threads to use: PyTorch's setting serves the whole package."""
    return torch.get_num_threads()

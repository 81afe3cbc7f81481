"""Exact search for the nearest points of a large set, by Euclidean distance."""

from __future__ import annotations

import logging
import time
from typing import Protocol

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

_log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_PROBES = 256  # queries that the engines are timed on
_SCANNED = 250_000  # points that a scan is timed on
_SMALL = 20_000  # below this many points the choice of engine does not matter
_CANDIDATES = 4  # more neighbours than asked for that a scan in float32 keeps, to be ranked anew


class Engine(Protocol):
    """A way to find neighbours among the points that it was made with."""

    def nearest(self, queries: Floats, k: int) -> Doubles:
        """Distances from `queries` (n, d) to the k <= N nearest points, ascending: (n, k)."""


class NearestNeighbours:
    """The nearest of N points in d dimensions, exactly.

    Two engines find neighbours: a tree, whose cost hardly grows with N where the points fill few
    dimensions or vary mostly in a few, and FAISS's scan of all pairs as a matrix product. Which is
    faster depends on the data, so a few queries are timed on both. Distances are the same to the
    last bit, because both measure them in float64, in one order, and trust what they found in
    float32 only where its rounding cannot have hidden a nearer point.

    Parameters
    ----------
    points : (N, d) array
        The points, taken as float32.

    Attributes
    ----------
    engine : str
        What finds neighbours, `tree` or `scan`; empty before the first search.
    """

    def __init__(self, points: Floats) -> None:
        self._points = np.ascontiguousarray(points, np.float32)
        self._number = len(points)
        self._search: Engine | None = None
        self.engine = ""

    def __len__(self) -> int:
        return self._number

    def distances(self, queries: Floats, k: int = 1) -> Doubles:
        """Distances from `queries` (n, d) to the k nearest points, ascending: (n, k)."""
        queries = np.ascontiguousarray(queries, np.float32)
        k = min(k, len(self))
        if not len(queries):
            return np.empty((0, k))
        if self._search is None:
            self.engine, self._search = self._fastest(queries, k)
            self._points = np.empty((0, 0), np.float32)  # the engine holds what it needs
        return self._search.nearest(queries, k)

    def _fastest(self, queries: Floats, k: int) -> tuple[str, Engine]:
        # Compiled code takes its time to import: only who searches waits for it.
        from qspace_nd.tree import PointTree

        tree = PointTree(self._points)
        if len(self) < _SMALL:
            return "tree", tree
        probes = queries[:: max(1, len(queries) // _PROBES)][:_PROBES]
        # A scan's time is in proportion to the points: some tell it for all.
        some = Scan(self._points[:_SCANNED])
        seconds = {
            "tree": _time(tree, probes, k),
            "scan": _time(some, probes, k) * len(self) / min(len(self), _SCANNED),
        }
        fastest = min(seconds, key=seconds.__getitem__)
        timed = ", ".join(f"{name} {1e6 * s / len(probes):.0f} µs" for name, s in seconds.items())
        size = f"{len(self)} in {queries.shape[1]} dimensions"
        _log.info("Nearest of %s: by %s (%s)", size, fastest, timed)
        return fastest, tree if fastest == "tree" else Scan(self._points)


def _time(engine: Engine, queries: Floats, k: int) -> float:
    """Seconds that the neighbours of `queries` (n, d) take."""
    engine.nearest(queries, k)  # the first call pays for memory and threads
    start = time.perf_counter()
    engine.nearest(queries, k)
    return time.perf_counter() - start


class Scan:
    """All pairs of queries and N points in d dimensions, by FAISS.

    Parameters
    ----------
    points : (N, d) array
        Held as they are, and about their mean: squared distances by a matrix product cancel where
        it is large.
    """

    def __init__(self, points: Floats) -> None:
        self._points = points
        self._centre = points.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._centred = points - self._centre

    def nearest(self, queries: Floats, k: int) -> Doubles:
        """Distances from `queries` (n, d) to the k <= N nearest points, ascending: (n, k)."""
        faiss.omp_set_num_threads(torch.get_num_threads())
        faiss.cvar.distance_compute_blas_threshold = 20  # else small batches take a slow path
        kept = min(k + _CANDIDATES, len(self._points))
        centred = queries - self._centre
        squared, neighbours = faiss.knn(centred, self._centred, kept)
        distances = np.sort(self._measure(queries, neighbours), axis=1)[:, :k]
        if kept < len(self._points):
            farthest = distances[:, -1]
            norms = np.sqrt((centred.astype(np.float64) ** 2).sum(axis=1))
            # Numbers are rounded about the mean too, those of a neighbour at most as much as the
            # query's and their difference.
            reach = farthest + 2.0**-23 * (norms + farthest)
            unsure = reach**2 > squared[:, -1] - _rounding(norms, reach, queries.shape[1])
            # Indices are -1 where float32 overflowed. Nothing is nearer than 0.
            unsure = (unsure & (farthest > 0)) | (neighbours[:, -1] < 0)
            distances[unsure] = self._by_differences(queries[unsure], k)
        return distances

    def _by_differences(self, queries: Floats, k: int) -> Doubles:
        """The k least distances in float64, with every point: slow, for the few left open."""
        nearest = np.full((len(queries), k), np.inf)
        for start in range(0, len(self._points), 65_536):
            block = self._points[start : start + 65_536].astype(np.float64)
            for row, query in enumerate(queries):
                distance = _lengths(block - query)
                nearest[row] = np.sort(np.concatenate([nearest[row], distance]))[:k]
        return nearest

    def _measure(self, queries: Floats, neighbours: NDArray[np.int64]) -> Doubles:
        """Distances in float64 of each query (n, d) to its `neighbours` (n, k): (n, k)."""
        distances = np.empty(neighbours.shape)
        for start in range(0, len(queries), 8192):
            rows = slice(start, start + 8192)
            points = self._points[neighbours[rows]].astype(np.float64)
            distances[rows] = _lengths(points - queries[rows, None])
        return distances


def _lengths(differences: Doubles) -> Doubles:
    """Lengths of vectors (..., d), whose squares are summed one by one, as the tree does: (...)."""
    total = np.zeros(differences.shape[:-1])
    for dimension in range(differences.shape[-1]):
        total += differences[..., dimension] ** 2
    return np.sqrt(total)


def _rounding(norms: Doubles, reach: Doubles, dimensions: int) -> Doubles:
    """Bound on the error of |x - y|² = |x|² + |y|² - 2 x·y in float32: (n,).

    For x of norm `norms` (n,) and every y within the distance `reach` (n,), so that
    |y| <= |x| + |x - y|. Higham, "Accuracy and Stability of Numerical Algorithms", equation 3.5,
    for each term.
    """
    bound: Doubles = (dimensions + 3) * 2.0**-24 * (2.0 * norms + reach) ** 2
    return bound

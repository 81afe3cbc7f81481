"""Exact nearest neighbours where the points fill many dimensions but vary mostly in a few.

Points lie in leaves of a k-d order on their leading principal components and on the norm of the
rest. A leaf's box on these coordinates bounds the distance of its points from below, because
|x - y|² ≥ |P(x - y)|² + (|x - Px| - |y - Py|)² for the projection P; leaves beyond the neighbours
found so far are passed over, and the others are compared in one matrix product each.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from qspace_nd.blocks import workers

Floats = NDArray[np.float32]

_LEADING = 7  # principal components: more make boxes that bound no better
_LEAF = 1024  # points: fewer cost more calls, more pass over less
_BLOCK = 256  # queries that are compared with a leaf at once


class Leaves:
    """Points (N, d) in leaves.

    Parameters
    ----------
    points : (N, d) array
        Their mean must be near 0, for squared distances by a matrix product cancel otherwise.
    """

    def __init__(self, points: Floats) -> None:
        _, axes = np.linalg.eigh((points.T @ points).astype(np.float64))
        self._axes = axes[:, ::-1][:, :_LEADING].astype(np.float32)
        coordinates = self._coordinates(points)
        order, ends = _kd_order(coordinates, _LEAF)
        self._points = points[order]
        ones, squares = np.ones(len(points), np.float32), (self._points**2).sum(axis=1)
        self._factors = torch.from_numpy(np.column_stack([self._points, squares, ones]))
        self._ends = ends
        parts = [coordinates[order[start:end]] for start, end in pairwise(ends)]
        self._lower = np.array([part.min(axis=0) for part in parts])  # (leaves, _LEADING + 1)
        self._upper = np.array([part.max(axis=0) for part in parts])

    def distances(self, queries: Floats, k: int) -> NDArray[np.float64]:
        """Distances from `queries` (n, d) to the k nearest points, ascending: (n, k)."""
        coordinates = self._coordinates(queries)
        order, ends = _kd_order(coordinates, _BLOCK)
        nearest = np.empty((len(queries), k))

        def search(block: tuple[int, int]) -> None:
            rows = order[slice(*block)]
            nearest[rows] = self._search(queries[rows], coordinates[rows], k)

        with workers() as pool:
            list(pool.map(search, pairwise(ends)))
        return nearest

    def _coordinates(self, points: Floats) -> Floats:
        """Leading principal components, and the norm of the rest: (n, _LEADING + 1)."""
        leading = points @ self._axes
        rest = np.sqrt(np.maximum((points**2).sum(axis=1) - (leading**2).sum(axis=1), 0.0))
        return np.column_stack([leading, rest]).astype(np.float32, copy=False)

    def _search(self, queries: Floats, coordinates: Floats, k: int) -> NDArray[np.float64]:
        """Squared lower bounds rule leaves out; float64 decides among what float32 leaves open."""
        outside = np.maximum(self._lower - coordinates[:, None], coordinates[:, None] - self._upper)
        bounds = (np.maximum(outside, 0.0) ** 2).sum(axis=-1)  # (queries, leaves)
        squares = (queries.astype(np.float64) ** 2).sum(axis=1)
        ones = np.ones(len(queries), np.float32)
        # One product gives |x|² + |y|² - 2 x·y.
        factors = torch.from_numpy(
            np.column_stack([-2.0 * queries, ones, squares.astype(np.float32)])
        )
        nearest = np.full((len(queries), k), np.inf)  # squared, ascending
        least = bounds.min(axis=0)
        for leaf in least.argsort():
            reach = nearest[:, -1] + rounding(squares, nearest[:, -1], queries.shape[1])
            if least[leaf] > reach.max():
                break
            rows = np.flatnonzero(bounds[:, leaf] <= reach)
            if not len(rows):
                continue
            points = slice(self._ends[leaf], self._ends[leaf + 1])
            apart = torch.mm(factors[rows], self._factors[points].T)
            if np.isinf(reach[rows]).any():
                reach[rows] = np.minimum(
                    reach[rows], _reach(apart.numpy(), squares[rows], queries, k)
                )
            near = np.flatnonzero(apart.amin(1).numpy() <= reach[rows])
            if not len(near):
                continue
            candidates, columns = np.nonzero(apart.numpy()[near] <= reach[rows[near], None])
            candidates = rows[near[candidates]]
            difference = queries[candidates].astype(np.float64) - self._points[points][columns]
            _insert(nearest, candidates, np.einsum("ij,ij->i", difference, difference))
        distances: NDArray[np.float64] = np.sqrt(nearest)
        return distances


def rounding(
    squares: NDArray[np.float64], reach: NDArray[np.float64], dimensions: int
) -> NDArray[np.float64]:
    """Bound on the error of |x - y|² = |x|² + |y|² - 2 x·y in float32: (n,).

    For x of squared norm `squares` (n,) and every y within the squared distance `reach` (n,), so
    that |y| <= |x| + |x - y|. Higham, "Accuracy and Stability of Numerical Algorithms",
    equation 3.5, for each term.
    """
    norms = 2.0 * np.sqrt(squares) + np.sqrt(reach)
    bound: NDArray[np.float64] = (dimensions + 3) * 2.0**-24 * norms**2
    return bound


def _reach(
    apart: Floats, squares: NDArray[np.float64], queries: Floats, k: int
) -> NDArray[np.float64]:
    """Squared distance that the k nearest points surely lie within, from one leaf: (n,)."""
    if apart.shape[1] < k:
        return np.full(len(apart), np.inf)
    found = np.maximum(np.partition(apart, k - 1, axis=1)[:, k - 1], 0.0).astype(np.float64)
    return found + 2.0 * rounding(squares, found, queries.shape[1])


def _insert(
    nearest: NDArray[np.float64], rows: NDArray[np.intp], squared: NDArray[np.float64]
) -> None:
    """Put squared distances among the k least of their rows, in place."""
    k = nearest.shape[1]
    touched = np.unique(rows)
    all_rows = np.concatenate([np.repeat(touched, k), rows])
    values = np.concatenate([nearest[touched].ravel(), squared])
    order = np.lexsort([values, all_rows])
    first = np.searchsorted(all_rows[order], touched)
    nearest[touched] = values[order][first[:, None] + np.arange(k)]


def _kd_order(points: Floats, size: int) -> tuple[NDArray[np.intp], list[int]]:
    """Order points (n, m) such that runs of at most `size` lie together; the runs' ends from 0."""
    order = np.arange(len(points))
    pending, ends = [(0, len(points))] if len(points) else [], [0]
    while pending:
        start, end = pending.pop()
        if end - start <= size:
            ends.append(end)
            continue
        inside = points[order[start:end]]
        widest = np.ptp(inside, axis=0).argmax()
        middle = (end - start) // 2
        order[start:end] = order[start:end][inside[:, widest].argpartition(middle)]
        pending += [(start + middle, end), (start, start + middle)]  # the left half comes next
    return order, ends

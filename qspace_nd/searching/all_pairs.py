"""Exact nearest neighbours by all pairs: float32 tells which blocks of points to measure."""

from __future__ import annotations

import numpy as np
import torch

from qspace_nd.arrays import Float32, Float64
from qspace_nd.progress import Advance, unheard
from qspace_nd.searching.all_pairs_minima import BATCH, MakeMinima
from qspace_nd.system.compiling import compiled
from qspace_nd.system.threads import workers

_BLOCK = 2048  # the fewest points of a block
_BLOCKS = 4096  # the most blocks: a batch's minima of all of them are in memory at once
_TILE = 64  # points that are measured side by side
_LARGEST = 2.0**126  # sums of squares below this do not overflow in float32
_LEAST = 2.0**-126  # products below this lose digits in float32


class AllPairs:
    """The nearest of N points in d dimensions, by all pairs.

    For each block of points a query's least squared distance is computed in float32. Where the
    least ones are, distances are measured in float64; and then wherever else, by the bound on the
    rounding, a point may be nearer than those found. For one neighbour that is nearly always the
    one block, so that a search takes hardly longer than the products in float32.

    Parameters
    ----------
    points : (N, d) array
        They are compared about their mean: squared distances by a matrix product cancel where it
        is large.
    make_minima : callable
        How the minima of the blocks are computed (`qspace_nd.searching.all_pairs_minima`).
    """

    def __init__(self, points: Float32, make_minima: MakeMinima) -> None:
        self._points = points
        self._size = max(_BLOCK, -(-len(points) // _BLOCKS))
        self._centre = points.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = self._about_mean(points)
        self._farthest = max(
            float(_norms(centred[start : start + BATCH]).max())
            for start in range(0, len(points), BATCH)
        )
        self._minima = make_minima(centred, self._size)

    def distances(
        self,
        queries: Float32,
        k: int = 1,
        within: Float64 | None = None,
        advance: Advance = unheard,
    ) -> Float64:
        """Distances from `queries` (n, d) to the k nearest points, ascending: (n, min(k, N)).

        `within` spares nothing here: all points are looked at.
        """
        nearest = np.full((len(queries), min(k, len(self._points))), np.inf)
        for start in range(0, len(queries), BATCH):
            some = slice(start, start + BATCH)
            self._search(queries[some], nearest[some])
            advance(len(queries[some]))
        np.sqrt(nearest, out=nearest)
        return nearest

    def _about_mean(self, vectors: Float32) -> Float32:
        with np.errstate(over="ignore"):  # what is too far is measured in float64
            about: Float32 = vectors - self._centre
        return about

    def _search(self, queries: Float32, nearest: Float64) -> None:
        """Put squared distances to the nearest into `nearest` (n, k)."""
        centred = self._about_mean(queries)
        norms, dimensions = _norms(centred), queries.shape[1]
        minima = self._minima(centred)  # (blocks, n)
        minima[:, ~((norms + self._farthest) ** 2 <= _LARGEST)] = 0.0  # which leaves out no block
        # As many blocks as neighbours hold as many points, or all.
        kth = min(nearest.shape[1], len(minima)) - 1
        first = np.partition(minima, kth, axis=0)[kth].astype(np.float64)
        self._measure(queries, minima, np.full(len(queries), -np.inf), first, nearest)
        farthest = np.sqrt(nearest[:, -1])
        # Numbers are rounded about the mean too, those of a neighbour at most as much as the
        # query's and their difference.
        reach = farthest + 2.0**-23 * (norms + farthest)
        last = reach**2 + _rounding(norms, reach, dimensions)
        self._measure(queries, minima, first, last, nearest)

    def _measure(
        self, queries: Float32, minima: Float32, above: Float64, most: Float64, nearest: Float64
    ) -> None:
        """Look for nearer points where a block's minimum is `above` (n,) and at `most` (n,)."""
        shares = np.linspace(0, len(queries), torch.get_num_threads() + 1).astype(int)

        def share(first: int, last: int) -> None:
            _measure_blocks(
                self._points, self._size, queries, minima, above, most, first, last, nearest
            )

        with workers() as pool:
            list(pool.map(share, shares[:-1], shares[1:]))


@compiled
def _measure_blocks(
    points: Float32, size: int, queries: Float32, minima: Float32, above: Float64, most: Float64,
    first: int, last: int, nearest: Float64,
) -> None:  # fmt: skip
    """Measure in float64, for queries `first` to `last`; squares are summed as the tree does."""
    dimensions, k = points.shape[1], nearest.shape[1]
    chosen = np.empty(last - first, np.int64)
    tile = np.zeros((dimensions, _TILE))  # coordinates of some points, a dimension's side by side
    squared = np.empty(_TILE)
    for number in range(len(minima)):
        count = 0
        for query in range(first, last):
            if above[query] < minima[number, query] <= most[query]:
                chosen[count] = query
                count += 1
        if not count:
            continue
        end = min((number + 1) * size, len(points))
        for start in range(number * size, end, _TILE):
            length = min(_TILE, end - start)
            for j in range(length):
                for i in range(dimensions):
                    tile[i, j] = points[start + j, i]
            for query in chosen[:count]:
                squared[:] = 0.0
                for i in range(dimensions):
                    coordinate = np.float64(queries[query, i])
                    for j in range(_TILE):
                        apart = tile[i, j] - coordinate
                        squared[j] += apart * apart
                for j in range(length):
                    if squared[j] < nearest[query, k - 1]:
                        place = k - 1
                        while place > 0 and nearest[query, place - 1] > squared[j]:
                            nearest[query, place] = nearest[query, place - 1]
                            place -= 1
                        nearest[query, place] = squared[j]


def _norms(vectors: Float32) -> Float64:
    norms: Float64 = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
    return norms


def _rounding(norms: Float64, reach: Float64, dimensions: int) -> Float64:
    """Bound on the error of |x - y|² = |x|² + |y|² - 2 x·y in float32: (n,).

    For x of norm `norms` (n,) and every y within the distance `reach` (n,), so that
    |y| <= |x| + |x - y|. It is a sum of 3 d products, none of which is rounded more than 3 d times
    in whatever order it is summed, fused or not, on a GPU too (Higham, "Accuracy and Stability of
    Numerical Algorithms", equation 3.5); each that underflows errs by less than the least number.
    """
    products = 3.0 * (dimensions + 1)
    bound: Float64 = products * (2.0**-24 * (2.0 * norms + reach) ** 2 + _LEAST)
    return bound

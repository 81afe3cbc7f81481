"""Trees of points and of diagonal Gaussians, for exact searches.

How it works, file by file:
1. `tree_order` sorts points as a k-d tree does: halved along the axis in which they vary most, and
   again, down to leaves of 16 points that lie close together.
2. `tree` (here) puts boxes around leaves. 16 neighbouring leaves get a parent, 16 parents theirs,
   up to one root. Queries are sorted likewise: each begins with the neighbours of one close by.
3. `tree_search` goes down from the root, nearest boxes first, and leaves out boxes and points that
   are farther than the neighbours found, by sums in float32 with room for their rounding. What is
   left it measures in float64, so that nothing is missed.
4. `vectors` sums for the 16 boxes of a parent, or the 16 points of a leaf, at once, in LLVM.
5. `system/compiling` wraps Numba, which compiles what runs for every point or query.

A change of 1 or 2 alters speed alone. 3 and 4 decide what is found; tests hold them against all
pairs in float64. For Gaussians only the sums differ, the first functions of `tree_search`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qspace_nd.arrays import Float32, Float64, Int64
from qspace_nd.gaussian import Gaussian
from qspace_nd.progress import Advance, unheard
from qspace_nd.searching.tree_order import in_order
from qspace_nd.searching.tree_search import (
    BHATTACHARYYA,
    DENSITY,
    EUCLIDEAN,
    NONE,
    Index,
    Queries,
    search,
    sum_densities,
)
from qspace_nd.searching.vectors import CHUNK, LANES
from qspace_nd.system.scratch import Room
from qspace_nd.system.threads import workers

_SHARE = 1024  # queries that a thread works through at a time
_BATCH = 65_536  # rows that are prepared at a time
_PARENTS = 4096  # whose boxes are made at a time
_OWN_AXES = 8  # dimensions; where there are more, boxes lie along principal components
_LOG_2_PI = math.log(2.0 * math.pi)
_ROOM, _LEAST = 1.0 + 1e-9, 1e-300


def _tiles(rows: Float32) -> Float32:
    """Transpose each 16 `rows` (16 n, d) in place: (n, d, 16)."""
    leaves, width = len(rows) // LANES, rows.shape[1]
    tiles = rows.reshape(leaves, width, LANES)
    for start in range(0, leaves, 4096):
        some = slice(start, start + 4096)
        tiles[some] = tiles[some].reshape(-1, LANES, width).transpose(0, 2, 1).copy()
    return tiles


def _boxes(leaves: Float32, points: int, room: Room = np.empty) -> tuple[Float32, Int64, Int64]:
    """Boxes around `leaves` (n, e, parts, 16), and sizes and begins, as an index has them."""
    sizes, begins = _levels(points)
    boxes = room((int(begins[-1]), *leaves.shape[1:-1], 2, LANES), np.float32)
    for level, begin in enumerate(begins[:-1]):
        below = boxes[begins[level - 1] : begin] if level else leaves
        parents = boxes[begin : begins[level + 1]]
        for start in range(0, len(parents), _PARENTS):
            some = parents[start : start + _PARENTS]
            # The last parent is filled up with its last child.
            numbers = np.arange(start * LANES, (start + len(some)) * LANES)
            children = below[np.minimum(numbers, sizes[level + 1] - 1)]
            low, high = (children[..., 0, :], children[..., 1, :]) if level else (children,) * 2
            both = np.stack([low.min(axis=-1), high.max(axis=-1)], axis=-1)  # (16 n, e, parts, 2)
            some[:] = np.moveaxis(both.reshape(len(some), LANES, *both.shape[1:]), 1, -1)
    return boxes.reshape(-1), sizes, begins


def _levels(points: int) -> tuple[Int64, Int64]:
    """The sizes and begins of the levels of a tree of so many points."""
    sizes, begins = [points, -(-points // LANES)], [0]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // LANES))
        begins.append(begins[-1] + sizes[-1])
    return np.array(sizes), np.array(begins)


def _padded(rows: int, dimensions: int, room: Room = np.zeros) -> Float32:
    """Rows of zeros, in an array that `room` gives."""
    return room((rows, -(-dimensions // CHUNK) * CHUNK), np.float32)


def _search_all(
    index: Index,
    queries: Queries,
    ids: Int64,
    nearest: Float64,
    pool: Executor,
    numbers: Int64 | None = None,
    advance: Advance = unheard,
) -> None:
    """Search for the neighbours of queries that were the rows `ids` of `nearest` (n, k).

    Which points they are is put into `numbers` (n, k), where that is wanted.
    """

    def share(start: int) -> int:
        some = ids[start : start + _SHARE]
        found = nearest[some]
        told = np.empty((0 if numbers is None else len(some), found.shape[1]), np.int64)
        search(index, _those(queries, start, start + _SHARE), found, told)
        nearest[some] = found
        if numbers is not None:
            numbers[some] = told
        return len(some)

    for done in pool.map(share, range(0, len(ids), _SHARE)):
        advance(done)


def _those(queries: Queries, first: int, last: int) -> Queries:
    """The queries from `first` to before `last`."""
    number = len(queries.slack)
    rows, exact = queries.rows.reshape(number, -1), queries.exact.reshape(number, -1)
    return queries._replace(
        rows=rows[first:last].reshape(-1),
        exact=exact[first:last].reshape(-1),
        slack=queries.slack[first:last],
    )


class PointTree:
    """N points in d dimensions, by Euclidean distance.

    Parameters
    ----------
    points : (N, d) array
        Their coordinates. In up to 8 dimensions they are held once; in more, their principal
        components are held too, because boxes along these bound distances best.
    room : callable, optional
        Gives the arrays of zeros that the tree is built in and held in: those of
        `system.scratch.Scratch.room` lie on the disk, for a tree that memory does not hold.
    """

    def __init__(self, points: Float32, room: Room = np.zeros) -> None:
        number, dimensions = points.shape
        self._axes = _principal_axes(points) if dimensions > _OWN_AXES else None
        rows = _padded(-(-number // LANES) * LANES, dimensions, room)
        self._place(points, rows)
        with workers() as pool:
            ids = in_order(rows, number, pool, room)
        rows[number:] = rows[number - 1]
        leaves = _tiles(rows)
        width = leaves.shape[1]
        boxed = min(width, _OWN_AXES)
        boxes, sizes, begins = _boxes(leaves[:, :boxed, None], number, room)
        if self._axes is None:
            exact, strides = leaves, (width * LANES, 1, LANES)
        else:
            exact, strides = room(points.shape, np.float32), (dimensions * LANES, dimensions, 1)
            for start in range(0, number, _BATCH):
                exact[start : start + _BATCH] = points[ids[start : start + _BATCH]]
        self._index = Index(
            EUCLIDEAN, leaves.ravel(), boxes, sizes, begins, 1, 1, width, boxed, exact.ravel(),
            *strides, dimensions, np.empty(0), 0.0, ids,
        )  # fmt: skip

    def __len__(self) -> int:
        return int(self._index.sizes[0])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give what there is to store of the tree, by names."""
        index = self._index
        leaf = LANES * index.dimensions
        arrays: dict[str, NDArray[Any]] = {
            "leaves": index.leaves.reshape(-1, leaf),
            "boxes": index.boxes,
            "ids": index.ids,
        }
        if self._axes is not None:
            arrays["exact"] = index.exact.reshape(len(self), -1)
            arrays["centre"], arrays["axes"] = self._axes
        return arrays

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]], points: int, dimensions: int) -> PointTree:
        """Make the tree of so many points of stored arrays, which may lie on the disk.

        Raises
        ------
        ValueError
            They are not those of such a tree.
        """
        tree = PointTree.__new__(PointTree)
        many = dimensions > _OWN_AXES
        if arrays.keys() != {"leaves", "boxes", "ids"} | (
            {"exact", "centre", "axes"} if many else set()
        ):
            raise ValueError(f"arrays are not those of a tree in {dimensions} dimensions")
        width = _padded(0, dimensions).shape[1]
        number, boxed = -(-points // LANES), min(width, _OWN_AXES)
        sizes, begins = _levels(points)
        leaves, boxes, ids = arrays["leaves"], arrays["boxes"], arrays["ids"]
        tree._axes, exact = None, leaves
        strides = (width * LANES, 1, LANES)
        if many:
            tree._axes, exact = (arrays["centre"], arrays["axes"]), arrays["exact"]
            strides = (dimensions * LANES, dimensions, 1)
        shapes = leaves.shape, boxes.shape, ids.shape, exact.size >= points * dimensions
        if shapes != ((number, width * LANES), (begins[-1] * boxed * 2 * LANES,), (points,), True):
            raise ValueError("arrays are not those of a tree of so many points")
        tree._index = Index(
            EUCLIDEAN, leaves.reshape(-1), boxes, sizes, begins, 1, 1, width, boxed,
            exact.reshape(-1), *strides, dimensions, np.empty(0), 0.0, ids,
        )  # fmt: skip
        return tree

    def distances(
        self,
        queries: Float32,
        k: int = 1,
        within: Float64 | None = None,
        advance: Advance = unheard,
        without: Int64 = NONE,
    ) -> Float64:
        """Distances from `queries` (n, d) to the k nearest points, ascending: (n, min(k, N)).

        Points that are farther than `within` (n,) are left out, with inf in their place. So are
        those `without` (m, 2), which are none of the N: from one to before another, in the order in
        which all were given. `advance` is told of queries whose neighbours are found.
        """
        left_out = np.diff(without, axis=1).sum()
        shape = len(queries), min(k, int(self._index.sizes[0] - left_out))
        # Squares of distances are rounded: what is as far as `within` must be found.
        reach = np.full(len(queries), np.inf) if within is None else within**2 * _ROOM + _LEAST
        nearest = np.repeat(reach[:, None], shape[1], axis=1)
        if nearest.size:
            with workers() as pool:
                ordered, ids = self._ordered(queries, pool)
                ordered = ordered._replace(without=without)
                _search_all(self._index, ordered, ids, nearest, pool, advance=advance)
        nearest[nearest >= reach[:, None]] = np.inf
        return np.sqrt(nearest, out=nearest)

    def neighbours(self, queries: Float32, k: int) -> tuple[Float64, Int64]:
        """Distances from `queries` (n, d) to the k nearest points, and which points they are.

        Both (n, min(k, N)), ascending; of points that are equally near the one that was given
        first comes first.
        """
        nearest = np.full((len(queries), min(k, self._index.sizes[0])), np.inf)
        numbers = np.empty(nearest.shape, np.int64)
        if len(queries):
            with workers() as pool:
                ordered, ids = self._ordered(queries, pool)
                _search_all(self._index, ordered, ids, nearest, pool, numbers)
        return np.sqrt(nearest), numbers

    def _ordered(self, queries: Float32, pool: Executor) -> tuple[Queries, Int64]:
        """Queries (n, d), sorted, and which ones they were."""
        rows = _padded(len(queries), queries.shape[1])
        self._place(queries, rows)
        ids = in_order(rows, len(rows), pool)
        if self._axes is None:
            slack = np.zeros(len(rows))
        else:
            # Components are rounded, each point's by at most 2^-24 of its length; that of a
            # neighbour is at most the query's and the distance.
            slack = 2.0**-22 * np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
        return Queries(rows.ravel(), queries[ids].ravel(), slack), ids

    def _place(self, points: Float32, rows: Float32) -> None:
        """Put coordinates, or principal components, of `points` (n, d) into `rows` (n, ...)."""
        width = points.shape[1]
        for start in range(0, len(points), _BATCH):
            some = slice(start, min(start + _BATCH, len(points)))
            if self._axes is None:
                rows[some, :width] = points[some]
            else:
                centre, axes = self._axes
                rows[some, :width] = (points[some] - centre) @ axes


def _principal_axes(points: Float32) -> tuple[Float64, Float64]:
    """The mean (d,), and the axes of the largest to the least variance as columns (d, d)."""
    some = points[:: max(1, len(points) // 65_536)].astype(np.float64)
    centre = some.mean(axis=0)
    _, axes = np.linalg.eigh((some - centre).T @ (some - centre))
    return centre, np.ascontiguousarray(axes[:, ::-1])


class _Gaussians:
    """N diagonal Gaussians (N, D), as float32, in a tree."""

    def __init__(self, gaussians: Gaussian[np.ndarray], kind: int) -> None:
        number, dimensions = gaussians.mean.shape
        log_std = np.log(gaussians.std)
        # In these coordinates the squared distance of near Gaussians is their Bhattacharyya's.
        self.unit = np.sqrt(8.0) * np.exp(log_std.mean(axis=0, dtype=np.float64))
        with workers() as pool:
            rows = np.hstack([gaussians.mean / self.unit, 0.5 * log_std]).astype(np.float32)
            ids = in_order(rows, number, pool)
        ids = np.concatenate([ids, np.repeat(ids[-1:], -number % LANES)])
        parts = 3 if kind == DENSITY else 2
        rows = np.zeros((len(ids), -(-dimensions // CHUNK) * CHUNK, parts), np.float32)
        rows[:, dimensions:, 1] = 1.0
        rows[:, :dimensions, 0] = gaussians.mean[ids]
        rows[:, :dimensions, 1] = gaussians.std[ids]
        constants = np.log(rows[:, :dimensions, 1], dtype=np.float64).sum(axis=1)
        least = float(constants.min())
        if kind == DENSITY:
            rows[:, 0, 2] = constants - least
        width = rows.shape[1]
        leaves = _tiles(rows.reshape(len(rows), -1)).reshape(-1, width, parts, LANES)
        boxes, sizes, begins = _boxes(leaves, number)
        flat, stride = leaves.ravel(), parts * LANES
        self.index = Index(
            kind, flat, boxes, sizes, begins, parts, 3 if kind == BHATTACHARYYA else 1, width,
            width, flat, width * stride, 1, stride, dimensions, constants,
            least if kind == DENSITY else 0.0, ids,
        )  # fmt: skip

    def order_of(self, means: Float32, pool: Executor) -> Int64:
        """The order that brings queries of like means (n, D) together: (n,)."""
        return in_order((means / self.unit).astype(np.float32), len(means), pool)


class OverlapTree:
    """N diagonal Gaussians in D dimensions, by Bhattacharyya distance.

    Parameters
    ----------
    gaussians : Gaussian (N, D)
        As float32.
    """

    def __init__(self, gaussians: Gaussian[np.ndarray]) -> None:
        self._tree = _Gaussians(gaussians, BHATTACHARYYA)

    def improve(self, least: Float64, queries: Gaussian[np.ndarray]) -> None:
        """Lower the `least` distances known (n,) of `queries` (n, D), where one here is less."""
        for start in range(0, len(least), _BATCH):
            some = slice(start, start + _BATCH)
            self._improve(least[some], queries[some])

    def _improve(self, least: Float64, queries: Gaussian[np.ndarray]) -> None:
        index = self._tree.index
        with workers() as pool:
            ids = self._tree.order_of(queries.mean, pool)
            rows = np.zeros((len(ids), index.dimensions, 3), np.float32)
            rows[:, :, 1:] = 1.0, 2.0
            mean, std = queries.mean[ids], queries.std[ids]
            rows[:, : index.measured] = np.stack([mean, std**2, 2.0 * std], axis=-1)
            ordered = Queries(rows.ravel(), rows.ravel(), np.zeros(len(ids)))
            _search_all(index, ordered, ids, least[:, None], pool)


class DensityTree:
    """N diagonal Gaussians in D dimensions, whose densities are summed.

    Parameters
    ----------
    gaussians : Gaussian (N, D)
        As float32.
    """

    def __init__(self, gaussians: Gaussian[np.ndarray]) -> None:
        self._tree = _Gaussians(gaussians, DENSITY)

    def add(self, sums: LogSums, points: Float32) -> None:
        """Add the densities at `points` (n, D) to their sums."""
        for start in range(0, len(points), _BATCH):
            some = slice(start, start + _BATCH)
            self._add(LogSums(sums.peak[some], sums.total[some]), points[some])

    def _add(self, sums: LogSums, points: Float32) -> None:
        index = self._tree.index
        with workers() as pool:
            ids = self._tree.order_of(points, pool)
            rows = _padded(len(ids), index.dimensions)
            rows[:, : index.measured] = points[ids]
            ordered = Queries(rows.ravel(), points[ids].ravel(), np.zeros(len(ids)))
            constant = 0.5 * index.measured * _LOG_2_PI
            nearest = -(sums.peak + constant)
            _search_all(index, ordered, ids, nearest[:, None], pool)
            found, added = nearest[ids], np.empty(len(ids))

            def share(start: int) -> None:
                sum_densities(index, ordered, start, min(start + _SHARE, len(ids)), found, added)

            list(pool.map(share, range(0, len(ids), _SHARE)))
        peak = -nearest - constant
        sums.total[:] *= np.exp(sums.peak - peak)
        sums.total[ids] += added
        sums.peak[:] = peak


class LogSums(NamedTuple):
    """Sums of n points as total exp(peak), where the peak is the largest term's logarithm.

    Attributes
    ----------
    peak, total : (n,)
        -inf and 0 before the first term.
    """

    peak: Float64
    total: Float64

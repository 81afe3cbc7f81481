"""Exact nearest neighbours by a tree of boxes, compiled.

Points lie in leaves of 16, in the order of a k-d tree; sixteen neighbouring leaves share a parent,
sixteen parents theirs, up to the root. A parent holds the boxes around its children side by side,
so that a query's distances to all of them, or to all points of a leaf, are one sum over lanes.

A search goes down from the root, to the nearest boxes first, and leaves out what is farther than
the neighbours found; it begins with those of a query close by. Sums are in float32: what they
leave out is farther whatever their rounding, and what they do not is measured in float64. So a
result is that of comparing all pairs in float64, in whatever order the search went.

Distances are Euclidean, Bhattacharyya's between diagonal Gaussians, or of a point from a Gaussian:
minus the logarithm of its density, without the constant. Densities are summed likewise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from qspace_nd.blocks import workers
from qspace_nd.gaussian import Gaussian
from qspace_nd.lanes import CHUNK, LANES, Lanes, lanes_within, lowest_bit, prefetch

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

_GROUP = 16  # queries that go down the tree together: what one reads is in the cache for the next
_SHARE = 1024  # queries that a thread works through at a time
_BLOCK = 65_536  # queries that are prepared at a time
_RANGE = 256  # leaves that a thread puts in order at a time
_SAMPLE = 256  # points that the variances within a range are estimated from
_OWN_AXES = 8  # dimensions; where there are more, boxes lie along principal components
_HALF_LN_2 = 0.5 * math.log(2.0)
_LOG_2_PI = math.log(2.0 * math.pi)

Function = TypeVar("Function", bound=Callable[..., object])


def _compiled(function: Function) -> Function:
    """Compile a function when it is first called, and keep the result where that is possible."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: Function = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder that the cache may be written to
        compiled = numba.njit(**options)(function)
    return compiled


# --- Bounds, in lanes


def _add_square(sums: list[Lanes], point: list[Lanes], query: list[Lanes]) -> list[Lanes]:
    difference = point[0] - query[0]
    return [sums[0] + difference * difference]


def _add_square_of_gap(sums: list[Lanes], box: list[Lanes], query: list[Lanes]) -> list[Lanes]:
    gap = _gap(box[0], box[1], query[0])
    return [sums[0] + gap * gap]


def _gap(low: Lanes, high: Lanes, value: Lanes) -> Lanes:
    return (low - value).most(value - high).most(0.0)


def _total(sums: list[Lanes]) -> Lanes:
    return sums[0]


def _add_overlap(sums: list[Lanes], gaussian: list[Lanes], query: list[Lanes]) -> list[Lanes]:
    """Add (m - n)² / (4 (s² + t²)), and multiply by 2 s t / (s² + t²)."""
    mean, std = gaussian
    its_mean, its_variance, its_twice_std = query
    difference, variances = mean - its_mean, std * std + its_variance
    apart = (difference / variances) * difference * 0.25
    return [sums[0] + apart, sums[1] * (std * its_twice_std / variances)]


def _add_overlap_of_gap(sums: list[Lanes], box: list[Lanes], query: list[Lanes]) -> list[Lanes]:
    """Do so for the nearest mean, the largest deviation, and the one most like the query's."""
    low, high, least, most = box
    its_mean, its_variance, its_twice_std = query
    gap = _gap(low, high, its_mean)
    apart = (gap / (most * most + its_variance)) * gap * 0.25
    std = (its_twice_std * 0.5).most(least).least(most)
    return [sums[0] + apart, sums[1] * (std * its_twice_std / (std * std + its_variance))]


def _bhattacharyya_bound(sums: list[Lanes]) -> Lanes:
    quotient = 1.0 / sums[1].most(1e-36)  # which does not overflow
    return sums[0] + quotient.low_log2() * _HALF_LN_2


def _add_density(sums: list[Lanes], gaussian: list[Lanes], query: list[Lanes]) -> list[Lanes]:
    mean, std, constant = gaussian
    apart = (mean - query[0]) / std
    return [sums[0] + apart * apart * 0.5 + constant]


def _add_density_of_gap(sums: list[Lanes], box: list[Lanes], query: list[Lanes]) -> list[Lanes]:
    low, high, _, most, constant, _ = box
    apart = _gap(low, high, query[0]) / most
    return [sums[0] + apart * apart * 0.5 + constant]


_points_within = lanes_within(1, 1, [0.0], _add_square, _total)
_boxes_within = lanes_within(2, 1, [0.0], _add_square_of_gap, _total)
_overlaps_within = lanes_within(2, 3, [0.0, 1.0], _add_overlap, _bhattacharyya_bound)
_overlap_boxes_within = lanes_within(4, 3, [0.0, 1.0], _add_overlap_of_gap, _bhattacharyya_bound)
_densities_within = lanes_within(3, 1, [0.0], _add_density, _total)
_density_boxes_within = lanes_within(6, 1, [0.0], _add_density_of_gap, _total)


# --- The order of the points


@_compiled
def _split(rows: Floats, ids: Integers, count: int, first: int, last: int) -> int:
    """Put the leaves `first` to `last` of `count` rows (n, d) into two halves; where they part.

    Halves are of whole subtrees, so that all but the last one are full.
    """
    leaves = last - first
    unit = 1
    while unit * LANES < leaves:
        unit *= LANES
    units = (leaves + unit - 1) // unit
    cut = first + unit * ((units + 1) // 2)
    low, high, middle = first * LANES, min(count, last * LANES) - 1, cut * LANES
    axis, largest = 0, -1.0
    step = max(1, (high - low) // _SAMPLE)
    for i in range(rows.shape[1]):
        start = np.float64(rows[low, i])
        total, squares, number = 0.0, 0.0, 0
        for row in range(low, high + 1, step):
            value = np.float64(rows[row, i]) - start
            total += value
            squares += value * value
            number += 1
        variance = squares - total * total / number
        if variance > largest:
            axis, largest = i, variance
    # Hoare's selection, with the median of three as the pivot.
    while low < high:
        centre = (low + high) // 2
        if rows[centre, axis] < rows[low, axis]:
            _swap(rows, ids, centre, low)
        if rows[high, axis] < rows[low, axis]:
            _swap(rows, ids, high, low)
        if rows[high, axis] < rows[centre, axis]:
            _swap(rows, ids, high, centre)
        pivot = rows[centre, axis]
        left, right = low, high
        while left <= right:
            while rows[left, axis] < pivot:
                left += 1
            while rows[right, axis] > pivot:
                right -= 1
            if left <= right:
                _swap(rows, ids, left, right)
                left += 1
                right -= 1
        if middle <= right:
            high = right
        elif middle >= left:
            low = left
        else:
            break
    return cut


@_compiled
def _swap(rows: Floats, ids: Integers, a: int, b: int) -> None:
    for i in range(rows.shape[1]):
        rows[a, i], rows[b, i] = rows[b, i], rows[a, i]
    ids[a], ids[b] = ids[b], ids[a]


@_compiled
def _order(rows: Floats, ids: Integers, count: int, first: int, last: int) -> None:
    """Split the leaves `first` to `last` down to single ones."""
    pending = [(first, last)]
    while len(pending):
        first, last = pending.pop()
        if last - first > 1:
            cut = _split(rows, ids, count, first, last)
            pending.append((first, cut))
            pending.append((cut, last))


def _in_order(rows: Floats, count: int, pool: Executor) -> Integers:
    """Put the first `count` of `rows` (n, d) into the order of leaves; where each was: (count,)."""
    ids = np.arange(count)
    ranges = [(0, -(-count // LANES))]
    while ranges[0][1] - ranges[0][0] > _RANGE:  # the first is the largest
        cuts = pool.map(lambda one: _split(rows, ids, count, *one), ranges)
        halves = [
            ((first, cut), (cut, last)) for (first, last), cut in zip(ranges, cuts, strict=True)
        ]
        ranges = [half for both in halves for half in both if half[0] < half[1]]
    list(pool.map(lambda one: _order(rows, ids, count, *one), ranges))
    return ids


# --- The search


_EUCLIDEAN, _BHATTACHARYYA, _DENSITY = range(3)
_NEGLIGIBLE = 40.0  # nats below the largest term: 10^8 such terms change a sum by less than 10^-9


class _Index(NamedTuple):
    """What a search knows of the points. Arrays are flat.

    Attributes
    ----------
    kind : int
        Of the distance.
    blocks : (leaves, dimensions, parts, 16)
        The points of each leaf: their coordinates; or means and standard deviations; or these, and
        the sum of the deviations' logarithms, less the least of all, in the first dimension.
    boxes : (parents, boxed, 2 parts, 16)
        The boxes around each parent's children, level by level from the leaves up.
    sizes : (levels + 1,)
        How many points, leaves, parents of leaves, ..., and the one root. Leaves are level 0.
    begins : (levels - 1,)
        The first box of each level above.
    parts, query_parts : int
        Numbers of a dimension, in blocks and in queries.
    dimensions, boxed : int
        Dimensions of a block, and of a box, which may leave the last ones out.
    exact : array
        Coordinates to measure with: that of point j of leaf i in dimension e is at
        i leaf + j lane + e step.
    leaf, lane, step : int
        These strides.
    measured : int
        Dimensions to measure in.
    constants : (16 leaves,)
        The sums of the deviations' logarithms, for densities.
    least_constant : float
        The least of them.
    """

    kind: int
    blocks: Floats
    boxes: Floats
    sizes: Integers
    begins: Integers
    parts: int
    query_parts: int
    dimensions: int
    boxed: int
    exact: Floats
    leaf: int
    lane: int
    step: int
    measured: int
    constants: Doubles
    least_constant: float


class _Queries(NamedTuple):
    """Queries in the order of leaves; arrays are flat.

    Attributes
    ----------
    lanes : (n, dimensions, parts)
        What is compared with blocks and boxes.
    exact : (n, measured)
        What is measured with.
    slack : (n,)
        By how much more than its distance a point may seem to be away, but for the rounding of
        the sums.
    """

    lanes: Floats
    exact: Floats
    slack: Doubles


@_compiled
def _measure(index: _Index, point: int, queries: _Queries, query: int) -> float:
    """Measure in float64; a Euclidean distance squared."""
    at = point // LANES * index.leaf + point % LANES * index.lane
    total = 0.0
    if index.kind == _BHATTACHARYYA:
        here = query * index.dimensions * index.query_parts
        for _ in range(index.measured):
            mean, std = np.float64(index.exact[at]), np.float64(index.exact[at + LANES])
            its_mean = np.float64(queries.lanes[here])
            its_std = 0.5 * np.float64(queries.lanes[here + 2])
            variances = std * std + its_std * its_std
            total += 0.25 * (mean - its_mean) ** 2 / variances
            total += 0.5 * np.log(variances / (2.0 * std * its_std))
            at += index.step
            here += index.query_parts
        return total
    here = query * index.measured
    for _ in range(index.measured):
        apart = np.float64(index.exact[at]) - np.float64(queries.exact[here])
        if index.kind == _DENSITY:
            apart /= np.float64(index.exact[at + LANES])
        total += apart * apart
        at += index.step
        here += 1
    if index.kind == _DENSITY:
        total = 0.5 * total + float(index.constants[point])
    return total


@_compiled
def _limit(index: _Index, distance: float, slack: float) -> np.float32:
    """What a sum in float32 does not exceed for a point within a distance.

    Each of its terms is rounded a few times, and so is each sum (Higham, "Accuracy and Stability
    of Numerical Algorithms", equation 3.5); what underflows is less than the last number. Factors
    of the overlap, and the bits of its logarithm, err by as much in the sum.
    """
    unit = 2.0**-22 * (index.dimensions + 16)
    if index.kind == _EUCLIDEAN:
        return np.float32((np.sqrt(distance) + slack) ** 2 * (1.0 + unit) + 1e-36)
    return np.float32(max(distance - index.least_constant, 0.0) * (1.0 + unit) + unit)


@_compiled
def _members(index: _Index, level: int, number: int) -> int:
    """Bits of the lanes that hold points or children; the last of a level may be filled up."""
    members: int = min(LANES, index.sizes[level] - number * LANES)
    return (1 << members) - 1


@_compiled
def _boxes_near(
    index: _Index, level: int, number: int, queries: _Queries, query: int, limit: np.float32,
    found: Floats,
) -> int:  # fmt: skip
    """Which children of a parent are within the limit of a query, and how near they are."""
    at = (index.begins[level - 1] + number) * index.boxed * index.parts * 2 * LANES
    row = query * index.dimensions * index.query_parts
    lanes, boxed = queries.lanes, index.boxed
    if index.kind == _EUCLIDEAN:
        bits = _boxes_within(index.boxes, at, lanes, row, boxed, limit, found)
    elif index.kind == _BHATTACHARYYA:
        bits = _overlap_boxes_within(index.boxes, at, lanes, row, boxed, limit, found)
    else:
        bits = _density_boxes_within(index.boxes, at, lanes, row, boxed, limit, found)
    near: int = bits & _members(index, level, number)
    return near


@_compiled
def _points_near(
    index: _Index, number: int, queries: _Queries, query: int, limit: np.float32, found: Floats
) -> int:
    """Which points of a leaf are within the limit of a query, and how near they may be."""
    at = number * index.dimensions * index.parts * LANES
    row = query * index.dimensions * index.query_parts
    lanes, dimensions = queries.lanes, index.dimensions
    if index.kind == _EUCLIDEAN:
        bits = _points_within(index.blocks, at, lanes, row, dimensions, limit, found)
    elif index.kind == _BHATTACHARYYA:
        bits = _overlaps_within(index.blocks, at, lanes, row, dimensions, limit, found)
    else:
        bits = _densities_within(index.blocks, at, lanes, row, dimensions, limit, found)
    near: int = bits & _members(index, 0, number)
    return near


@_compiled
def _fetch(index: _Index, level: int, number: int) -> None:
    """Bring what is compared first with a leaf's or a parent's lanes into the cache.

    A large tree is far from the processor: without this, a search among 16 million points takes a
    quarter longer.
    """
    if level:
        at = (index.begins[level - 1] + number) * index.boxed * index.parts * 2 * LANES
        for vector in range(CHUNK * index.parts * 2):
            prefetch(index.boxes, at + vector * LANES)
    else:
        at = number * index.dimensions * index.parts * LANES
        for vector in range(CHUNK * index.parts):
            prefetch(index.blocks, at + vector * LANES)


@_compiled
def _search(
    index: _Index, queries: _Queries, first: int, last: int, k: int, nearest: Doubles
) -> None:
    """Put the k nearest points of queries `first` to `last` into `nearest` (n, k), ascending."""
    top = len(index.sizes) - 2
    # What is still to be looked into, the nearest last.
    bounds = np.empty(LANES * (top + 1), np.float32)
    levels = np.empty(len(bounds), np.int64)
    numbers = np.empty(len(bounds), np.int64)
    # For the children of the last parent of each level: which queries want them, and how near
    # they are to each.
    wanted = np.empty((top + 1, LANES), np.int64)
    gaps = np.empty((top + 1, LANES, _GROUP), np.float32)
    least = np.empty(LANES, np.float32)
    found = np.empty(LANES, np.float32)
    reach = np.empty(_GROUP)  # no farther than this is the k-th neighbour
    limit = np.empty(_GROUP, np.float32)
    near = np.zeros((_GROUP, k), np.int64)
    for begin in range(first, last, _GROUP):
        members = min(_GROUP, last - begin)
        for member in range(members):
            query = begin + member
            reach[member] = nearest[query, k - 1]
            if begin > first and nearest[begin - 1, k - 1] < np.inf:
                farthest = 0.0
                for i in range(k):
                    neighbour = near[_GROUP - 1, i]
                    farthest = max(farthest, _measure(index, neighbour, queries, query))
                reach[member] = min(reach[member], farthest)
            limit[member] = _limit(index, reach[member], queries.slack[query])
            gaps[top, 0, member] = 0.0
        wanted[top, 0] = (1 << members) - 1
        bounds[0], levels[0], numbers[0] = 0.0, top, 0
        size = 1
        while size:
            size -= 1
            level, number = levels[size], numbers[size]
            slot = number % LANES
            group = wanted[level, slot]
            if level:
                least[:] = np.inf
                wanted[level - 1, :] = 0
                open_children = 0
                while group:
                    member = lowest_bit(group)
                    group &= group - 1
                    if gaps[level, slot, member] > limit[member]:
                        continue
                    bits = _boxes_near(
                        index, level, number, queries, begin + member, limit[member], found
                    )
                    open_children |= bits
                    while bits:
                        child = lowest_bit(bits)
                        bits &= bits - 1
                        wanted[level - 1, child] |= 1 << member
                        gaps[level - 1, child, member] = found[child]
                        least[child] = min(least[child], found[child])
                bottom = size
                while open_children:
                    child = lowest_bit(open_children)
                    open_children &= open_children - 1
                    place = size
                    while place > bottom and bounds[place - 1] < least[child]:
                        bounds[place] = bounds[place - 1]
                        levels[place] = levels[place - 1]
                        numbers[place] = numbers[place - 1]
                        place -= 1
                    bounds[place] = least[child]
                    levels[place] = level - 1
                    numbers[place] = number * LANES + child
                    size += 1
                    _fetch(index, level - 1, numbers[place])
                continue
            while group:
                member = lowest_bit(group)
                group &= group - 1
                if gaps[0, slot, member] > limit[member]:
                    continue
                query = begin + member
                bits = _points_near(index, number, queries, query, limit[member], found)
                while bits:
                    lane = lowest_bit(bits)
                    bits &= bits - 1
                    if found[lane] > limit[member]:
                        continue
                    point = number * LANES + lane
                    distance = _measure(index, point, queries, query)
                    if not distance < nearest[query, k - 1]:
                        continue
                    place = k - 1
                    while place > 0 and nearest[query, place - 1] > distance:
                        nearest[query, place] = nearest[query, place - 1]
                        near[member, place] = near[member, place - 1]
                        place -= 1
                    nearest[query, place] = distance
                    near[member, place] = point
                    if nearest[query, k - 1] < reach[member]:
                        reach[member] = nearest[query, k - 1]
                        limit[member] = _limit(index, reach[member], queries.slack[query])


@_compiled
def _sum(
    index: _Index, queries: _Queries, first: int, last: int, nearest: Doubles, totals: Doubles
) -> None:
    """Put sums over Gaussians y of exp(nearest - distance to y) into `totals` (n,).

    Terms are added in the order of the leaves, and which ones depends on the query alone.
    """
    top = len(index.sizes) - 2
    levels = np.empty(LANES * (top + 1), np.int64)
    numbers = np.empty(len(levels), np.int64)
    found = np.empty(LANES, np.float32)
    distances = np.empty(LANES)
    for query in range(first, last):
        farthest = nearest[query] + _NEGLIGIBLE
        limit = _limit(index, farthest, 0.0)
        total = 0.0
        levels[0], numbers[0] = top, 0
        size = 1
        while size:
            size -= 1
            level, number = levels[size], numbers[size]
            if level:
                bits = _boxes_near(index, level, number, queries, query, limit, found)
                for child in range(LANES - 1, -1, -1):
                    if bits >> child & 1:
                        levels[size], numbers[size] = level - 1, number * LANES + child
                        size += 1
                continue
            bits = _points_near(index, number, queries, query, limit, found)
            if bits:
                distances[:] = 0.0
                for i in range(index.measured):
                    at = number * index.leaf + i * index.step
                    here = np.float64(queries.exact[query * index.measured + i])
                    for lane in range(LANES):
                        apart = np.float64(index.exact[at + lane]) - here
                        apart /= np.float64(index.exact[at + LANES + lane])
                        distances[lane] += apart * apart
                for lane in range(LANES):
                    distance = 0.5 * distances[lane] + index.constants[number * LANES + lane]
                    if bits >> lane & 1 and distance <= farthest:
                        total += np.exp(nearest[query] - distance)
        totals[query] = total


# --- Trees


def _tiles(rows: Floats) -> Floats:
    """Transpose each 16 `rows` (16 n, d) in place: (n, d, 16)."""
    leaves, width = len(rows) // LANES, rows.shape[1]
    tiles = rows.reshape(leaves, width, LANES)
    for start in range(0, leaves, 4096):
        some = slice(start, start + 4096)
        tiles[some] = tiles[some].reshape(-1, LANES, width).transpose(0, 2, 1).copy()
    return tiles


def _boxes(leaves: Floats, points: int) -> tuple[Floats, Integers, Integers]:
    """Boxes around `leaves` (n, e, parts, 16), and sizes and begins, as of an index."""
    low, high = leaves.min(axis=-1), leaves.max(axis=-1)  # (n, e, parts)
    sizes, levels = [points, len(leaves)], [np.empty(0, np.float32)]
    begins = [0]
    while len(low) > 1:
        both = np.stack([low, high], axis=-1)  # (n, e, parts, 2)
        parents = -(-len(low) // LANES)
        # The last parent is filled up with its last child.
        children = np.minimum(np.arange(parents * LANES), len(low) - 1).reshape(parents, LANES)
        family = both[children]  # (parents, 16, e, parts, 2)
        levels.append(np.moveaxis(family, 1, -1).ravel())
        low, high = family[..., 0].min(axis=1), family[..., 1].max(axis=1)
        sizes.append(parents)
        begins.append(begins[-1] + parents)
    return np.concatenate(levels), np.array(sizes), np.array(begins)


def _padded(rows: int, dimensions: int) -> Floats:
    return np.zeros((rows, -(-dimensions // CHUNK) * CHUNK), np.float32)


def _search_all(
    index: _Index, queries: _Queries, ids: Integers, k: int, nearest: Doubles, pool: Executor
) -> None:
    """Search for the neighbours of queries that were the rows `ids` of `nearest` (n, k)."""
    found = nearest[ids]
    starts = range(0, len(ids), _SHARE)

    def share(start: int) -> None:
        _search(index, queries, start, min(start + _SHARE, len(ids)), k, found)

    list(pool.map(share, starts))  # listed, so that what a worker raises is raised here
    nearest[ids] = found


class PointTree:
    """N points in d dimensions, by Euclidean distance.

    Parameters
    ----------
    points : (N, d) array
        Their coordinates. In up to 8 dimensions they are held once; in more, their principal
        components are held too, because boxes along these bound distances best.
    """

    def __init__(self, points: Floats) -> None:
        number, dimensions = points.shape
        self._axes = _principal_axes(points) if dimensions > _OWN_AXES else None
        rows = _padded(-(-number // LANES) * LANES, dimensions)
        self._place(points, rows)
        with workers() as pool:
            ids = _in_order(rows, number, pool)
        rows[number:] = rows[number - 1]
        blocks = _tiles(rows)
        width = blocks.shape[1]
        boxed = min(width, _OWN_AXES)
        boxes, sizes, begins = _boxes(blocks[:, :boxed, None], number)
        if self._axes is None:
            exact, strides = blocks, (width * LANES, 1, LANES)
        else:
            exact, strides = points[ids], (dimensions * LANES, dimensions, 1)
        self._index = _Index(
            _EUCLIDEAN, blocks.ravel(), boxes, sizes, begins, 1, 1, width, boxed, exact.ravel(),
            *strides, dimensions, np.empty(0), 0.0,
        )  # fmt: skip

    def nearest(self, queries: Floats, k: int) -> Doubles:
        """Distances from `queries` (n, d) to the k <= N nearest points, ascending: (n, k)."""
        dimensions = queries.shape[1]
        nearest = np.full((len(queries), k), np.inf)
        if not len(queries):
            return nearest
        rows = _padded(len(queries), dimensions)
        self._place(queries, rows)
        with workers() as pool:
            ids = _in_order(rows, len(rows), pool)
            if self._axes is None:
                slack = np.zeros(len(rows))
            else:
                # Components are rounded, each point's by at most 2^-24 of its length; that of a
                # neighbour is at most the query's and the distance.
                slack = 2.0**-22 * np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
            lanes = _Queries(rows.ravel(), queries[ids].ravel(), slack)
            _search_all(self._index, lanes, ids, k, nearest, pool)
        distances: Doubles = np.sqrt(nearest)
        return distances

    def _place(self, points: Floats, rows: Floats) -> None:
        """Put coordinates, or principal components, of `points` (n, d) into `rows` (n, ...)."""
        width = points.shape[1]
        for start in range(0, len(points), _BLOCK):
            some = slice(start, min(start + _BLOCK, len(points)))
            if self._axes is None:
                rows[some, :width] = points[some]
            else:
                centre, axes = self._axes
                rows[some, :width] = (points[some] - centre) @ axes


def _principal_axes(points: Floats) -> tuple[Doubles, Doubles]:
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
            ids = _in_order(rows, number, pool)
        ids = np.concatenate([ids, np.repeat(ids[-1:], -number % LANES)])
        parts = 3 if kind == _DENSITY else 2
        rows = np.zeros((len(ids), -(-dimensions // CHUNK) * CHUNK, parts), np.float32)
        rows[:, dimensions:, 1] = 1.0
        rows[:, :dimensions, 0] = gaussians.mean[ids]
        rows[:, :dimensions, 1] = gaussians.std[ids]
        constants = np.log(rows[:, :dimensions, 1], dtype=np.float64).sum(axis=1)
        least = float(constants.min())
        if kind == _DENSITY:
            rows[:, 0, 2] = constants - least
        width = rows.shape[1]
        blocks = _tiles(rows.reshape(len(rows), -1)).reshape(-1, width, parts, LANES)
        boxes, sizes, begins = _boxes(blocks, number)
        flat, step = blocks.ravel(), parts * LANES
        self.index = _Index(
            kind, flat, boxes, sizes, begins, parts, 3 if kind == _BHATTACHARYYA else 1, width,
            width, flat, width * step, 1, step, dimensions, constants,
            least if kind == _DENSITY else 0.0,
        )  # fmt: skip

    def in_order(self, means: Floats, pool: Executor) -> Integers:
        """The order that brings queries of like means (n, D) together: (n,)."""
        return _in_order((means / self.unit).astype(np.float32), len(means), pool)


class OverlapTree:
    """N diagonal Gaussians in D dimensions, by Bhattacharyya distance.

    Parameters
    ----------
    gaussians : Gaussian (N, D)
        As float32.
    """

    def __init__(self, gaussians: Gaussian[np.ndarray]) -> None:
        self._tree = _Gaussians(gaussians, _BHATTACHARYYA)

    def improve(self, least: Doubles, queries: Gaussian[np.ndarray]) -> None:
        """Lower the `least` distances known (n,) of `queries` (n, D), where one here is less."""
        for start in range(0, len(least), _BLOCK):
            some = slice(start, start + _BLOCK)
            self._improve(least[some], queries[some])

    def _improve(self, least: Doubles, queries: Gaussian[np.ndarray]) -> None:
        index = self._tree.index
        with workers() as pool:
            ids = self._tree.in_order(queries.mean, pool)
            rows = np.zeros((len(ids), index.dimensions, 3), np.float32)
            rows[:, :, 1:] = 1.0, 2.0
            mean, std = queries.mean[ids], queries.std[ids]
            rows[:, : index.measured] = np.stack([mean, std**2, 2.0 * std], axis=-1)
            lanes = _Queries(rows.ravel(), rows.ravel(), np.zeros(len(ids)))
            _search_all(index, lanes, ids, 1, least[:, None], pool)


class DensityTree:
    """N diagonal Gaussians in D dimensions, whose densities are summed.

    Parameters
    ----------
    gaussians : Gaussian (N, D)
        As float32.
    """

    def __init__(self, gaussians: Gaussian[np.ndarray]) -> None:
        self._tree = _Gaussians(gaussians, _DENSITY)

    def add(self, sums: LogSums, points: Floats) -> None:
        """Add the densities at `points` (n, D) to their sums."""
        for start in range(0, len(points), _BLOCK):
            some = slice(start, start + _BLOCK)
            self._add(LogSums(sums.peak[some], sums.total[some]), points[some])

    def _add(self, sums: LogSums, points: Floats) -> None:
        index = self._tree.index
        with workers() as pool:
            ids = self._tree.in_order(points, pool)
            rows = _padded(len(ids), index.dimensions)
            rows[:, : index.measured] = points[ids]
            queries = _Queries(rows.ravel(), points[ids].ravel(), np.zeros(len(ids)))
            constant = 0.5 * index.measured * _LOG_2_PI
            nearest = -(sums.peak + constant)
            _search_all(index, queries, ids, 1, nearest[:, None], pool)
            found, added = nearest[ids], np.empty(len(ids))

            def share(start: int) -> None:
                _sum(index, queries, start, min(start + _SHARE, len(ids)), found, added)

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

    peak: Doubles
    total: Doubles

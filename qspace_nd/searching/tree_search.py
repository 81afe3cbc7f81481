"""Exact nearest neighbours by a tree of boxes: what is compiled.

Points lie in leaves of 16, in the order of a k-d tree; sixteen neighbouring leaves share a parent,
sixteen parents theirs, up to the root. A parent holds the boxes around its children side by side,
so that a query's distances to all of them, or to all points of a leaf, are one sum over a tile.

A search goes down from the root, to the nearest boxes first, and leaves out what is farther than
the neighbours found; it begins with those of a query close by. Sums are in float32: what they
leave out is farther whatever their rounding, and what they do not is measured in float64. So a
result is that of comparing all pairs in float64, in whatever order the search went.

Distances are Euclidean, Bhattacharyya's between diagonal Gaussians, or of a point from a Gaussian:
minus the logarithm of its density, without the constant. Densities are summed likewise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from qspace_nd.arrays import Float32, Float64, Int64
from qspace_nd.searching.vectors import (
    CHUNK,
    LANES,
    Bound,
    Vector,
    lowest_bit,
    make_within,
    prefetch,
)
from qspace_nd.system.compiling import compiled, inlined

EUCLIDEAN, BHATTACHARYYA, DENSITY = range(3)
"""Kinds of distance."""

NONE = np.empty((0, 2), np.int64)
"""Of the points that are left out: none."""

_GROUP = 16  # queries that go down the tree together: what one reads is in the cache for the next
_NEGLIGIBLE = 40.0  # nats below the largest term: 10^8 such terms change a sum by less than 10^-9
_HALF_LN_2 = 0.5 * math.log(2.0)


# --- Bounds, of sixteen at once


def _add_square(sums: list[Vector], point: list[Vector], query: list[Vector]) -> list[Vector]:
    difference = point[0] - query[0]
    return [sums[0] + difference * difference]


def _add_square_of_gap(sums: list[Vector], box: list[Vector], query: list[Vector]) -> list[Vector]:
    gap = _gap(box[0], box[1], query[0])
    return [sums[0] + gap * gap]


def _gap(low: Vector, high: Vector, value: Vector) -> Vector:
    return (low - value).most(value - high).most(0.0)


def _total(sums: list[Vector]) -> Vector:
    return sums[0]


def _add_overlap(sums: list[Vector], gaussian: list[Vector], query: list[Vector]) -> list[Vector]:
    """Add (m - n)² / (4 (s² + t²)), and multiply by 2 s t / (s² + t²)."""
    mean, std = gaussian
    its_mean, its_variance, its_twice_std = query
    difference, variances = mean - its_mean, std * std + its_variance
    apart = (difference / variances) * difference * 0.25
    return [sums[0] + apart, sums[1] * (std * its_twice_std / variances)]


def _add_overlap_of_gap(sums: list[Vector], box: list[Vector], query: list[Vector]) -> list[Vector]:
    """Do so for the nearest mean, the largest deviation, and the one most like the query's."""
    low, high, least, most = box
    its_mean, its_variance, its_twice_std = query
    gap = _gap(low, high, its_mean)
    apart = (gap / (most * most + its_variance)) * gap * 0.25
    std = (its_twice_std * 0.5).most(least).least(most)
    return [sums[0] + apart, sums[1] * (std * its_twice_std / (std * std + its_variance))]


def _bhattacharyya_bound(sums: list[Vector]) -> Vector:
    quotient = 1.0 / sums[1].most(1e-36)  # which does not overflow
    return sums[0] + quotient.low_log2() * _HALF_LN_2


def _add_density(sums: list[Vector], gaussian: list[Vector], query: list[Vector]) -> list[Vector]:
    mean, std, constant = gaussian
    apart = (mean - query[0]) / std
    return [sums[0] + apart * apart * 0.5 + constant]


def _add_density_of_gap(sums: list[Vector], box: list[Vector], query: list[Vector]) -> list[Vector]:
    low, high, _, most, constant, _ = box
    apart = _gap(low, high, query[0]) / most
    return [sums[0] + apart * apart * 0.5 + constant]


_points_within = make_within(Bound(1, 1, [0.0], _add_square, _total))
_boxes_within = make_within(Bound(2, 1, [0.0], _add_square_of_gap, _total))
_overlaps_within = make_within(Bound(2, 3, [0.0, 1.0], _add_overlap, _bhattacharyya_bound))
_overlap_boxes_within = make_within(
    Bound(4, 3, [0.0, 1.0], _add_overlap_of_gap, _bhattacharyya_bound)
)
_densities_within = make_within(Bound(3, 1, [0.0], _add_density, _total))
_density_boxes_within = make_within(Bound(6, 1, [0.0], _add_density_of_gap, _total))


# --- The search


class Index(NamedTuple):
    """What a search knows of the points. Arrays are flat.

    Attributes
    ----------
    kind : int
        Of the distance.
    leaves : (leaves, dimensions, parts, 16)
        The points of each leaf, a tile: their coordinates; or means and standard deviations; or
        these, and the sum of the deviations' logarithms, less the least of all, in the first
        dimension.
    boxes : (parents, boxed, 2 parts, 16)
        The boxes around each parent's children, a tile, level by level from the leaves up.
    sizes : (levels + 1,)
        How many points, leaves, parents of leaves, ..., and the one root. Leaves are level 0.
    begins : (levels,)
        The first tile of boxes of each level above the leaves, and the number of tiles.
    parts, query_parts : int
        Numbers of a dimension, in leaves and in queries.
    dimensions, boxed : int
        Dimensions of a leaf's tile, and of boxes, which may leave the last ones out.
    exact : array
        Coordinates to measure with: that of point j of leaf i in dimension e is at
        i leaf_stride + j lane_stride + e dimension_stride.
    leaf_stride, lane_stride, dimension_stride : int
        These strides.
    measured : int
        Dimensions to measure in.
    constants : (16 leaves,)
        The sums of the deviations' logarithms, for densities.
    least_constant : float
        The least of them.
    ids : (points,)
        Which of the points that were given each one is: of two that are equally near to a query
        the one that was given first is the nearer.
    """

    kind: int
    leaves: Float32
    boxes: Float32
    sizes: Int64
    begins: Int64
    parts: int
    query_parts: int
    dimensions: int
    boxed: int
    exact: Float32
    leaf_stride: int
    lane_stride: int
    dimension_stride: int
    measured: int
    constants: Float64
    least_constant: float
    ids: Int64


class Queries(NamedTuple):
    """Queries in the order of leaves; arrays are flat.

    Attributes
    ----------
    rows : (n, dimensions, query_parts)
        What is compared with tiles.
    exact : (n, measured)
        What is measured with.
    slack : (n,)
        By how much more than its distance a point may seem to be away, but for the rounding of
        the sums.
    without : (m, 2)
        Points that are left out, of all queries, by their `ids`: from one to before another.
    """

    rows: Float32
    exact: Float32
    slack: Float64
    without: Int64 = NONE


@inlined
def _measure(index: Index, point: int, queries: Queries, query: int) -> float:
    """Measure in float64; a Euclidean distance squared."""
    at = point // LANES * index.leaf_stride + point % LANES * index.lane_stride
    total = 0.0
    if index.kind == BHATTACHARYYA:
        here = query * index.dimensions * index.query_parts
        for _ in range(index.measured):
            mean, std = np.float64(index.exact[at]), np.float64(index.exact[at + LANES])
            its_mean = np.float64(queries.rows[here])
            its_std = 0.5 * np.float64(queries.rows[here + 2])
            variances = std * std + its_std * its_std
            total += 0.25 * (mean - its_mean) ** 2 / variances
            total += 0.5 * np.log(variances / (2.0 * std * its_std))
            at += index.dimension_stride
            here += index.query_parts
        return total
    here = query * index.measured
    for _ in range(index.measured):
        apart = np.float64(index.exact[at]) - np.float64(queries.exact[here])
        if index.kind == DENSITY:
            apart /= np.float64(index.exact[at + LANES])
        total += apart * apart
        at += index.dimension_stride
        here += 1
    if index.kind == DENSITY:
        total = 0.5 * total + float(index.constants[point])
    return total


@inlined
def _limit(index: Index, distance: float, slack: float) -> np.float32:
    """What a sum in float32 does not exceed for a point within a distance.

    Each of its terms is rounded a few times, and so is each sum (Higham, "Accuracy and Stability
    of Numerical Algorithms", equation 3.5); what underflows is less than the last number. Factors
    of the overlap, and the bits of its logarithm, err by as much in the sum.
    """
    unit = 2.0**-22 * (index.dimensions + 16)
    if index.kind == EUCLIDEAN:
        return np.float32((np.sqrt(distance) + slack) ** 2 * (1.0 + unit) + 1e-36)
    return np.float32(max(distance - index.least_constant, 0.0) * (1.0 + unit) + unit)


@inlined
def _filled(index: Index, level: int, number: int) -> int:
    """Bits of the lanes that hold points or children: the last tile of a level may have fewer."""
    filled: int = min(LANES, index.sizes[level] - number * LANES)
    return (1 << filled) - 1


@inlined
def _boxes_near(
    index: Index, level: int, number: int, queries: Queries, query: int, limit: np.float32,
    found: Float32,
) -> int:  # fmt: skip
    """Which children of a parent are within the limit of a query, and how near they are."""
    at = (index.begins[level - 1] + number) * index.boxed * index.parts * 2 * LANES
    row = query * index.dimensions * index.query_parts
    rows, boxed = queries.rows, index.boxed
    if index.kind == EUCLIDEAN:
        bits = _boxes_within(index.boxes, at, rows, row, boxed, limit, found)
    elif index.kind == BHATTACHARYYA:
        bits = _overlap_boxes_within(index.boxes, at, rows, row, boxed, limit, found)
    else:
        bits = _density_boxes_within(index.boxes, at, rows, row, boxed, limit, found)
    near: int = bits & _filled(index, level, number)
    return near


@inlined
def _points_near(
    index: Index, number: int, queries: Queries, query: int, limit: np.float32, found: Float32
) -> int:
    """Which points of a leaf are within the limit of a query, and how near they may be."""
    at = number * index.dimensions * index.parts * LANES
    row = query * index.dimensions * index.query_parts
    rows, dimensions = queries.rows, index.dimensions
    if index.kind == EUCLIDEAN:
        bits = _points_within(index.leaves, at, rows, row, dimensions, limit, found)
    elif index.kind == BHATTACHARYYA:
        bits = _overlaps_within(index.leaves, at, rows, row, dimensions, limit, found)
    else:
        bits = _densities_within(index.leaves, at, rows, row, dimensions, limit, found)
    near: int = bits & _filled(index, 0, number)
    return near


@inlined
def _fetch(index: Index, level: int, number: int) -> None:
    """Bring the first dimensions of a leaf's or a parent's tile into the cache.

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
            prefetch(index.leaves, at + vector * LANES)


class Stack(NamedTuple):
    """Nodes that are still to be looked into, the nearest last: those on one way down at most.

    Attributes
    ----------
    bounds : (16 levels,)
        How near the box is, to the nearest of the queries that want the node.
    levels, numbers : (16 levels,)
        Which node it is.
    """

    bounds: Float32
    levels: Int64
    numbers: Int64


class Group(NamedTuple):
    """Up to 16 queries that go down the tree together, and what is known of them.

    Attributes
    ----------
    reach : (16,)
        The k-th neighbour is no farther than this; a Euclidean distance squared.
    limit : (16,)
        What a sum in float32 does not exceed for a point within reach.
    neighbours : (16, k)
        The nearest points found, in the order of their distances.
    wanted : (levels, 16)
        For the children of the last parent looked into, by their level: bits of the queries that
        want them.
    gaps : (levels, 16, 16)
        How near they are to each query that wants them.
    found, least : (16,)
        How near points or boxes are to one query; and boxes to the nearest query.
    """

    reach: Float64
    limit: Float32
    neighbours: Int64
    wanted: Int64
    gaps: Float32
    found: Float32
    least: Float32


@compiled
def search(index: Index, queries: Queries, nearest: Float64, told: Int64) -> None:
    """Put the k nearest points of queries into `nearest` (n, k), ascending.

    Distances that stand there already are of points elsewhere: only nearer ones are looked for.
    Where none do, it can be told which points were found, by `ids`: in `told` (n, k), or (0, k)
    where that is not wanted.
    """
    top = len(index.sizes) - 2
    room = LANES * (top + 1)
    stack = Stack(np.empty(room, np.float32), np.empty(room, np.int64), np.empty(room, np.int64))
    group = Group(
        np.empty(_GROUP), np.empty(_GROUP, np.float32),
        np.zeros((_GROUP, nearest.shape[1]), np.int64), np.empty((top + 1, LANES), np.int64),
        np.empty((top + 1, LANES, _GROUP), np.float32), np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
    )  # fmt: skip
    for begin in range(0, len(nearest), _GROUP):
        members = min(_GROUP, len(nearest) - begin)
        for member in range(members):
            _start(index, queries, begin, member, begin > 0, group, nearest)
            group.gaps[top, 0, member] = 0.0
        group.wanted[top, 0] = (1 << members) - 1
        stack.bounds[0], stack.levels[0], stack.numbers[0] = 0.0, top, 0
        size = 1
        while size:
            size -= 1
            level, number = stack.levels[size], stack.numbers[size]
            if level:
                children = _look_into_parent(index, level, number, queries, begin, group)
                size = _push(index, level - 1, number, children, group, stack, size)
            else:
                _look_into_leaf(index, number, queries, begin, group, nearest)
        if len(told):
            for member in range(members):
                for i in range(told.shape[1]):
                    told[begin + member, i] = index.ids[group.neighbours[member, i]]


@inlined
def _start(
    index: Index, queries: Queries, begin: int, member: int, follows: bool, group: Group,
    nearest: Float64,
) -> None:  # fmt: skip
    """Tell how far neighbours of a query can be: as those of the query before the group, if any."""
    query, last = begin + member, nearest.shape[1] - 1
    reach = nearest[query, last]
    if follows and group.neighbours[_GROUP - 1, last] >= 0:  # it has found all k of its own
        farthest = 0.0
        for i in range(last + 1):
            neighbour = group.neighbours[_GROUP - 1, i]
            farthest = max(farthest, _measure(index, neighbour, queries, query))
        reach = min(reach, farthest)
    group.neighbours[member, :] = -1
    group.reach[member] = reach
    group.limit[member] = _limit(index, reach, queries.slack[query])


@inlined
def _look_into_parent(
    index: Index, level: int, number: int, queries: Queries, begin: int, group: Group
) -> int:
    """Which children of a parent are wanted by queries, which are noted: bits."""
    slot = number % LANES
    waiting = group.wanted[level, slot]
    group.least[:] = np.inf
    group.wanted[level - 1, :] = 0
    children = 0
    while waiting:
        member = lowest_bit(waiting)
        waiting &= waiting - 1
        limit = group.limit[member]
        if group.gaps[level, slot, member] > limit:
            continue
        bits = _boxes_near(index, level, number, queries, begin + member, limit, group.found)
        children |= bits
        while bits:
            child = lowest_bit(bits)
            bits &= bits - 1
            gap = group.found[child]
            group.wanted[level - 1, child] |= 1 << member
            group.gaps[level - 1, child, member] = gap
            group.least[child] = min(group.least[child], gap)
    return children


@inlined
def _push(
    index: Index, level: int, parent: int, children: int, group: Group, stack: Stack, size: int
) -> int:
    """Put children of a parent on the stack, the nearest last; how much is on it then."""
    bottom = size
    while children:
        child = lowest_bit(children)
        children &= children - 1
        bound = group.least[child]
        place = size
        while place > bottom and stack.bounds[place - 1] < bound:
            stack.bounds[place] = stack.bounds[place - 1]
            stack.levels[place] = stack.levels[place - 1]
            stack.numbers[place] = stack.numbers[place - 1]
            place -= 1
        number = parent * LANES + child
        stack.bounds[place], stack.levels[place], stack.numbers[place] = bound, level, number
        size += 1
        _fetch(index, level, number)
    return size


@inlined
def _look_into_leaf(
    index: Index, number: int, queries: Queries, begin: int, group: Group, nearest: Float64
) -> None:
    """Measure the points of a leaf that may be nearer than those found."""
    slot, last = number % LANES, nearest.shape[1] - 1
    waiting = group.wanted[0, slot]
    while waiting:
        member = lowest_bit(waiting)
        waiting &= waiting - 1
        if group.gaps[0, slot, member] > group.limit[member]:
            continue
        query = begin + member
        bits = _points_near(index, number, queries, query, group.limit[member], group.found)
        while bits:
            lane = lowest_bit(bits)
            bits &= bits - 1
            if group.found[lane] > group.limit[member]:
                continue
            point = number * LANES + lane
            if _is_left_out(index, point, queries):
                continue
            distance = _measure(index, point, queries, query)
            farthest = group.neighbours[member, last]
            if not _is_nearer(index, distance, point, nearest[query, last], farthest):
                continue
            _insert(index, nearest, query, group.neighbours, member, distance, point)
            if nearest[query, last] < group.reach[member]:
                group.reach[member] = nearest[query, last]
                group.limit[member] = _limit(index, nearest[query, last], queries.slack[query])


@inlined
def _is_left_out(index: Index, point: int, queries: Queries) -> bool:
    for i in range(len(queries.without)):
        if queries.without[i, 0] <= index.ids[point] < queries.without[i, 1]:
            return True
    return False


@inlined
def _is_nearer(
    index: Index, distance: float, point: int, its_distance: float, its_point: int
) -> bool:
    """Whether a point comes before another."""
    if distance == its_distance:
        return bool(index.ids[point] < index.ids[its_point])
    return distance < its_distance


@inlined
def _insert(
    index: Index, nearest: Float64, query: int, neighbours: Int64, member: int, distance: float,
    point: int,
) -> None:  # fmt: skip
    """Put a point among the nearest of a query, in place of the farthest of them."""
    place = nearest.shape[1] - 1
    while place > 0 and _is_nearer(
        index, distance, point, nearest[query, place - 1], neighbours[member, place - 1]
    ):
        nearest[query, place] = nearest[query, place - 1]
        neighbours[member, place] = neighbours[member, place - 1]
        place -= 1
    nearest[query, place] = distance
    neighbours[member, place] = point


@compiled
def sum_densities(
    index: Index, queries: Queries, first: int, last: int, nearest: Float64, totals: Float64
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
                    at = number * index.leaf_stride + i * index.dimension_stride
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

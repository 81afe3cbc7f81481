"""Exact nearest neighbours by a tree of boxes: what is compiled.

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
from typing import NamedTuple

import numpy as np

from qspace_nd.arrays import Float32, Float64, Int64
from qspace_nd.searching.vectors import CHUNK, LANES, Lanes, lanes_within, lowest_bit, prefetch
from qspace_nd.system.compiling import compiled

EUCLIDEAN, BHATTACHARYYA, DENSITY = range(3)
"""Kinds of distance."""

_GROUP = 16  # queries that go down the tree together: what one reads is in the cache for the next
_NEGLIGIBLE = 40.0  # nats below the largest term: 10^8 such terms change a sum by less than 10^-9
_HALF_LN_2 = 0.5 * math.log(2.0)


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


# --- The search


class Index(NamedTuple):
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
    blocks: Float32
    boxes: Float32
    sizes: Int64
    begins: Int64
    parts: int
    query_parts: int
    dimensions: int
    boxed: int
    exact: Float32
    leaf: int
    lane: int
    step: int
    measured: int
    constants: Float64
    least_constant: float


class Queries(NamedTuple):
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

    lanes: Float32
    exact: Float32
    slack: Float64


@compiled
def _measure(index: Index, point: int, queries: Queries, query: int) -> float:
    """Measure in float64; a Euclidean distance squared."""
    at = point // LANES * index.leaf + point % LANES * index.lane
    total = 0.0
    if index.kind == BHATTACHARYYA:
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
        if index.kind == DENSITY:
            apart /= np.float64(index.exact[at + LANES])
        total += apart * apart
        at += index.step
        here += 1
    if index.kind == DENSITY:
        total = 0.5 * total + float(index.constants[point])
    return total


@compiled
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


@compiled
def _members(index: Index, level: int, number: int) -> int:
    """Bits of the lanes that hold points or children; the last of a level may be filled up."""
    members: int = min(LANES, index.sizes[level] - number * LANES)
    return (1 << members) - 1


@compiled
def _boxes_near(
    index: Index, level: int, number: int, queries: Queries, query: int, limit: np.float32,
    found: Float32,
) -> int:  # fmt: skip
    """Which children of a parent are within the limit of a query, and how near they are."""
    at = (index.begins[level - 1] + number) * index.boxed * index.parts * 2 * LANES
    row = query * index.dimensions * index.query_parts
    lanes, boxed = queries.lanes, index.boxed
    if index.kind == EUCLIDEAN:
        bits = _boxes_within(index.boxes, at, lanes, row, boxed, limit, found)
    elif index.kind == BHATTACHARYYA:
        bits = _overlap_boxes_within(index.boxes, at, lanes, row, boxed, limit, found)
    else:
        bits = _density_boxes_within(index.boxes, at, lanes, row, boxed, limit, found)
    near: int = bits & _members(index, level, number)
    return near


@compiled
def _points_near(
    index: Index, number: int, queries: Queries, query: int, limit: np.float32, found: Float32
) -> int:
    """Which points of a leaf are within the limit of a query, and how near they may be."""
    at = number * index.dimensions * index.parts * LANES
    row = query * index.dimensions * index.query_parts
    lanes, dimensions = queries.lanes, index.dimensions
    if index.kind == EUCLIDEAN:
        bits = _points_within(index.blocks, at, lanes, row, dimensions, limit, found)
    elif index.kind == BHATTACHARYYA:
        bits = _overlaps_within(index.blocks, at, lanes, row, dimensions, limit, found)
    else:
        bits = _densities_within(index.blocks, at, lanes, row, dimensions, limit, found)
    near: int = bits & _members(index, 0, number)
    return near


@compiled
def _fetch(index: Index, level: int, number: int) -> None:
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


@compiled
def search(index: Index, queries: Queries, first: int, last: int, k: int, nearest: Float64) -> None:
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

"""The order of a k-d tree: points that lie together come together, in leaves of 16."""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np

from qspace_nd.arrays import Float32, Int64
from qspace_nd.searching.vectors import LANES
from qspace_nd.system.compiling import compiled, inlined
from qspace_nd.system.scratch import ROWS, Room

_RANGE = 256  # leaves that are not shared out among threads
_RANGES = 64  # that are: each is gone through to its leaves before the next is looked at
_SAMPLE = 256  # points that the variances within a range are estimated from


def in_order(rows: Float32, count: int, pool: Executor, room: Room = np.empty) -> Int64:
    """Sort the first `count` of `rows` (n, d) into leaves, in place.

    The leaves are split in two, and the halves again, until there are enough of them for each
    thread to go on alone: so that rows that lie on the disk are gone through as a whole a few times
    only. Which rows a leaf gets does not depend on the number of threads.

    Returns
    -------
    (count,)
        For each row, its number before the sorting; in an array that `room` gives.
    """
    ids = room((count,), np.int64)
    for start in range(0, count, ROWS):
        ids[start : start + ROWS] = np.arange(start, min(start + ROWS, count))
    ranges = [(0, -(-count // LANES))]  # from one leaf to before another
    while len(ranges) < _RANGES and ranges[0][1] - ranges[0][0] > _RANGE:  # the first is largest
        cuts = list(pool.map(lambda one: _split(rows, ids, count, *one), ranges))
        halves: list[tuple[int, int]] = []
        for (first, last), cut in zip(ranges, cuts, strict=True):
            halves += [(first, cut), (cut, last)]
        ranges = [(first, last) for first, last in halves if first < last]
    list(pool.map(lambda one: _order(rows, ids, count, *one), ranges))
    return ids


@compiled
def _order(rows: Float32, ids: Int64, count: int, first: int, last: int) -> None:
    """Split the leaves `first` to `last` down to single ones."""
    pending = [(first, last)]
    while len(pending):
        first, last = pending.pop()
        if last - first > 1:
            cut = _split(rows, ids, count, first, last)
            pending.append((first, cut))
            pending.append((cut, last))


@compiled
def _split(rows: Float32, ids: Int64, count: int, first: int, last: int) -> int:
    """Sort the rows of the leaves `first` to `last` into two halves.

    Along the axis in which they vary most, no row of the lower half is above one of the upper.

    Returns
    -------
    int
        The first leaf of the upper half.
    """
    cut = _cut(first, last)
    low, high = first * LANES, min(count, last * LANES) - 1
    _select(rows, ids, _widest_axis(rows, low, high), low, high, cut * LANES)
    return cut


@inlined
def _cut(first: int, last: int) -> int:
    """Where to part leaves: both halves are whole subtrees, all of them full but the very last."""
    leaves = last - first
    subtree = 1
    while subtree * LANES < leaves:
        subtree *= LANES
    subtrees = (leaves + subtree - 1) // subtree
    return first + subtree * ((subtrees + 1) // 2)


@inlined
def _widest_axis(rows: Float32, low: int, high: int) -> int:
    """The axis in which the rows `low` to `high`, the last included, vary most, by some of them."""
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
    return axis


@inlined
def _select(rows: Float32, ids: Int64, axis: int, low: int, high: int, middle: int) -> None:
    """Sort rows until those before `middle` are not above those from it on: Hoare's selection.

    The pivot is the median of three.
    """
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


@inlined
def _swap(rows: Float32, ids: Int64, a: int, b: int) -> None:
    for i in range(rows.shape[1]):
        rows[a, i], rows[b, i] = rows[b, i], rows[a, i]
    ids[a], ids[b] = ids[b], ids[a]

"""The order of a k-d tree: points that lie together come together, in leaves of 16."""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np

from qspace_nd.arrays import Float32, Int64
from qspace_nd.searching.vectors import LANES
from qspace_nd.system.compiling import compiled

_RANGE = 256  # leaves that a thread puts in order at a time
_SAMPLE = 256  # points that the variances within a range are estimated from


@compiled
def _split(rows: Float32, ids: Int64, count: int, first: int, last: int) -> int:
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


@compiled
def _swap(rows: Float32, ids: Int64, a: int, b: int) -> None:
    for i in range(rows.shape[1]):
        rows[a, i], rows[b, i] = rows[b, i], rows[a, i]
    ids[a], ids[b] = ids[b], ids[a]


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


def in_order(rows: Float32, count: int, pool: Executor) -> Int64:
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

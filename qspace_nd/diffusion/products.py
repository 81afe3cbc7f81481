"""A matrix times the signal of each voxel, in float32, each voxel by itself.

A library's product sums in an order that depends on where a row lies among the others and on the
number of threads, so that a voxel's last bits would depend on the mask. Here the order is fixed.
"""

from __future__ import annotations

import numpy as np

from qspace_nd.arrays import Float32, Float64
from qspace_nd.system.compiling import compiled

_LANES = 16  # numbers that the widest registers hold


def multiply(values: Float32, matrix: Float64, out: Float32) -> None:
    """Write `matrix` (C, C') times each voxel of `values` (n, C') to `out` (n, C).

    The products are summed in float32. `out` may be `values`.
    """
    columns = np.zeros((matrix.shape[1], -(-len(matrix) // _LANES) * _LANES), np.float32)
    columns[:, : len(matrix)] = matrix.T
    _multiply(values, columns, out)


@compiled
def _multiply(values: Float32, columns: Float32, out: Float32) -> None:
    """Sum up the columns of a matrix by the numbers of each voxel, two numbers at a time."""
    sums = np.empty(columns.shape[1], np.float32)
    odd = values.shape[1] % 2
    for voxel in range(len(values)):
        sums[:] = 0
        for k in range(0, values.shape[1] - odd, 2):
            one, two = values[voxel, k], values[voxel, k + 1]
            for c in range(len(sums)):
                sums[c] += one * columns[k, c] + two * columns[k + 1, c]
        if odd:
            last = values[voxel, -1]
            for c in range(len(sums)):
                sums[c] += last * columns[-1, c]
        for c in range(out.shape[1]):
            out[voxel, c] = sums[c]

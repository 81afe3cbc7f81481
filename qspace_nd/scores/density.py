"""How densely healthy voxels lie about a point: a sum over all of them.

Terms less than e^-40 of the largest are left out: what is missing is less than 1e-9 of the sum.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from qspace_nd.arrays import Float64
from qspace_nd.gaussian import Gaussian
from qspace_nd.scores.joining import gathered

if TYPE_CHECKING:
    from qspace_nd.searching.tree import DensityTree


def density_trees(healthy: Iterable[Gaussian[Tensor]]) -> list[DensityTree]:
    """Put N Gaussians (m, D), in chunks, as float32, into trees."""
    # Compiled code takes its time to import: only who searches waits for it.
    from qspace_nd.searching.tree import DensityTree

    return [DensityTree(some.numpy()) for some in gathered(healthy)]


def log_density_sum(points: Tensor, healthy: Iterable[DensityTree]) -> Float64:
    """Logarithm of the summed densities of N Gaussians p_y at each of `points` (n, D): (n,).

    ln sum_y p_y(a), the largest term taken out of the sum, so that nothing underflows.

    Parameters
    ----------
    points : (n, D)
        The points a, as float32.
    healthy : iterable of DensityTree
        The Gaussians.
    """
    from qspace_nd.searching.tree import LogSums

    sums = LogSums(np.full(len(points), -np.inf), np.zeros(len(points)))
    for tree in healthy:
        tree.add(sums, points.numpy())
    logarithm: Float64 = sums.peak + np.log(sums.total)
    return logarithm

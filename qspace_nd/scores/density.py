"""How densely healthy voxels lie about a point: a sum over all of them.

Terms less than e^-40 of the largest are left out: what is missing is less than 1e-9 of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from torch import Tensor

from qspace_nd.gaussian import Gaussian
from qspace_nd.scores.gather import gathered
from qspace_nd.scores.measures import Values


def log_mean_density(points: Tensor, healthy: Iterable[Gaussian[Tensor]]) -> Values:
    """Logarithm of the mean density of N Gaussians p_y at each of `points` (n, D): (n,).

    ln (1/N) sum_y p_y(a), the largest term taken out of the sum, so that nothing underflows.

    Parameters
    ----------
    points : (n, D)
        The points a, as float32.
    healthy : iterable of Gaussian (m, D)
        The Gaussians, in chunks, as float32.
    """
    # Compiled code takes its time to import: only who searches waits for it.
    from qspace_nd.tree import DensityTree, LogSums

    sums = LogSums(np.full(len(points), -np.inf), np.zeros(len(points)))
    number = 0
    for some in gathered(healthy):
        number += len(some)
        DensityTree(some.numpy()).add(sums, points.numpy())
    logarithm: Values = sums.peak + np.log(sums.total) - math.log(number)
    return logarithm

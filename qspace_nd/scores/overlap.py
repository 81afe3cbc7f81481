"""The nearest of many Gaussians by Bhattacharyya distance, exactly."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from qspace_nd.gaussian import Gaussian
from qspace_nd.scores.gather import gathered
from qspace_nd.scores.measures import Values


def nearest_gaussians(queries: Gaussian[Tensor], healthy: Iterable[Gaussian[Tensor]]) -> Values:
    """Bhattacharyya distance from each of `queries` (n, D) to the nearest of N Gaussians: (n,).

    Parameters
    ----------
    queries : Gaussian (n, D)
        The queries, as float32.
    healthy : iterable of Gaussian (m, D)
        The Gaussians, in chunks, as float32.
    """
    # Compiled code takes its time to import: only who searches waits for it.
    from qspace_nd.tree import OverlapTree

    least = np.full(len(queries), np.inf)
    for some in gathered(healthy):
        OverlapTree(some.numpy()).improve(least, queries.numpy())
    return least

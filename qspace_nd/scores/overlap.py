"""The nearest of many Gaussians by Bhattacharyya distance, exactly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from qspace_nd.arrays import Float64
from qspace_nd.gaussian import Gaussian
from qspace_nd.scores.joining import gathered

if TYPE_CHECKING:
    from qspace_nd.searching.tree import OverlapTree


def overlap_trees(healthy: Iterable[Gaussian[Tensor]]) -> list[OverlapTree]:
    """Put N Gaussians (m, D), in chunks, as float32, into trees."""
    # Compiled code takes its time to import: only who searches waits for it.
    from qspace_nd.searching.tree import OverlapTree

    return [OverlapTree(some.numpy()) for some in gathered(healthy)]


def nearest_gaussians(queries: Gaussian[Tensor], healthy: Iterable[OverlapTree]) -> Float64:
    """Bhattacharyya distance from each of `queries` (n, D) to the nearest of N Gaussians: (n,).

    Parameters
    ----------
    queries : Gaussian (n, D)
        The queries, as float32.
    healthy : iterable of OverlapTree
        The Gaussians.
    """
    least = np.full(len(queries), np.inf)
    for tree in healthy:
        tree.improve(least, queries.numpy())
    return least

"""How densely healthy voxels lie about a voxel: a sum over all of them.

Terms less than e^-40 of the largest are left out: what is missing is less than 1e-9 of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from qspace_nd.arrays import Float64
from qspace_nd.gaussian import Gaussian
from qspace_nd.progress import Advance, unheard
from qspace_nd.scores.base import Cost, Search
from qspace_nd.scores.joining import gathered, in_eights
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import GaussianView, PointView, View, Views

if TYPE_CHECKING:
    from qspace_nd.searching.tree import DensityTree


@dataclass(frozen=True)
class Density(Search):
    """Negative logarithm of the healthy voxels' mean density at a view v: -ln mean_y w(y)[v(x)].

    Attributes
    ----------
    view : PointView
        v.
    healthy_view : GaussianView
        w.
    """

    view: PointView
    healthy_view: GaussianView
    cost = Cost.DEAR

    @property
    def healthy_views(self) -> frozenset[View]:
        """The view w."""
        return frozenset({self.healthy_view})

    def look(
        self,
        voxels: Views,
        block: Reference,
        found: Float64 | None = None,
        advance: Advance = unheard,
    ) -> Float64:
        """Logarithm of the sum of the densities: (n,)."""
        trees = block.gaussians(self.healthy_view, density_trees)
        sums = log_density_sum(voxels.point(self.view), trees)
        advance(len(voxels))
        return sums

    def join(self, found: Float64, more: Float64) -> Float64:
        """The logarithm of both sums together."""
        return np.asarray(np.logaddexp(found, more))

    def conclude(self, found: Float64, number: int) -> Float64:
        """Minus the logarithm of the mean."""
        return math.log(number) - found

    def index_bytes(self, healthy: Reference) -> dict[str, int]:
        """As the trees hold them, whose dimensions are filled up to eights."""
        if healthy.is_built(self.healthy_view, density_trees):
            return {}
        held = in_eights(healthy.dimensions(self.healthy_view))
        return {f"density of {self.healthy_view}": 14 * held + 20}


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

"""How far a voxel is from the nearest healthy one: as a point, or as a Gaussian."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from qspace_nd.arrays import Float64
from qspace_nd.gaussian import Gaussian
from qspace_nd.progress import Advance, unheard
from qspace_nd.scores.base import Cost, Score, Search
from qspace_nd.scores.joining import gathered, in_eights
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import GaussianView, PointView, View, Views
from qspace_nd.searching.nearest import Build, NearestNeighbours

if TYPE_CHECKING:
    from qspace_nd.searching.tree import OverlapTree


@dataclass(frozen=True)
class Nearest(Search):
    """Euclidean distance from a view v to the nearest healthy voxel's view w: min_y |v(x) - w(y)|.

    Attributes
    ----------
    view, healthy_view : PointView
        v and w.
    neighbours : int
        The nearest voxels that the distance is the mean to; 1 in the paper.
    build : callable
        Makes the search of the healthy points (N, D).
    """

    view: PointView
    healthy_view: PointView
    neighbours: int = 1
    build: Build = NearestNeighbours
    cost = Cost.SEARCH

    @property
    def healthy_views(self) -> frozenset[View]:
        """The view w."""
        return frozenset({self.healthy_view})

    @property
    def rests(self) -> frozenset[PointView]:
        """The features, where places are compared."""
        return frozenset({"features"} if "placed" in (self.view, self.healthy_view) else ())

    def look(
        self,
        voxels: Views,
        block: Reference,
        found: Float64 | None = None,
        advance: Advance = unheard,
    ) -> Float64:
        """Distances to the nearest, ascending: (n, k), or as many as there are.

        Beyond the k-th that was `found`, inf.
        """
        search = block.nearest(self.healthy_view, self.build)
        known = found is not None and found.shape[1] == self.neighbours
        within = found[:, -1] if found is not None and known else None
        points = voxels.point(self.view).numpy()
        return search.distances(points, self.neighbours, within, advance)

    def join(self, found: Float64, more: Float64) -> Float64:
        """The least of both."""
        return np.sort(np.hstack([found, more]), axis=1)[:, : self.neighbours]

    def conclude(self, found: Float64, number: int) -> Float64:
        """Their mean."""
        return np.asarray(found.mean(axis=1))

    def index_bytes(self, healthy: Reference) -> dict[str, int]:
        """As measured of the points and the engines that are timed on them: the peak."""
        if healthy.is_built(self.healthy_view, self.build):
            return {}
        return {self.healthy_view: 20 * healthy.dimensions(self.healthy_view)}

    def with_neighbours(self, number: int) -> Score:
        """The mean distance to the `number` nearest."""
        return replace(self, neighbours=number)

    def with_search(self, build: Build) -> Nearest:
        """The same distance by another search."""
        return replace(self, build=build)


@dataclass(frozen=True)
class NearestGaussian(Search):
    """Bhattacharyya distance to the nearest healthy voxel by a view v: min_y D_B(v(x), v(y)).

    D_B = sum_i (m_i - n_i)² / (4 (s_i² + t_i²)) + ½ ln((s_i² + t_i²) / (2 s_i t_i))

    for means m, n and standard deviations s, t: -ln of the integral of sqrt(p q) (Bhattacharyya,
    "On a measure of divergence between two statistical populations", 1943). Both terms are at
    least 0, and exactly 0 between equal Gaussians.

    Attributes
    ----------
    view : GaussianView
        v.
    """

    view: GaussianView
    cost = Cost.SEARCH

    @property
    def healthy_views(self) -> frozenset[View]:
        """The view v."""
        return frozenset({self.view})

    def look(
        self,
        voxels: Views,
        block: Reference,
        found: Float64 | None = None,
        advance: Advance = unheard,
    ) -> Float64:
        """The least distance, or what was `found` where that is less: (n,)."""
        trees = block.gaussians(self.view, overlap_trees)
        nearest = nearest_gaussians(voxels.gaussian(self.view), trees, found)
        advance(len(voxels))
        return nearest

    def join(self, found: Float64, more: Float64) -> Float64:
        """The lesser of both."""
        return np.asarray(np.minimum(found, more))

    def conclude(self, found: Float64, number: int) -> Float64:
        """As it is."""
        return found

    def index_bytes(self, healthy: Reference) -> dict[str, int]:
        """As the trees hold them, whose dimensions are filled up to eights."""
        if healthy.is_built(self.view, overlap_trees):
            return {}
        return {f"overlap of {self.view}": 10 * in_eights(healthy.dimensions(self.view)) + 20}


def overlap_trees(healthy: Iterable[Gaussian[Tensor]]) -> list[OverlapTree]:
    """Put N Gaussians (m, D), in chunks, as float32, into trees."""
    # Compiled code takes its time to import: only who searches waits for it.
    from qspace_nd.searching.tree import OverlapTree

    return [OverlapTree(some.numpy()) for some in gathered(healthy)]


def nearest_gaussians(
    queries: Gaussian[Tensor], healthy: Iterable[OverlapTree], known: Float64 | None = None
) -> Float64:
    """Bhattacharyya distance from each of `queries` (n, D) to the nearest of N Gaussians: (n,).

    Parameters
    ----------
    queries : Gaussian (n, D)
        The queries, as float32.
    healthy : iterable of OverlapTree
        The Gaussians.
    known : (n,) array, optional
        The distance to the nearest of others.
    """
    least = np.full(len(queries), np.inf) if known is None else known.copy()
    for tree in healthy:
        tree.improve(least, queries.numpy())
    return least

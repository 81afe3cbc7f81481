"""The families of scores: each a rule that turns views of voxels into a novelty.

A family is composed of views (`views`) and measures (`measures`). The
novelty of a voxel depends on that voxel, the model and the healthy reference alone: samples are
made of noise that all voxels share, and what is searched or optimised is so for each by itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from functools import reduce
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from qspace_nd.arrays import Float64
from qspace_nd.gaussian import Gaussian
from qspace_nd.scores.closest import Objective, closest_latents
from qspace_nd.scores.density import density_trees, log_density_sum
from qspace_nd.scores.measures import divergence, euclidean, negative_log_likelihood
from qspace_nd.scores.overlap import nearest_gaussians, overlap_trees
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import SAMPLES, GaussianView, PointView, Views
from qspace_nd.searching.nearest import Build, NearestNeighbours


class Cost(Enum):
    """How dear a score is: what its time grows with.

    Attributes
    ----------
    label : str
        One word.
    meaning : str
        What the time of a voxel is spent on.
    """

    CHEAP = ("cheap", "passes through the network")
    SEARCH = ("search", "a search for neighbours, which a larger reference slows down little")
    DEAR = ("dear", "a good part of the reference, or an optimiser, for each voxel")

    def __init__(self, label: str, meaning: str) -> None:
        self.label = label
        self.meaning = meaning


class Score(ABC):
    """A rule that gives each voxel its novelty; higher is more novel."""

    cost: Cost

    @abstractmethod
    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Novelty of n `voxels` against the `healthy` reference: (n,)."""

    @property
    def family(self) -> str:
        """What kind of score it is: the name of its class."""
        return type(self).__name__

    def __add__(self, other: Score) -> Sum:
        return Sum(self, other)

    def with_neighbours(self, number: int) -> Score:
        """The same rule over the `number` nearest healthy voxels; itself where it looks at all."""
        return self


@dataclass(frozen=True)
class Sum(Score):
    """The sum of two scores."""

    first: Score
    second: Score

    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Add both: (n,)."""
        return self.first(voxels, healthy) + self.second(voxels, healthy)

    @property
    def family(self) -> str:
        """The families of both."""
        return f"{self.first.family} + {self.second.family}"

    @property
    def cost(self) -> Cost:  # type: ignore[override]
        """The higher of both costs."""
        return max(self.first.cost, self.second.cost, key=list(Cost).index)


class Search(Score):
    """A score that searches the healthy reference, which may come in blocks, one after another."""

    @abstractmethod
    def look(self, voxels: Views, block: Reference) -> Float64:
        """What n `voxels` find in a block: (n, ...)."""

    @abstractmethod
    def join(self, found: Float64, more: Float64) -> Float64:
        """What is found in both of two blocks together."""

    @abstractmethod
    def conclude(self, found: Float64, number: int) -> Float64:
        """Novelty by what is found in a reference of `number` voxels: (n,)."""

    @abstractmethod
    def index_bytes(self, healthy: Reference) -> dict[str, int]:
        """Memory that a search is yet to take for each healthy voxel.

        By what it is taken for, which several scores may share; nothing for what is there already.
        """

    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Search all in one block: (n,)."""
        return self.conclude(self.look(voxels, healthy), len(healthy))


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

    def look(self, voxels: Views, block: Reference) -> Float64:
        """Distances to the nearest, ascending: (n, k), or as many as there are."""
        search = block.nearest(self.healthy_view, self.build)
        return search.distances(voxels.point(self.view).numpy(), self.neighbours)

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
        return {self.healthy_view: 20 * _dimensions(healthy, self.healthy_view)}

    def with_neighbours(self, number: int) -> Score:
        """The mean distance to the `number` nearest."""
        return replace(self, neighbours=number)

    def with_search(self, build: Build) -> Nearest:
        """The same distance by another search."""
        return replace(self, build=build)


@dataclass(frozen=True)
class NearestGaussian(Search):
    """Bhattacharyya distance to the nearest healthy voxel by a view v: min_y D_B(v(x), v(y)).

    Attributes
    ----------
    view : GaussianView
        v.
    """

    view: GaussianView
    cost = Cost.SEARCH

    def look(self, voxels: Views, block: Reference) -> Float64:
        """The least distance: (n,)."""
        trees = block.gaussians(self.view, overlap_trees)
        return nearest_gaussians(voxels.gaussian(self.view), trees)

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
        return {f"overlap of {self.view}": 10 * _in_eights(healthy, self.view) + 20}


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

    def look(self, voxels: Views, block: Reference) -> Float64:
        """Logarithm of the sum of the densities: (n,)."""
        trees = block.gaussians(self.healthy_view, density_trees)
        return log_density_sum(voxels.point(self.view), trees)

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
        return {f"density of {self.healthy_view}": 14 * _in_eights(healthy, self.healthy_view) + 20}


def _dimensions(healthy: Reference, view: PointView | GaussianView) -> int:
    network = healthy.parts[0].views.network
    return network.latents if view in ("q", "q_bar") else network.channels


def _in_eights(healthy: Reference, view: GaussianView) -> int:
    return -(-_dimensions(healthy, view) // 8) * 8


Latents = Callable[[Views], Iterable[Gaussian[Tensor]]]
"""Where a reconstruction is decoded at: the p(z_i), each (n, C), of as many z_i as are taken."""


def bar(voxels: Views) -> Iterable[Gaussian[Tensor]]:
    """Decode at the posterior's mean: every p(z_i) is p(qm(x))."""
    return repeat(voxels.p)


def hat(voxels: Views) -> Iterable[Gaussian[Tensor]]:
    """Decode at samples z_i ~ q(x)."""
    return (voxels.decode(voxels.q.sample(noise)) for noise in voxels.noise.z)


Comparison = Callable[[Tensor, Gaussian[Tensor], Tensor], Float64]
"""How far voxels x (n, C) are from p(z_i) (n, C), whose sample is made of noise (C,): (n,)."""


def error_bar(x: Tensor, p: Gaussian[Tensor], noise: Tensor) -> Float64:
    """|x - pm(z_i)|."""
    return euclidean(x, p.mean)


def error_hat(x: Tensor, p: Gaussian[Tensor], noise: Tensor) -> Float64:
    """|x - x_i| for a sample x_i ~ p(z_i)."""
    return euclidean(x, p.sample(noise))


def likelihood(x: Tensor, p: Gaussian[Tensor], noise: Tensor) -> Float64:
    """-log p(z_i)[x]."""
    return negative_log_likelihood(p, x)


Summary = Callable[[list[Float64]], Float64]
"""One value of a voxel's samples."""


def mean(terms: list[Float64]) -> Float64:
    """The mean over the samples."""
    total: Float64 = reduce(np.add, terms) / len(terms)
    return total


def least(terms: list[Float64]) -> Float64:
    """The least of the samples."""
    return reduce(np.minimum, terms)


@dataclass(frozen=True)
class Reconstruction(Score):
    """How far a voxel is from what it is reconstructed as, over samples z_i and x_i.

    Attributes
    ----------
    latents : Latents
        Where it is decoded at: `bar` or `hat`.
    compare : Comparison
        What is compared: `error_bar`, `error_hat` or `likelihood`.
    summary : Summary
        What is made of the samples: their `mean` or the `least`.
    samples : int
        How many, at most `SAMPLES`.
    """

    latents: Latents
    compare: Comparison
    summary: Summary = mean
    samples: int = SAMPLES
    cost = Cost.CHEAP

    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Reconstruct and compare: (n,)."""
        taken = zip(voxels.noise.x[: self.samples], self.latents(voxels), strict=False)
        return self.summary([self.compare(voxels.x, p, noise) for noise, p in taken])


@dataclass(frozen=True)
class Generated(Score):
    """How far a voxel is from the closest that the decoder generates.

    Searches are local. There are two: from qm(x), and from 0, the mean of the prior.

    Attributes
    ----------
    objective : Objective
        What is least there: `ERROR` or `LIKELIHOOD`.
    boxes : tuple of float
        The latents searched are in [-b, b]. Boxes are searched one after the other, each larger
        than the last from where that one ended: so what is found in all latents is never farther
        than what is found in the paper's box.
    """

    objective: Objective
    boxes: tuple[float, ...]
    cost = Cost.DEAR

    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Search: (n,)."""
        largest = self.boxes[-1]
        # The start counts too: a search decodes in blocks of its own, and rounds differently.
        ends = [voxels.q_bar.clamp(-largest, largest)]
        for z in (voxels.q_bar, torch.zeros_like(voxels.q_bar)):
            for box in self.boxes:
                z = closest_latents(voxels.network, voxels.x, z, self.objective, box)
                ends.append(z)
        return least([self.objective.distance(voxels.decode(end), voxels.x) for end in ends])


@dataclass(frozen=True)
class Regulariser(Score):
    """Kullback-Leibler divergence of the posterior from the unit Gaussian: KL(q(x))."""

    cost = Cost.CHEAP

    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Compute: (n,)."""
        return divergence(voxels.q)

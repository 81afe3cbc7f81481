"""How far a voxel is from what the network makes of it, and its posterior from the prior."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from itertools import repeat

import numpy as np
from torch import Tensor

from qspace_nd.arrays import Float64
from qspace_nd.gaussian import Gaussian
from qspace_nd.scores.base import Cost, Score
from qspace_nd.scores.measures import divergence, euclidean, negative_log_likelihood
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import SAMPLES, Views

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
class Regulariser(Score):
    """Kullback-Leibler divergence of the posterior from the unit Gaussian: KL(q(x))."""

    cost = Cost.CHEAP

    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Compute: (n,)."""
        return divergence(voxels.q)

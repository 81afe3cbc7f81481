"""Measures: how far a voxel is from what it is compared with, row by row, in float64.

They are in NumPy, which sums each row by itself: a row's result is the same to the last bit
whatever rows are beside it.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from qspace_nd.arrays import Float64
from qspace_nd.gaussian import Gaussian


def euclidean(a: Tensor, b: Tensor) -> Float64:
    """Euclidean distance |a - b| between points (n, D): (n,)."""
    difference = double(a) - double(b)
    distance: Float64 = np.sqrt((difference**2).sum(axis=-1))
    return distance


def negative_log_likelihood(p: Gaussian[Tensor], x: Tensor) -> Float64:
    """Negative logarithm of the density of Gaussians `p` (n, C) at points `x` (n, C): (n,)."""
    return -double_gaussian(p).log_prob(double(x))


def divergence(q: Gaussian[Tensor]) -> Float64:
    """Kullback-Leibler divergence of Gaussians `q` (n, d) from the unit Gaussian: (n,)."""
    total: Float64 = double_gaussian(q).kl().sum(axis=-1)
    return total


def double(values: Tensor) -> Float64:
    """Return a tensor on the CPU as a contiguous float64 array."""
    array: Float64 = values.double().contiguous().numpy()
    return array


def double_gaussian(gaussian: Gaussian[Tensor]) -> Gaussian[np.ndarray]:
    """Return Gaussians on the CPU as contiguous float64 arrays."""
    return Gaussian(double(gaussian.mean), double(gaussian.std))

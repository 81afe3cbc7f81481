"""Diagonal Gaussians: what the encoder and the decoder return."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import numpy as np
import torch

Array = TypeVar("Array", torch.Tensor, np.ndarray)

_LOG_2_PI = math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Gaussian(Generic[Array]):
    """A batch of diagonal Gaussians, as PyTorch tensors or NumPy arrays.

    Attributes
    ----------
    mean : (..., d)
        The means.
    std : (..., d)
        The standard deviations, all positive.
    """

    mean: Array
    std: Array

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, rows: slice) -> Gaussian[Array]:
        return Gaussian(self.mean[rows], self.std[rows])

    def log_prob(self, x: Array) -> Array:
        """Logarithm of the density at `x` (..., d), summed over the last axis: (...)."""
        distance = (x - self.mean) / self.std
        terms: Array = 0.5 * distance**2 + _log(self.std) + 0.5 * _LOG_2_PI
        density: Array = -terms.sum(-1)
        return density

    def sample(self, noise: Array) -> Array:
        """Sample from standard normal `noise` (..., d), which broadcasts: mean + std * noise."""
        sample: Array = self.mean + self.std * noise
        return sample

    def kl(self) -> Array:
        """Kullback-Leibler divergence of each dimension from the unit Gaussian: (..., d).

        Kingma & Welling, "Auto-Encoding Variational Bayes" (arXiv 1312.6114), appendix B.
        """
        divergence: Array = 0.5 * (self.mean**2 + self.std**2 - 1.0) - _log(self.std)
        return divergence

    def numpy(self) -> Gaussian[np.ndarray]:
        """Return the same Gaussians as NumPy arrays."""
        return Gaussian(np.asarray(_host(self.mean)), np.asarray(_host(self.std)))


def concatenate(gaussians: list[Gaussian[torch.Tensor]]) -> Gaussian[torch.Tensor]:
    """Join batches of Gaussians along the first axis."""
    return Gaussian(torch.cat([g.mean for g in gaussians]), torch.cat([g.std for g in gaussians]))


def _log(values: Array) -> Array:
    return values.log() if isinstance(values, torch.Tensor) else cast(Array, np.log(values))


def _host(values: torch.Tensor | np.ndarray) -> torch.Tensor | np.ndarray:
    return values.detach().cpu() if isinstance(values, torch.Tensor) else values

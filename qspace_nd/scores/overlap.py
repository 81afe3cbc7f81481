"""The nearest of many Gaussians by Bhattacharyya distance, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from torch import Tensor

from qspace_nd.gaussian import Gaussian, concatenate
from qspace_nd.scores.measures import Values

NUMBERS = 2**24
"""Means of a tree, at most, or of one chunk: many Gaussians are searched in several trees."""


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
    from qspace_nd.tree import GaussianTree

    least = np.full(len(queries), np.inf)
    for some in _gathered(healthy):
        GaussianTree(some.numpy()).improve(least, queries.numpy())
    return least


def _gathered(chunks: Iterable[Gaussian[Tensor]]) -> Iterator[Gaussian[Tensor]]:
    """Join chunks to as many Gaussians as a tree may hold."""
    held: list[Gaussian[Tensor]] = []
    for chunk in chunks:
        if held and sum(part.mean.numel() for part in [*held, chunk]) > NUMBERS:
            yield concatenate(held)
            held = []
        held.append(chunk)
    if held:
        yield concatenate(held)

"""What of many Gaussians goes into one tree, and how many numbers it makes of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from qspace_nd.gaussian import Gaussian, concatenate

NUMBERS = 2**24
"""Means that a tree holds, at most, unless one chunk has more."""


def gathered(chunks: Iterable[Gaussian[Tensor]]) -> Iterator[Gaussian[Tensor]]:
    """Join chunks of Gaussians (m, D), in their order."""
    held: list[Gaussian[Tensor]] = []
    for chunk in chunks:
        if held and sum(part.mean.numel() for part in [*held, chunk]) > NUMBERS:
            yield concatenate(held)
            held = []
        held.append(chunk)
    if held:
        yield concatenate(held)


def in_eights(dimensions: int) -> int:
    """Numbers that a tree holds of a Gaussian's means: one a dimension, filled up to eights."""
    return -(-dimensions // 8) * 8

"""Joining chunks of Gaussians to what one tree may hold."""

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

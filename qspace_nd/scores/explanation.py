"""In what voxels differ from healthy ones: how far quantities that readers know lie above or below.

Against the healthy at the same place, where that is known; else against the healthy voxels with
the nearest latents, wherever they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import torch

from qspace_nd.arrays import Float32, Float64, Int64
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.norms import Norms
from qspace_nd.scores.reference import Part, Reference
from qspace_nd.scores.views import Located, Views
from qspace_nd.system.memory import remaining
from qspace_nd.system.scratch import ROWS

NEIGHBOURS = 50
"""Healthy voxels that a voxel is held against: enough for a mean and a standard deviation."""

AT_PLACE = "healthy people at the same place, people's own smooth background taken off"
"""What deviations are against where the place is known."""

_LEAST_SHARE = 0.1  # of the typical standard deviation among neighbours: none counts as less
_LEAST_DEVIATION = 1e-6  # of what does not vary at all
_CHUNK = 8192  # voxels whose neighbours' quantities are in memory at once


class Told(Protocol):
    """Quantities of a voxel, made of its signal x, as readers know them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all, those of `tissue` first."""

    def tissue(self, x: Float32) -> Float32:
        """Those that voxels which have places keep as features: (n, K)."""

    def shells(self, x: Float32) -> Float32:
        """The others: (n, S)."""


@dataclass(frozen=True)
class Deviations:
    """How far quantities lie above (below: negative) healthy ones, in these' standard deviations.

    Attributes
    ----------
    against : str
        Which healthy ones, in words.
    values : mapping of str to (n,) array
        By the name of the quantity.
    """

    against: str
    values: Mapping[str, Float32]


def at_place(voxels: Views, healthy: Reference, told: Told) -> Deviations:
    """Deviations of all n voxels of a person from the healthy at each one's place (`Norms`)."""
    norms = healthy.once(told.names, partial(_norms, told=told))
    voxels = _Quantified(voxels, told)
    voxels = voxels.less({"features": norms.less(norms.background_of(voxels))})
    return Deviations(AT_PLACE, dict(zip(told.names, norms.deviations(voxels).T, strict=True)))


def among_nearest(
    voxels: Views,
    healthy: Reference,
    told: Told,
    memory: int | None = None,
    progress: Progress = SILENT,
) -> Deviations:
    """Deviations of n voxels from the `NEIGHBOURS` healthy ones with the nearest latents.

    The quantities of these alone are computed. Where they hardly differ among themselves, a tenth
    of the standard deviation that is typical of the n voxels' neighbours counts in place of theirs.

    Parameters
    ----------
    memory : int, optional
        Bytes that the process may use; by default three quarters of what is available.
    """
    numbers = _nearest(voxels, healthy, memory, progress)
    found = np.zeros(len(healthy), np.bool_)
    found[numbers] = True
    known, rank = _known(healthy, found, told), np.cumsum(found) - 1
    own = _in_pieces(partial(_of, told), voxels.x.numpy())
    mean, spread = np.empty(own.shape), np.empty(own.shape)
    for start in range(0, len(own), _CHUNK):
        rows = slice(start, start + _CHUNK)
        theirs = known[rank[numbers[rows]]].astype(np.float64)  # (n, k, K)
        mean[rows], spread[rows] = theirs.mean(axis=1), theirs.std(axis=1)
    least = np.maximum(_LEAST_SHARE * np.median(spread, axis=0), _LEAST_DEVIATION)
    values = ((own - mean) / np.maximum(spread, least)).astype(np.float32)
    against = f"the {numbers.shape[1]} healthy voxels with the nearest latents, wherever they lie"
    return Deviations(against, dict(zip(told.names, values.T, strict=True)))


class _Quantified(Views):
    """Views of voxels that have places, whose features are all that is told of them."""

    def __init__(self, views: Views, told: Told) -> None:
        self.network, self.seed = views.network, views.seed
        self._views = views
        self._told = told

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, rows: slice) -> Views:
        return _Quantified(self._views[rows], self._told).less(self.backgrounds)

    @cached_property
    def located(self) -> Located:  # type: ignore[override]
        """Where they lie, and what is told of them: (n, K + S)."""
        own = self._views.located
        shells = torch.from_numpy(_in_pieces(self._told.shells, self._views.x.numpy()))
        return Located(own.points, torch.cat([own.features, shells], dim=1))


def _norms(healthy: Reference, _: object, told: Told) -> Norms:
    parts = [
        Part(part.subject, partial(_quantified, part.open, told), part.start, part.stop)
        for part in healthy.parts
    ]
    return Norms(parts, "features")


def _quantified(opened: Callable[[], Views], told: Told) -> Views:
    return _Quantified(opened(), told)


def _nearest(
    voxels: Views, healthy: Reference, memory: int | None, progress: Progress
) -> Int64:  # (n, k)
    """Which healthy voxels have the nearest latents, the nearest first.

    Of two that are equally near the one that comes first in the reference does.
    """
    # Compiled code takes its time to import: only who searches waits for it.
    from qspace_nd.searching.tree import PointTree

    latents, most = voxels.q_bar.numpy(), min(NEIGHBOURS, len(healthy))
    blocks = healthy.blocks(remaining(memory) // (20 * latents.shape[1]))  # as `Nearest` measured
    distances, numbers, start = np.empty((len(latents), 0)), np.empty((len(latents), 0), int), 0
    with progress.task("Looking for the nearest healthy voxels", len(blocks)) as task:
        for block in blocks:
            near, which = PointTree(block.points("q_bar")).neighbours(latents, most)
            distances, numbers = _joined(distances, numbers, near, which + start, most)
            start += len(block)
            task.advance()
    return numbers


def _joined(
    distances: Float64, numbers: Int64, near: Float64, which: Int64, most: int
) -> tuple[Float64, Int64]:
    """The nearest of those found before and those found in another block, each by distance."""
    if not distances.shape[1]:
        return near, which
    distances, numbers = np.hstack([distances, near]), np.hstack([numbers, which])
    order = np.argsort(distances, axis=1, kind="stable")[:, :most]
    return np.take_along_axis(distances, order, 1), np.take_along_axis(numbers, order, 1)


def _known(healthy: Reference, found: np.ndarray, told: Told) -> Float32:
    """The quantities of the healthy voxels that were found (N,): (m, K + S)."""
    known, start = [], 0
    for chunk in healthy.chunks():
        rows = np.flatnonzero(found[start : start + len(chunk)])
        start += len(chunk)
        if len(rows):
            known.append(_of(told, chunk.x.numpy()[rows]))
    return np.concatenate(known)


def _of(told: Told, x: Float32) -> Float32:
    return np.concatenate([told.tissue(x), told.shells(x)], axis=1)


def _in_pieces(of: Callable[[Float32], Float32], x: Float32) -> Float32:
    starts = range(0, max(1, len(x)), ROWS)
    return np.concatenate([of(x[start : start + ROWS]) for start in starts])

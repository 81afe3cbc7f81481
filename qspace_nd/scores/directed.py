"""How far a voxel has moved from what is normal at its place, in a stated direction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from qspace_nd.arrays import Field, Float32, Float64
from qspace_nd.errors import InputError
from qspace_nd.scores.base import Cost, Score, Shift
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import PointView, View, Views

if TYPE_CHECKING:
    from qspace_nd.scores.norms import Norms

PSEUDO_VOXELS = 8.0
"""How many voxels the brain's typical covariance counts as, beside those near a place."""

_LEAST_VARIANCE = 1e-12  # where the change moves nothing
_MOST_SHIFTED = 200_000  # healthy voxels whose signal is changed: a few near each place


@dataclass(frozen=True)
class Directed(Score):
    """A filter in the latents, matched to the change at each place: w' (z - m) / sqrt(w' S w).

    z is a voxel's mean latent less the person's background, m and S the mean and the covariance of
    the healthy voxels' at that place, d how the change moves healthy voxels there (the mean of the
    latents of changed signals less those of the signals as they are), and w = D⁻¹ d with D the
    diagonal of S. With S in place of D it would be the matched filter, the best where S is known;
    but S is estimated of few people, and what their registration leaves lies in the direction of
    most changes. The independence rule does better then (Bickel and Levina, Bernoulli 10:989,
    2004), as it does here. For healthy voxels the mean is 0 and the standard deviation 1.

    Attributes
    ----------
    shift : callable or None
        Changes signals; None until the change is stated.
    """

    shift: Shift | None = None
    cost = Cost.CHEAP

    @property
    def healthy_views(self) -> frozenset[View]:
        """The signals, to change them, and the latents."""
        return frozenset({"x", "q_bar"})

    @property
    def rests(self) -> frozenset[PointView]:
        """The latents."""
        return frozenset({"q_bar"})

    @property
    def needs_change(self) -> bool:
        """It does."""
        return True

    def toward(self, shift: Shift) -> Score:
        """The filter for a change."""
        return replace(self, shift=shift)

    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Filter the latents: (n,)."""
        if self.shift is None:
            raise InputError("A directed score needs the change that is looked for.")
        filters = healthy.once(self.shift, matched_filters).at(voxels.located.points.numpy())
        z = voxels.rest("q_bar").numpy().astype(np.float64)
        found: Float64 = (z * filters[:, :-1]).sum(axis=1) - filters[:, -1]
        return found


def matched_filters(healthy: Reference, shift: Shift) -> Field:
    """The filters w / sqrt(w' S w) at each place, and what they give of m there: (d + 1)."""
    norms = healthy.norms("q_bar")
    shifts = _shifts(healthy, norms, shift)
    k = len(shifts)
    d, m = shifts.reshape(k, -1).T, norms.mean.reshape(k, -1).T
    weight = norms.weight.reshape(-1, 1, 1)
    covariance = np.moveaxis(norms.covariance.reshape(k, k, -1), -1, 0)
    s = (weight * covariance + PSEUDO_VOXELS * norms.typical_covariance) / (weight + PSEUDO_VOXELS)
    w = d / np.diagonal(s, axis1=1, axis2=2)
    w /= np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", w, s, w), _LEAST_VARIANCE))[:, None]
    offset = (w * m).sum(axis=1, keepdims=True)
    filters = np.concatenate([w, offset], axis=1).T
    return norms.lattice.field(filters.reshape(k + 1, *norms.lattice.shape))


def _shifts(healthy: Reference, norms: Norms, shift: Shift) -> Float64:
    """How a change moves the latents of the healthy voxels near each node: (d, X, Y, Z)."""
    step = max(1, -(-len(healthy) // _MOST_SHIFTED))
    number = 0

    def some() -> Iterator[tuple[Float32, Float64]]:
        nonlocal number
        for views in healthy.chunks():
            chosen = np.arange(-number % step, len(views), step)
            number += len(views)
            x = views.x.numpy()[chosen]
            changed = Views(views.network, torch.from_numpy(shift(x)))
            moved = (changed.q_bar - views.q_bar[chosen]).numpy()
            yield views.located.points.numpy()[chosen], moved / norms.spread

    return norms.lattice.mean_near(some())

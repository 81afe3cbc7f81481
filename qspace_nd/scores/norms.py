"""What is normal at a place: healthy people's means and spreads on a lattice in the template.

A person's voxels differ from other people's broadly too: by the receive field, by the gain, by the
whole scan's level. That is the person's *background*, and no lesion: what is left of the difference
from the others' mean at the place when it is smoothed widely, with weights that are the inverse of
the variance there. People differ most where ventricles and cortex end, by how large those are; with
equal weights that would spread into the white matter beside them, where a third as much is
unusual. Views can be had less it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from qspace_nd.arrays import Field, Float32, Float64
from qspace_nd.errors import ModelError
from qspace_nd.scores.views import Background, PointView, Views

if TYPE_CHECKING:
    from qspace_nd.scores.reference import Part

SPACING = 3.0
"""mm between the nodes of the lattice."""

NEAR = 1.5
"""mm: the standard deviation of the Gaussian that voxels count by as lying at a place."""

BROAD = 25.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
"""mm: that of the Gaussian which makes a background; its full width at half maximum is 25 mm."""

CLIP = 2.0
"""Standard deviations at the place beyond which a difference counts no more in a background."""

_MARGIN = 4  # nodes around the outermost voxels
_MOST_NODES = 400  # along an axis: 1.2 m
_FAINT = 0.05  # voxels that the mean over all places counts for, where there is hardly any voxel
_LEAST_VARIANCE = 1e-12  # of what does not vary at all
_LEAST_SHARE = 0.01  # of the typical variance: what a place weighs by where all happen to be alike
_TRUNCATE = 3.0  # standard deviations of a Gaussian
_MOST_ROUGH = 2_000_000  # voxels that the variance is made of by which differences are weighted


@dataclass(frozen=True)
class Lattice:
    """Nodes in the template, `SPACING` apart.

    Attributes
    ----------
    origin : (3,) array
        mm, of the first node: a multiple of the spacing.
    shape : (X, Y, Z)
    """

    origin: Float64
    shape: tuple[int, ...]

    @staticmethod
    def around(points: Iterable[Float32]) -> Lattice:
        """The lattice that holds points, which come in arrays (n, 3), mm.

        Raises
        ------
        ModelError
            They lie farther apart than any head reaches.
        """
        ends = [(some.min(axis=0), some.max(axis=0)) for some in points if len(some)]
        low = np.floor(np.min([end[0] for end in ends], axis=0) / SPACING) - _MARGIN
        high = np.ceil(np.max([end[1] for end in ends], axis=0) / SPACING) + _MARGIN
        if not (high - low).max() <= _MOST_NODES:
            raise ModelError(
                f"Places of healthy voxels lie {SPACING * (high - low).max():.3g} mm apart, "
                f"which no head reaches; fit the model again."
            )
        return Lattice(low * SPACING, tuple(int(n) for n in high - low + 1))

    def sums(self, points: Float32, values: Float64) -> Float64:
        """Sums of values (n, K) over the points (n, 3) that each node is the nearest to.

        (K, X, Y, Z); points beyond the lattice count at its border.
        """
        found = np.rint((points - self.origin) / SPACING).astype(np.intp)
        found = np.clip(found, 0, np.array(self.shape) - 1)
        nodes, size = np.ravel_multi_index(tuple(found.T), self.shape), math.prod(self.shape)
        sums = [np.bincount(nodes, column, size) for column in values.T]
        return np.asarray(np.stack(sums).reshape(-1, *self.shape), np.float64)

    def mean_near(self, pieces: Iterable[tuple[Float32, Float64]], width: float = NEAR) -> Float64:
        """The mean of values (n, K) of points (n, 3), in pieces, near each node: (K, X, Y, Z).

        Near by a Gaussian of `width` mm; where there are hardly any, it is the mean of all.
        """
        total = np.zeros(())
        for points, values in pieces:
            total = total + self.sums(points, _counted(values))
        whole = total.reshape(len(total), -1, 1, 1).sum(axis=1, keepdims=True)
        number, *sums = _smoothed(total, width) + _FAINT * whole / whole[0]
        return np.asarray(np.stack(sums) / number)

    def field(self, values: Float64) -> Field:
        """Maps (K, X, Y, Z) as a field in the template."""
        affine = np.diag([SPACING, SPACING, SPACING, 1.0])
        affine[:3, 3] = self.origin
        return Field(values.astype(np.float32), affine)


class Norms:
    """What a view of healthy voxels is like at each place, when people's backgrounds are off.

    A subject's background is taken from the differences to the mean of all *others*. With one
    subject there are no others, and nothing is known of how people differ.

    Parameters
    ----------
    parts : sequence of Part
        Healthy voxels that have places.
    view : PointView
        "features" or "q_bar", of K numbers.
    weights : tuple of K float, optional
        Of the features, see `Background`.

    Attributes
    ----------
    lattice : Lattice
    backgrounds : list of Field (K)
        Of each part.
    weight : (X, Y, Z) array
        How many healthy voxels lie near each node, those further away counting less.
    spread : (K,) array
        Standard deviation about the mean at a place, less the backgrounds: that of all voxels.
    mean, covariance : (K, X, Y, Z) array, (K, K, X, Y, Z) array
        Of the voxels near each node, less the backgrounds, by `spread`.
    typical_covariance : (K, K) array
        The mean over all voxels.
    """

    def __init__(
        self, parts: Sequence[Part], view: PointView, weights: tuple[float, ...] = (1.0,)
    ) -> None:
        self._view = view
        self._weights = weights
        self.lattice = Lattice.around(
            views.located.points.numpy() for views in chain.from_iterable(map(_pieces, parts))
        )
        everyone = self._sums(parts)
        self._everyone = _Level.of(everyone, self.lattice)
        self._precision: Field | None = None
        # First with equal weights, of some voxels; then by the variance that those leave, of all.
        for step in (max(1, sum(map(len, parts)) // _MOST_ROUGH), 1):
            self.backgrounds = list(self._backgrounds(parts, everyone, step))
            self._sum_up(parts, step)
            if self._precision is None:
                precision = 1.0 / np.maximum(self._variance(), _LEAST_SHARE)
                self._precision = self.lattice.field(precision)

    def background_of(self, voxels: Views) -> Field:
        """The background (K) of a person who is none of the healthy ones."""
        return self._background([voxels], self._everyone)

    def deviations(self, voxels: Views) -> Float32:
        """How far a view of voxels lies above the healthy mean at their place: (n, K).

        In standard deviations of the healthy voxels there, people's backgrounds off; negative
        where it lies below.
        """
        points = voxels.located.points.numpy()
        spread = np.sqrt(self._variance())
        rest = voxels.rest(self._view).numpy() - self.lattice.field(self.mean).at(points)
        return np.asarray(rest / self.lattice.field(spread).at(points))

    def less(self, background: Field) -> Background:
        """What is taken off a person's voxels, and what the rest is divided by: `spread`."""
        return Background(background, self.spread.astype(np.float32), self._weights)

    def _sums(self, parts: Iterable[Part]) -> Float64:
        """Number, sums and sums of squares of voxels at each node: (1 + 2 K, X, Y, Z)."""
        return self._total(
            chain.from_iterable(map(_pieces, parts)),
            lambda points, values: np.concatenate([values, values**2], axis=1),
        )

    def _variance(self) -> Float64:
        """That of the voxels near each node, less the backgrounds, by `spread`: (K, X, Y, Z)."""
        variance = np.diagonal(self.covariance, axis1=0, axis2=1)
        return np.asarray(np.maximum(np.moveaxis(variance, -1, 0), _LEAST_VARIANCE))

    def _backgrounds(self, parts: Sequence[Part], everyone: Float64, step: int) -> Iterator[Field]:
        """The background of each part, against all others."""
        subjects = {part.subject for part in parts}
        others: dict[str, _Level] = {}
        for part in parts:
            if len(subjects) > 1 and part.subject not in others:
                own = self._sums([one for one in parts if one.subject == part.subject])
                others = {part.subject: _Level.of(everyone - own, self.lattice)}  # the last alone
            level = others.get(part.subject, self._everyone)
            yield self._background(_pieces(part), level, step)

    def _background(self, pieces: Iterable[Views], others: _Level, step: int = 1) -> Field:
        def weighted(points: Float32, values: Float64) -> Float64:
            most = CLIP * others.spread.at(points)
            difference = np.clip(values - others.mean.at(points), -most, most)
            if self._precision is None:
                return np.concatenate([np.ones_like(difference), difference], axis=1)
            weight = self._precision.at(points)
            return np.concatenate([weight, weight * difference], axis=1)

        total = self._total(pieces, weighted, step)
        weights, sums = np.split(_smoothed(total[1:], BROAD), 2)
        typical = total[1 : 1 + len(weights)].sum(axis=(1, 2, 3)) / total[0].sum()
        return self.lattice.field(sums / (weights + _FAINT * typical[:, None, None, None]))

    def _sum_up(self, parts: Sequence[Part], step: int) -> None:
        """Sum up what is left of all voxels when their backgrounds are off."""
        backgrounds = chain.from_iterable(
            [background] * sum(1 for _ in part.pieces())
            for part, background in zip(parts, self.backgrounds, strict=True)
        )

        def moments(points: Float32, values: Float64) -> Float64:
            left = values - next(backgrounds).at(points)
            first, second = np.triu_indices(left.shape[1])
            return np.concatenate([left, left[:, first] * left[:, second]], axis=1)

        total = self._total(chain.from_iterable(map(_pieces, parts)), moments, step)
        whole = total.reshape(len(total), -1, 1, 1).sum(axis=1, keepdims=True)
        near = _smoothed(total, NEAR)
        self.weight = near[0]
        mean, covariance = _moments_of(near + _FAINT * whole / whole[0])
        typical = np.einsum("ijxyz,xyz->ij", covariance, total[0] / whole[0])
        self.spread = np.sqrt(np.maximum(np.diagonal(typical), _LEAST_VARIANCE))
        unit = self.spread[:, None, None, None]
        self.mean = mean / unit
        self.covariance = covariance / (unit * unit[:, None])
        self.typical_covariance = typical / np.outer(self.spread, self.spread)

    def _total(
        self, pieces: Iterable[Views], of: Callable[[Float32, Float64], Float64], step: int = 1
    ) -> Float64:
        """Number of voxels at each node, and sums of what is made `of` their places and values.

        Of every `step`-th voxel of a piece.
        """
        total = np.zeros(())
        for views in pieces:
            points = views.located.points.numpy()[::step]
            made = of(points, views.point(self._view).numpy()[::step].astype(np.float64))
            total = total + self.lattice.sums(points, _counted(made))
        return total


@dataclass(frozen=True)
class _Level:
    """Means and standard deviations (K) of voxels near each place."""

    mean: Field
    spread: Field

    @staticmethod
    def of(sums: Float64, lattice: Lattice) -> _Level:
        """From numbers, sums and sums of squares (1 + 2 K, X, Y, Z) at the nodes."""
        whole = sums.reshape(len(sums), -1).sum(axis=1)[:, None, None, None]
        number, *rest = _smoothed(sums, NEAR)
        means = (np.stack(rest) + _FAINT * whole[1:] / whole[0]) / (number + _FAINT)
        first, second = np.split(means, 2)
        spread = np.sqrt(np.maximum(second - first**2, 0.0))
        return _Level(lattice.field(first), lattice.field(spread))


def _moments_of(sums: Float64) -> tuple[Float64, Float64]:
    """Mean (K, ...) and covariance (K, K, ...) by numbers, sums and sums of products."""
    number, *rest = sums
    means = np.stack(rest) / number
    k = next(k for k in range(1, len(means)) if k + k * (k + 1) // 2 == len(means))
    first, second = np.triu_indices(k)
    covariance = np.empty((k, k, *number.shape))
    covariance[first, second] = means[k:] - means[first] * means[second]
    covariance[second, first] = covariance[first, second]
    return means[:k], covariance


def _counted(values: Float64) -> Float64:
    """Values (n, K) behind a column of ones: (n, 1 + K)."""
    return np.concatenate([np.ones((len(values), 1)), values], axis=1)


def _pieces(part: Part) -> Iterator[Views]:
    return (piece.views for piece in part.pieces())


def _smoothed(values: Float64, width: float) -> Float64:
    """Sums over nodes near each (K, X, Y, Z), weighted by a Gaussian of `width` mm, 1 at 0."""
    from scipy import ndimage

    sigma = width / SPACING
    reach = round(_TRUNCATE * sigma)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    for axis in (1, 2, 3):
        values = ndimage.correlate1d(values, taps, axis=axis, mode="constant")
    return values

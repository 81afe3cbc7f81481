"""Making the maps of people comparable: smoothed, and brought to the level of healthy people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from qspace_nd.arrays import Bools, Float32, Float64
from qspace_nd.calibration.null import HealthyMap, Null
from qspace_nd.errors import ArrayError
from qspace_nd.imaging.smoothing import smooth_inside

FWHM = 4.0
"""mm that a map is smoothed by: a lesion is larger than a voxel, and noise is not."""

BULK = (0.5, 0.9)
"""Quantiles of a map that make its level.

A scan's gain and motion move its whole map, and lesions hardly change these two: they take less
than a tenth of a brain.
"""


@dataclass(frozen=True)
class Level:
    """Where the bulk of a map lies: its novelty at the quantiles `BULK`."""

    middle: float
    high: float

    @staticmethod
    def of(novelty: Float32) -> Level:
        """The level of a map (n,)."""
        middle, high = np.quantile(novelty, BULK)
        return Level(float(middle), float(high))

    def bring(self, novelty: Float32, own: Level) -> Float32:
        """Shift and stretch a map (n,) of the level `own` to this one."""
        stretch = self._spread / own._spread
        return np.asarray(self.middle + (novelty - own.middle) * stretch, np.float32)

    def take(self, novelty: Float32, mask: Bools, affine: Float64) -> tuple[Float32, float]:
        """Smooth a map (n,) of the voxels of a mask (X, Y, Z), and bring it to this level.

        Returns
        -------
        (n,) array, float
            The map; and how far it lay above this level before (`height`).
        """
        smoothed = _smooth(novelty, mask, affine)
        own = Level.of(smoothed)
        return self.bring(smoothed, own), self.height(own)

    def height(self, own: Level) -> float:
        """How far the median of a map of the level `own` lies above this one.

        In units of this one's spread, from median to 90th percentile: novelty has no zero point
        that means something, and is below 0 by some scores.
        """
        return (own.middle - self.middle) / self._spread

    @property
    def _spread(self) -> float:
        return (self.high - self.middle) or 1.0  # of a map that is the same everywhere


class Comparable:
    """Healthy people's maps as they are compared with, and a patient's as it is to be.

    Parameters
    ----------
    maps : sequence of HealthyMap
        As they were found, with their images.

    Raises
    ------
    ArrayError
        It is not known where their voxels lie.
    """

    def __init__(self, maps: Sequence[HealthyMap]) -> None:
        smoothed = [replace(one, novelty=_smooth(one.novelty, *_image(one))) for one in maps]
        levels = [Level.of(one.novelty) for one in smoothed]
        self.level = Level(*np.mean([(one.middle, one.high) for one in levels], axis=0).tolist())
        self.heights = tuple(self.level.height(own) for own in levels)
        """How far each healthy map lies above the mean of them (`Level.height`)."""
        self._maps = [
            replace(one, novelty=self.level.bring(one.novelty, own))
            for one, own in zip(smoothed, levels, strict=True)
        ]

    @cached_property
    def null(self) -> Null:
        """The null of the maps as they are compared."""
        return Null(self._maps)

    def bring(self, novelty: Float32, mask: Bools, affine: Float64) -> tuple[Float32, float]:
        """Make a map (n,) of the voxels of a mask (X, Y, Z) comparable.

        Returns
        -------
        (n,) array, float
            The map; and how far it lay above healthy people's before (`Level.height`).
        """
        return self.level.take(novelty, mask, affine)


def _smooth(novelty: Float32, mask: Bools, affine: Float64) -> Float32:
    volume = np.zeros(mask.shape, np.float32)
    volume[mask] = novelty
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return smooth_inside(volume, mask, sizes, FWHM)[mask]


def _image(one: HealthyMap) -> tuple[Bools, Float64]:
    if one.mask is None or one.affine is None:
        raise ArrayError("Maps are compared where it is known where their voxels lie.")
    return one.mask, one.affine

"""Short names for arrays of one type, whose shapes stand in the docstrings; maps on a lattice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Ints = NDArray[np.intp]
"""Whole numbers that say where something lies in an array."""


def squarable(numbers: int) -> float:
    """The largest size of so many numbers that float32 holds squared distances between."""
    return float(np.sqrt(np.finfo(np.float32).max / numbers) / 2)


@dataclass(frozen=True)
class Field:
    """Maps on a lattice in the world frame, interpolated linearly.

    Attributes
    ----------
    values : array (K, X, Y, Z)
    affine : array (4, 4)
        From lattice indices to mm.
    """

    values: Float32
    affine: Float64

    def at(self, points: Float32) -> Float32:
        """The maps at `points` (..., 3) in mm: (..., K); beyond the lattice its border goes on."""
        from scipy import ndimage

        inverse = np.linalg.inv(self.affine).astype(np.float32)
        indices = np.moveaxis(points @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
        result = np.empty((*points.shape[:-1], len(self.values)), np.float32)
        for k, values in enumerate(self.values):
            ndimage.map_coordinates(values, indices, result[..., k], order=1, mode="nearest")
        return result

    def gradient(self) -> Field:
        """The maps' derivatives per mm, on a lattice along the world axes: (3K, X, Y, Z)."""
        spacing = np.diag(self.affine)[:3]
        derivatives = [np.stack(np.gradient(values, *spacing)) for values in self.values]
        return Field(np.concatenate(derivatives).astype(np.float32), self.affine)

    def averaged(self, voxel_size: float) -> Field:
        """Partial volume: every value becomes the mean over a cube of `voxel_size` mm around it."""
        from scipy import ndimage

        values = self.values
        for axis, spacing in enumerate(np.linalg.norm(self.affine[:3, :3], axis=0), start=1):
            taps = _box(max(voxel_size / spacing, 1.0))
            values = ndimage.correlate1d(values, taps, axis=axis, mode="constant")
        return Field(values, self.affine)


def _box(width: float) -> Float64:
    """The taps of a mean over `width` samples, an odd number of them, the outer ones in part."""
    reach = math.ceil((width - 1) / 2)
    offsets = np.abs(np.arange(-reach, reach + 1))
    return np.asarray(np.clip(width / 2 + 0.5 - offsets, 0, 1) / width)

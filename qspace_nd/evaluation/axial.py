"""Axial slices of volumes in any orientation: which are shown, and how they lie on the page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from qspace_nd.arrays import Bools, Float64, Ints
from qspace_nd.imaging.anatomy import MARGIN

MOST = 9
"""Slices that are shown at most."""


@dataclass(frozen=True, eq=False)
class AxialSlices:
    """Some slices of a grid across its axis that is nearest to the body's, cropped to the mask.

    The axes of arrays are put in the order and sense of the closest world axes, and voxels are
    drawn as they are: nothing is interpolated, so that no value is shown which no voxel has.

    Attributes
    ----------
    orientation : (3, 2) array
        Of each array axis, the closest world axis and its sense.
    indices : tuple of int
        The slices in the reoriented array, from the feet up.
    heights : tuple of float
        World z of the middle of each, in mm.
    crop : (slice, slice)
        In reoriented x and y.
    extent : (left, right, bottom, top)
        mm, as imshow takes it.
    tilt : float
        By how many degrees the slices are turned out of the world's axial plane.
    """

    orientation: Float64
    indices: tuple[int, ...]
    heights: tuple[float, ...]
    crop: tuple[slice, slice]
    extent: tuple[float, float, float, float]
    tilt: float

    @classmethod
    def of(cls, affine: Float64, mask: Bools, interest: Float64) -> AxialSlices:
        """Choose slices of the mask (X, Y, Z).

        `MOST` of them at most, one of each as large a part of the brain: the one that is of the
        most `interest` (X, Y, Z), a slice's being the sum over its voxels; the middle one where
        none is of any. Of neighbours one alone is chosen.
        """
        orientation = io_orientation(affine)
        to_world = affine @ inv_ornt_aff(orientation, mask.shape)  # of reoriented indices
        mask, interest = (apply_orientation(one, orientation) for one in (mask, interest))
        indices = _choose(mask.sum(axis=(0, 1)).astype(np.float64), interest.sum(axis=(0, 1)))
        x, y = (np.flatnonzero(mask.sum(axis=axes)) for axes in ((1, 2), (0, 2)))
        sizes = voxel_sizes(to_world)
        crop = (_bounds(x, sizes[0]), _bounds(y, sizes[1]))
        columns, rows = mask[:, :, 0][crop].shape  # a margin stops at the border of the image
        middle = [(one[0] + one[-1]) / 2 for one in (x, y)]
        heights = [float(to_world[2] @ [*middle, index, 1]) for index in indices]
        return cls(
            orientation=orientation,
            indices=tuple(indices),
            heights=tuple(heights),
            crop=crop,
            extent=(0.0, float(columns * sizes[0]), 0.0, float(rows * sizes[1])),
            tilt=_tilt(to_world),
        )

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of a slice, in mm."""
        return self.extent[1], self.extent[3]

    def planes(self, array: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Give each slice of `array` (X, Y, Z) as (rows, columns) of an image.

        The front is up and the patient's right on the left, as radiologists have it.
        """
        turned = apply_orientation(array, self.orientation)
        for index in self.indices:
            yield turned[:, :, index][self.crop].T[::-1, ::-1]


def _choose(voxels: Float64, interest: Float64) -> list[int]:
    """Choose slices, of which so many `voxels` (Z,) are in the mask and so much interest."""
    slices = np.flatnonzero(voxels)
    parts = np.split(slices, _borders(voxels[slices], min(MOST, len(slices))))
    apart = len(slices) // (2 * MOST)  # one lesion is not shown twice beside the border of parts
    chosen: list[int] = []
    for part in sorted(parts, key=lambda part: -interest[part].max()):
        free = [index for index in part if all(abs(index - one) > apart for one in chosen)]
        best = max(free or part, key=lambda index: interest[index])
        chosen.append(int(best if interest[best] > 0 else part[len(part) // 2]))
    return sorted(chosen)


def _borders(voxels: Float64, parts: int) -> list[int]:
    """Where to split slices into parts of about as many voxels, each of one slice at least."""
    shares = np.cumsum(voxels) / voxels.sum()
    borders = [0]
    for part in range(1, parts):
        wanted = int(np.searchsorted(shares, part / parts)) + 1
        borders.append(min(max(wanted, borders[-1] + 1), len(voxels) - parts + part))
    return borders[1:]


def _bounds(inside: Ints, size: float) -> slice:
    """Span the places along an axis of voxels of `size` mm that are inside, and a margin."""
    margin = math.ceil(MARGIN / size)
    return slice(max(0, int(inside[0]) - margin), int(inside[-1]) + 1 + margin)


def _tilt(to_world: Float64) -> float:
    normal = np.cross(to_world[:3, 0], to_world[:3, 1])
    return math.degrees(math.acos(min(1.0, abs(normal[2]) / float(np.linalg.norm(normal)))))

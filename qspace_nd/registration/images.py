"""What of a scan is registered, on a coarse lattice: anisotropy, or a channel of a stack."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qspace_nd.arrays import Bools, Float32, Float64
from qspace_nd.errors import ArrayError

SPACING = 3.0
"""mm between the nodes of the lattices that registration works on."""

_MARGIN = 12.0  # mm around the brain, where the scan has so much
_BRIGHTEST = 5.0  # times the median: fluid; more is noise, fat or a hot voxel
_LEAST_EXTENT = 24.0  # mm
_FWHM = math.sqrt(8 * math.log(2))  # of a Gaussian, in standard deviations


@dataclass(frozen=True, eq=False)
class Images:
    """What is registered of a scan, and what else goes with it.

    The lattice has the scan's own axes, in the order and sense of the closest world axes, and ends
    where the scan ends: what lies beyond was not seen, and is not taken for the air around a head.

    Attributes
    ----------
    values : array (M, X, Y, Z) float32
        What is registered first: fractional anisotropy, and the signal at b=0 over its median in
        the brain; or a channel of a stack alone. 0 outside the brain.
    mask : array (X, Y, Z) bool
        The brain.
    affine : array (4, 4)
        From the lattice's indices to mm in the world.
    """

    values: Float32
    mask: Bools
    affine: Float64

    @property
    def registered(self) -> Float32:
        """What is registered, (X, Y, Z)."""
        return np.asarray(self.values[0])


def shown_of(features: Float32) -> Float32:
    """What is registered of a scan with a tensor, and what goes with it: (n, 2), see `Images`.

    Of the features (n, 3) that `diffusion.tensor.tissue_features` gives.
    """
    unweighted = np.exp(features[:, 0] - np.median(features[:, 0]))
    return np.stack([features[:, 2], np.minimum(unweighted, _BRIGHTEST)], axis=1)


def images_of(shown: Float32, mask: Bools, affine: Float64) -> Images:
    """Put what is registered of a scan's voxels on a lattice, whatever the voxels' size.

    Finer scans are smoothed to the lattice's resolution, coarser ones are interpolated.

    Parameters
    ----------
    shown : array (n, M)
        The values of `Images`, 0 for what looks like nothing.
    mask : array (X, Y, Z) bool
        The n voxels that they are of, in C order.
    affine : array (4, 4)
        From the scan's voxel indices to mm in the world.

    Raises
    ------
    ArrayError
        The shapes do not belong together, a value is not finite, or the brain is less than 24 mm
        in a direction.
    """
    _require(shown, mask)
    values = np.zeros((shown.shape[1] + 1, *mask.shape), np.float32)
    values[:-1, mask] = shown.T
    values[-1, mask] = 1.0
    values, affine = _upright(values, affine)
    values, affine = _cropped(values, affine)
    values, affine = _resampled(values, affine)
    brain = values[-1] >= 0.5
    return Images(np.where(brain, values[:-1], 0), brain, affine)


def moved(points: NDArray[Any], affine: NDArray[Any]) -> Float64:
    """Apply an affine (4, 4) to points (..., 3)."""
    return np.asarray(points @ affine[:3, :3].T + affine[:3, 3])


def interpolated(values: NDArray[Any], affine: Float64, points: NDArray[Any]) -> Float32:
    """Interpolate values (K, X, Y, Z) of a lattice at points (n, 3) of its world: (K, n).

    Beyond the lattice they are not a number.
    """
    from scipy import ndimage

    indices = moved(points, np.linalg.inv(affine)).T
    result = np.empty((len(values), len(points)), np.float32)
    for one, into in zip(values, result, strict=True):
        ndimage.map_coordinates(one, indices, into, order=1, cval=np.nan)
    return result


def _require(shown: Float32, mask: Bools) -> None:
    voxels = np.count_nonzero(mask)
    if not (shown.ndim == 2 and len(shown) == voxels > 0 and mask.ndim == 3):
        raise ArrayError(
            f"What is registered has the shape {shown.shape} and the mask {mask.shape} holds "
            f"{voxels} voxels; expected (n, M) and a mask (X, Y, Z) of n voxels."
        )
    if not np.isfinite(shown).all():
        raise ArrayError("A value to register by is not finite; give finite ones.")


def _upright(values: Float32, affine: Float64) -> tuple[Float32, Float64]:
    """Put the axes of (K, X, Y, Z) in the order and sense of the closest world axes."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    orientation = io_orientation(affine)
    turned = [apply_orientation(one, orientation) for one in values]
    return np.stack(turned), affine @ inv_ornt_aff(orientation, values.shape[1:])


def _cropped(values: Float32, affine: Float64) -> tuple[Float32, Float64]:
    """Cut to the brain, the last of the values, and a margin."""
    from scipy import ndimage

    (box,) = ndimage.find_objects(values[-1].astype(np.uint8))
    sizes = _sizes(affine)
    margins = [math.ceil(_MARGIN / size) for size in sizes]
    extents = [(side.stop - side.start) * size for side, size in zip(box, sizes, strict=True)]
    if min(extents) < _LEAST_EXTENT:
        raise ArrayError(
            f"Its brain is {min(extents):.0f} mm from end to end in one direction; expected "
            f"{_LEAST_EXTENT:.0f} mm or more to register it by."
        )
    starts = [max(0, side.start - margin) for side, margin in zip(box, margins, strict=True)]
    stops = [side.stop + margin for side, margin in zip(box, margins, strict=True)]
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ starts
    return values[:, *map(slice, starts, stops)], affine


def _resampled(values: Float32, affine: Float64) -> tuple[Float32, Float64]:
    """Put values (K, X, Y, Z) on nodes `SPACING` apart that span all voxels."""
    from scipy import ndimage

    sizes = _sizes(affine)
    shape = np.array(values.shape[1:])
    nodes = np.ceil((shape - 1) * sizes / SPACING - 1e-6).astype(int) + 1
    step = SPACING / sizes  # in voxels
    start = ((shape - 1) - (nodes - 1) * step) / 2  # the lattice's middle is the scan's
    blur = np.sqrt(np.maximum(SPACING**2 - sizes**2, 0)) / _FWHM / sizes
    result = np.empty((len(values), *nodes), np.float32)
    for one, node in zip(values, result, strict=True):
        smooth = ndimage.gaussian_filter(one, blur, mode="nearest")
        ndimage.affine_transform(smooth, step, start, node.shape, node, order=1, mode="nearest")
    to_voxels = np.diag([*step, 1.0])
    to_voxels[:3, 3] = start
    return result, affine @ to_voxels


def _sizes(affine: NDArray[np.floating[Any]]) -> Float64:
    """The lengths of a lattice's steps in mm."""
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))

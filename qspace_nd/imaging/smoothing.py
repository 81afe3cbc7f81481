"""Smoothing a novelty map inside its mask."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from qspace_nd.arrays import Bools, Float32, Float64

_STD_PER_FWHM = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))


def smooth_inside(
    volume: Float32,
    mask: Bools,
    voxel_sizes: Float64,
    fwhm: float,
) -> Float32:
    """Average a volume (X, Y, Z) with Gaussian weights over the mask's voxels alone.

    Normalised convolution (Knutsson & Westin, CVPR 1993): what lies outside the mask has weight 0,
    so that the map does not fade towards the brain's edge.

    Parameters
    ----------
    volume : (X, Y, Z) array
    mask : (X, Y, Z) bool array
    voxel_sizes : (3,) array
        mm.
    fwhm : float
        Full width of the Gaussian at half of its maximum, in mm.

    Returns
    -------
    (X, Y, Z) array
        0 outside the mask.
    """
    width = fwhm * _STD_PER_FWHM / voxel_sizes
    weight = ndimage.gaussian_filter(mask.astype(np.float64), width, mode="constant")
    total = ndimage.gaussian_filter(
        np.where(mask, volume, 0.0).astype(np.float64), width, mode="constant"
    )
    smooth = np.zeros(volume.shape, np.float32)
    smooth[mask] = total[mask] / weight[mask]
    return smooth

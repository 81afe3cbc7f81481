"""Bringing a mask from one voxel grid onto another that lies in the same space."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from qspace_nd.arrays import Bools
from qspace_nd.imaging.grid import Grid

_HALF = 0.5 + 1e-6  # a voxel that lies just between two is not marked, however that is rounded


def resample_mask(mask: Bools, grid: Grid, onto: Grid) -> Bools:
    """Resample a mask by the two headers: nothing is registered.

    The mask, as an image of 0 and 1, is interpolated linearly at the centres of the other grid's
    voxels; what comes out is how probable it is that a centre is marked, and the voxel is where
    that is more probable than that it is not. Beyond the mask's image nothing is marked.

    Parameters
    ----------
    mask : (X, Y, Z) bool ndarray
    grid : Grid
        The mask's.
    onto : Grid
        Of the shape (X', Y', Z').

    Returns
    -------
    (X', Y', Z') bool ndarray
    """
    from nibabel.processing import resample_from_to

    image = nib.Nifti1Image(mask.astype(np.float64), grid.affine)
    there = resample_from_to(image, (onto.shape, onto.affine), order=1, mode="constant", cval=0.0)
    return np.asarray(there.dataobj) > _HALF

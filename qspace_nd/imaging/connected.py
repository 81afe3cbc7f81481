"""Voxels that are connected: what lesions and clusters of a map are."""

from __future__ import annotations

import numpy as np

from qspace_nd.arrays import Bools, Ints

LEAST_VOXELS = 5
"""Voxels that a cluster has at least; smaller ones are taken for noise."""

_NEIGHBOURS = np.ones((3, 3, 3), np.bool_)  # 26: voxels that share a face, an edge or a corner


def connected(inside: Bools, least: int = LEAST_VOXELS) -> tuple[Ints, int]:
    """Number the connected parts of `inside`, from 1; those of fewer than `least` voxels are out.

    Parameters
    ----------
    inside : (X, Y, Z) bool array
    least : int
        1 for all parts.

    Returns
    -------
    numbers : (X, Y, Z) array
        0 where there is no part.
    count : int
        How many parts there are.
    """
    from scipy import ndimage

    parts, count = ndimage.label(inside, _NEIGHBOURS)
    kept = np.bincount(parts.ravel(), minlength=count + 1) >= least
    kept[0] = False
    numbers = np.cumsum(kept) * kept
    return numbers[parts], int(kept.sum())


def with_rim(inside: Bools) -> Bools:
    """The voxels of `inside`, and all their neighbours."""
    from scipy import ndimage

    return np.asarray(ndimage.binary_dilation(inside, _NEIGHBOURS), np.bool_)

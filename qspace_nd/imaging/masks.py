"""Brain masks: read from a file, or computed where there is none."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qspace_nd.arrays import Bools
from qspace_nd.errors import ScanError
from qspace_nd.imaging.grid import Grid, require_same_grid
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.imaging.streams import Stored
from qspace_nd.imaging.zero_one import ZeroOne, read_as_zero_one

_OTSU_WIDTH = 6.0  # mm: wider medians cut the cortex off, narrower ones let the eyes in
_OTSU_RADIUS = 4  # voxels: DIPY's own, and as much as its median filter does in reasonable time


def read_mask(path: Path, grid: Grid) -> ZeroOne:
    """Read a mask on `grid`: 0 and 1, any other number, labels, or probabilities, cut at half.

    Raises
    ------
    ScanError
        It cannot be read as a volume, is empty, or cannot be told for a mask.
    GridError
        It lies on another grid; the message says both.
    """
    values, found = read_volume(path)
    require_same_grid(path, found, grid)
    mask = read_as_zero_one(path, values, "brain", ScanError)
    if not mask.marked.any():
        raise ScanError(
            f"{path} is an empty mask: no voxel is above 0.5 (the largest value is "
            f"{np.nanmax(values, initial=0):.3g}); expected 1 inside the brain and 0 outside: name "
            f"another mask."
        )
    return mask


def compute_mask(
    stored: Stored, volumes: Sequence[npt.NDArray[Any]], shown: Bools, grid: Grid
) -> Bools:
    """Find the brain, (X, Y, Z) bool, by `dipy.segment.mask.median_otsu`.

    Parameters
    ----------
    stored : Stored
        How the file stores the volumes.
    volumes : sequence of C flat arrays (X*Y*Z,)
        As `stored.volumes` gives them.
    shown : (C,) bool array
        The volumes whose mean shows the brain.
    grid : Grid

    Raises
    ------
    ScanError
        No brain is found.
    """
    from dipy.segment.mask import median_otsu

    mean = np.zeros(volumes[0].shape, np.float64)
    for volume in itertools.compress(volumes, shown):
        mean += np.nan_to_num(stored.scaled(volume), posinf=0.0, neginf=0.0)
    mean /= np.count_nonzero(shown)
    head = np.maximum(mean, 0.0).reshape(grid.shape, order="F")
    widest = int(np.rint(_OTSU_WIDTH / grid.voxel_sizes.mean()))
    radius = min(max(widest, 1), _OTSU_RADIUS)
    mask = np.zeros(head.shape, np.bool_)
    if np.ptp(head) > 0:
        _, mask = median_otsu(head, median_radius=radius, numpass=4, finalize_mask=True)
    if not mask.any():
        raise ScanError(
            f"{stored.path} has no brain mask beside it, and median_otsu finds no brain in "
            "it; expected a mask named X_mask.nii.gz: put one there, or name it with --mask."
        )
    return np.asarray(mask, np.bool_)


def warning_of(path: Path, mask: Bools) -> str:
    """What is said of a mask that was computed for the scan at `path`."""
    return (
        f"{path} has no brain mask beside it: one of {np.count_nonzero(mask)} voxels was computed "
        "with median_otsu; look at it before you rely on it."
    )

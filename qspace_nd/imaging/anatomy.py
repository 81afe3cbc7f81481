"""What a map is shown on: one volume of the scan that it was made of, near the brain alone."""

from __future__ import annotations

from itertools import islice

import numpy as np
from scipy import ndimage

from qspace_nd.arrays import Bools, Float32, Float64
from qspace_nd.imaging.nifti import load, stored_in
from qspace_nd.imaging.scans import Scan

MARGIN = 4.0
"""How far around the brain (mm) a scan is shown: beyond lies the face."""


def read_anatomy(scan: Scan) -> Float32:
    """Read the first b=0 volume (X, Y, Z) of a scan, without b-values the first channel.

    The file is read no further than that volume.

    Raises
    ------
    ScanError
        The file ends before it or is corrupt.
    """
    number = 0 if scan.gradients is None else int(scan.gradients.b0.argmax())
    stored = stored_in(load(scan.files.image), scan.files.image)
    volume = next(islice(stored.volumes(), number, None))
    return stored.scaled(volume).reshape(scan.grid.shape, order="F")


def near(mask: Bools, voxel_sizes: Float64) -> Bools:
    """Give the voxels (X, Y, Z) that are at most `MARGIN` from those of a mask."""
    if mask.all():
        return mask
    away = ndimage.distance_transform_edt(~mask, sampling=voxel_sizes)
    return np.asarray(away <= max(MARGIN, 1.01 * float(np.min(voxel_sizes))))

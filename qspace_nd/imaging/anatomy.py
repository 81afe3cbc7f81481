"""What a map is shown on: the anatomy of the scan that it was made of, near the brain alone."""

from __future__ import annotations

from itertools import islice

import numpy as np
from scipy import ndimage

from qspace_nd.arrays import Bools, Float32, Float64
from qspace_nd.diffusion.tensor import has_tensor, tissue_features
from qspace_nd.imaging.nifti import load, stored_in
from qspace_nd.imaging.scans import Scan
from qspace_nd.imaging.streams import gather
from qspace_nd.imaging.unchanged import require_unchanged

MARGIN = 4.0
"""How far around the brain (mm) a scan is shown: beyond lies the face."""

B0, MEAN, FA = "b=0", "mean of channels", "FA"
"""What underlays are called."""


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


def read_underlays(scan: Scan, mask: Bools, around: Bools) -> dict[str, Float32]:
    """Read what shows the anatomy of a scan, by name, as volumes (X, Y, Z).

    The mean volume at b=0 (or of all channels, where there are no b-values) near the brain, 0
    elsewhere; and the fractional anisotropy in the brain, where a tensor can be fitted.

    Raises
    ------
    ScanError
        The scan cannot be read.
    """
    stored, table = stored_in(load(scan.files.image), scan.files.image), scan.gradients
    b0 = np.zeros(scan.channels, np.bool_) if table is None else table.b0
    values, _, _ = gather(stored, stored.volumes(), around, np.arange(scan.channels), b0)
    require_unchanged(scan.states)
    np.nan_to_num(values, copy=False, posinf=0.0, neginf=0.0)
    shown = b0 if b0.any() else ~b0
    found = {B0 if b0.any() else MEAN: _filled(around, values[:, shown].mean(axis=1))}
    if table is not None and has_tensor(table):
        own = values[mask[around]]
        found[FA] = _filled(mask, tissue_features(own, table)[:, 2])
    return found


def _filled(where: Bools, values: Float32) -> Float32:
    volume = np.zeros(where.shape, np.float32)
    volume[where] = values
    return volume

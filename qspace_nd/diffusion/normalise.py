"""The paper's normalisation: each scan by its mean, then each channel by its healthy mean."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from qspace_nd.arrays import Float32


def divide_by_scan_mean(values: Float32) -> None:
    """Divide a scan's voxels (n, C), in place, by the mean over all voxels and channels."""
    values /= np.float32(values.mean(dtype=np.float64))


def channel_means(scans: Iterable[Float32]) -> Float32:
    """Mean of each channel over all voxels of the healthy `scans`, each (n, C): (C,)."""
    total, voxels = np.zeros(1), 0
    for scan in scans:
        total = total + scan.sum(axis=0, dtype=np.float64)
        voxels += len(scan)
    return np.asarray(total / voxels, dtype=np.float32)


def divide_by_channel_means(values: Float32, means: Float32) -> None:
    """Divide a scan's voxels (n, C), in place, by the healthy channel `means` (C,)."""
    values /= means

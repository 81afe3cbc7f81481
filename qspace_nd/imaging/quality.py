"""What the voxels of a scan must be like, and what is said of those that are left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qspace_nd.arrays import Bools, Float32, Ints
from qspace_nd.diffusion.gradients import NAMED
from qspace_nd.errors import ScanError, listed

_ROWS_AT_ONCE = 4096


def nonfinite(path: Path, values: Float32, finite: Bools) -> ScanError:
    """Give the error for voxels that are not `finite` (n,)."""
    wrong = values[~finite]
    return ScanError(
        f"{path} has {np.count_nonzero(~np.isfinite(wrong))} NaN or infinite values in {len(wrong)}"
        f" of the {len(finite)} voxels of its mask; expected finite numbers: mend them, or leave "
        "these voxels out with --ignore-nonfinite."
    )


def require_signal(path: Path, values: Float32, order: Ints) -> tuple[str, ...]:
    """Check that there are voxels, that every channel varies and that the mean is positive.

    Returns
    -------
    tuple of str
        How many values are negative, if any.

    Raises
    ------
    ScanError
        One of these fails; `order` (C,) says which volume of the file each channel is.
    """
    if not len(values):
        raise ScanError(
            f"{path} has no voxel with signal inside its mask; expected positive b=0 values: check "
            "that the mask belongs to the scan."
        )
    constant = np.flatnonzero(~_varies(values))
    if len(constant):
        named = listed([f"{order[i]} (always {values[0, i]:g})" for i in constant], NAMED)
        raise ScanError(
            f"{path} has volumes that are constant over its mask: {named} (counted from 0); "
            "expected signal in every volume: mend or remove them."
        )
    if values.min() >= 0:  # so the mean of what varies is positive
        return ()
    mean = values.mean(dtype=np.float64)
    if mean <= 0:
        raise ScanError(
            f"{path} has a mean of {mean:.4g} over its mask; expected a positive one, as each scan "
            "is divided by it: check that its signal was not centred or inverted."
        )
    negative = np.count_nonzero(values < 0)
    return (
        f"{path}: {negative} values inside its mask ({100 * negative / values.size:.2g} %) are "
        "negative, as denoising and interpolation leave them; they are kept.",
    )


def left_out(path: Path, finite: Bools, signal: Bools) -> Iterator[str]:
    """Say how many voxels are left out, not `finite` (n,) or without `signal` (n,)."""
    infinite = np.count_nonzero(~finite)
    empty = np.count_nonzero(finite & ~signal)
    if infinite:
        yield (
            f"{path}: {infinite} of the {len(finite)} voxels of its mask are left out, as they "
            "hold NaN or infinite values."
        )
    if empty:
        yield (
            f"{path}: {empty} of the {len(finite)} voxels of its mask are left out, as they have "
            "no signal (b=0 at or below 0, or every volume 0)."
        )


def _varies(values: Float32) -> Bools:
    """Tell which channels (C,) are not the same in all rows, from as few as tell it."""
    varies = np.zeros(values.shape[1], np.bool_)
    for start in range(0, len(values), _ROWS_AT_ONCE):
        varies |= (values[start : start + _ROWS_AT_ONCE] != values[0]).any(axis=0)
        if varies.all():
            break
    return varies

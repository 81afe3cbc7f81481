"""What the voxels of a scan must be like, and what is said of those that are left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qspace_nd.errors import ScanError

Bools = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

_ROWS_AT_ONCE = 4096
_ROWS_ABREAST = 16


def has_signal(values: Float32, b0: Ints) -> Bools:
    """Tell which voxels (n,) have a positive mean over the channels of b=0.

    Where there are no such channels, those that are not 0 in every channel.
    """
    if not len(b0):
        return np.asarray(values.any(axis=1))
    with np.errstate(invalid="ignore"):
        return np.asarray(values[:, b0].mean(axis=1, dtype=np.float64) > 0)


def nonfinite(path: Path, values: Float32, finite: Bools) -> ScanError:
    """Give the error for voxels that are not `finite` (n,)."""
    wrong = values[~finite]
    return ScanError(
        f"{path} has {np.count_nonzero(~np.isfinite(wrong))} NaN or infinite values in {len(wrong)}"
        f" of the {len(finite)} voxels of its mask; expected finite numbers: mend them, or leave "
        "these voxels out with --ignore-nonfinite."
    )


def require_signal(path: Path, values: Float32, order: Ints) -> None:
    """Check that there are voxels, that every channel varies and that the mean is positive.

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
    least, most, mean = _summary(values)
    constant = np.flatnonzero(least == most)
    if len(constant):
        named = ", ".join(f"{order[i]} (always {least[i]:g})" for i in constant[:5])
        more = f" and {len(constant) - 5} more" if len(constant) > 5 else ""
        raise ScanError(
            f"{path} has volumes that are constant over its mask: {named}{more} (counted from 0); "
            "expected signal in every volume: mend or remove them."
        )
    if mean <= 0:
        raise ScanError(
            f"{path} has a mean of {mean:.4g} over its mask; expected a positive one, as each scan "
            "is divided by it: check that its signal was not centred or inverted."
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


def _summary(values: Float32) -> tuple[Float32, Float32, float]:
    """Give the least and the greatest value of each channel, (C,), and the mean over all.

    Blocks stay in the cache, and rows are taken side by side, as the channels of one are few.
    """
    channels = values.shape[1]
    least, most, total = values[0].copy(), values[0].copy(), 0.0
    for start in range(0, len(values), _ROWS_AT_ONCE):
        block = values[start : start + _ROWS_AT_ONCE]
        abreast = _ROWS_ABREAST if len(block) % _ROWS_ABREAST == 0 else 1
        wide = block.reshape(-1, abreast * channels)
        least = np.minimum(least, wide.min(axis=0).reshape(-1, channels).min(axis=0))
        most = np.maximum(most, wide.max(axis=0).reshape(-1, channels).max(axis=0))
        total += float(wide.sum(dtype=np.float64))
    return least, most, total / values.size


def negative_values(path: Path, values: Float32) -> Iterator[str]:
    """Say how many values are negative, if any."""
    if values.min(initial=0.0) >= 0:
        return
    negative = np.count_nonzero(values < 0)
    if negative:
        yield (
            f"{path}: {negative} values inside its mask ({100 * negative / values.size:.2g} %) are "
            "negative, as denoising and interpolation leave them; they are kept."
        )

"""Voxels so bright that they carry the scan's mean, which every voxel is divided by."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qspace_nd.arrays import Bools, Float32, Float64, Ints, squarable
from qspace_nd.errors import ScanError, counted, listed

# Root mean squares over the volumes, as multiples of the median over the voxels. In 13 real scans
# of 7 people on 5 scanners the brightest voxel has 2.1 to 6.9, and the brightest 0.1 % of voxels
# carry 0.15 to 0.37 % of the scan's sum and 0.4 to 1.3 % of its sum of squares.
_BRIGHT = 20.0
# Of the scan's sum of squares. One value that carries half of it, of 2,016 voxels in 23 volumes,
# takes the correlation of the map with the right one from 1 to 0.997; three times that value
# to 0.97; ten times to 0.85.
_CARRIED = 0.5
_FEW = 0.05  # of the voxels: where more are bright, as in a mask of air, the 95th percentile serves
_MEDIAN_ROWS = 20_000  # that the median is found on
_ROWS_AT_ONCE = 1 << 14
_NAMED = 3


def require_even(path: Path, values: Float32, mask: Bools, order: Ints) -> tuple[str, ...]:
    """Check that no few voxels carry the scan.

    Parameters
    ----------
    path : Path
        Of the scan.
    values : (n, C) float32 ndarray
        Finite.
    mask : (X, Y, Z) bool ndarray
        Where they lie.
    order : (C,) ndarray
        Which volume of the file each channel is.

    Returns
    -------
    tuple of str
        What is said of bright voxels that carry less.

    Raises
    ------
    ScanError
        Bright voxels, 5 % of all at most, carry half of the sum of squares; or most voxels have
        values whose squares float32 cannot hold.
    """
    if not len(values):
        return ()
    largest = max(float(values.max()), -float(values.min()))
    median = np.median(_squares(values[:: -(-len(values) // _MEDIAN_ROWS)]))
    notes: tuple[str, ...] = ()
    if largest**2 > _BRIGHT**2 * median:  # or else no voxel can be so bright
        notes = _bright_voxels(path, values, mask, order, float(median))
    if largest > squarable(values.shape[1]):
        raise ScanError(
            f"{path} has values of up to {largest:.4g}, whose squares are beyond single precision; "
            f"expected signal of ordinary size: scale it."
        )
    return notes


def _bright_voxels(
    path: Path, values: Float32, mask: Bools, order: Ints, median: float
) -> tuple[str, ...]:
    squares = np.concatenate(
        [_squares(values[i : i + _ROWS_AT_ONCE]) for i in range(0, len(values), _ROWS_AT_ONCE)]
    )
    bright, usual = np.flatnonzero(squares > _BRIGHT**2 * median), "the median"
    if len(bright) > max(1, _FEW * len(values)):
        most = np.quantile(squares, 1 - _FEW, method="lower")
        bright, usual = np.flatnonzero(squares > _BRIGHT**2 * most), "95 % of them"
    if not len(bright):
        return ()
    carried = squares[bright].sum() / squares.sum()
    bright = bright[np.argsort(-squares[bright], kind="stable")]
    where = np.argwhere(mask)[bright[:_NAMED]].tolist()
    channels = np.abs(values[bright[:_NAMED]]).argmax(axis=1)
    named = [
        f"({', '.join(map(str, place))}) with {values[row, channel]:.4g} in volume {order[channel]}"
        for place, row, channel in zip(where, bright, channels, strict=False)
    ]
    rest = [""] * (len(bright) - len(named))
    found = (
        f"{path} has {counted(len(bright), 'voxel')} in its mask more than {_BRIGHT:g} times as "
        f"bright as {usual}: {listed([*named, *rest], _NAMED)} (counted from 0)"
    )
    if carried < _CARRIED:
        return (f"{found}; look at whether they are signal.",)
    raise ScanError(
        f"{found}, with {100 * carried:.3g} % of the scan's sum of squares; expected no few voxels "
        "to carry the scan, which is divided by its mean: mend them, or leave them out of the mask."
    )


def _squares(values: Float32) -> Float64:
    """The mean square over the channels of each voxel, (n,)."""
    numbers = values.astype(np.float64)
    return np.asarray(np.einsum("ij,ij->i", numbers, numbers) / values.shape[1])

"""Images that should hold 0 and 1, and what they hold instead: probabilities, labels, percent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qspace_nd.arrays import Bools, Float32
from qspace_nd.errors import InputError, counted, listed

_NEARLY = 1e-3  # of 1: what scaling and resampling leave of whole numbers
_OVERSHOOT = 0.5  # below 0 and above 1, by splines through steps from 0 to 1
_SCALES = (100.0, 255.0)  # of probabilities in percent, or in a byte
_FEW = 8  # labels; of more, they may be probabilities in whole numbers


@dataclass(frozen=True, eq=False)
class ZeroOne:
    """What an image marks.

    Attributes
    ----------
    marked : (X, Y, Z) bool ndarray
    labels : tuple of int
        The values that mark, where they are whole numbers.
    notes : tuple of str
        What a user should know of how it was read.
    """

    marked: Bools
    labels: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def read_as_zero_one(
    path: Path, values: Float32, marks: str, error: type[InputError] = InputError
) -> ZeroOne:
    """Tell which voxels an image marks: 0 and any one number, labels, or probabilities.

    Parameters
    ----------
    path : Path
        Of the image.
    values : (X, Y, Z) float32 ndarray
        NaN marks nothing.
    marks : str
        What is marked, for messages: "brain".
    error : type
        What is raised.

    Raises
    ------
    InputError
        What the values stand for cannot be told.
    """
    values = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
    low, top = float(values.min()), float(values.max())
    advice = f"give a file of 1 in the {marks} and 0 elsewhere"
    if not np.isfinite([low, top]).all():
        raise error(f"{path} holds infinite values; expected 0 and 1: {advice}.")
    zero = np.abs(values) <= _NEARLY * min(1.0, max(top, -low))
    whole = bool((np.abs(values - np.rint(values)) <= _NEARLY).all()) and top >= 1
    if top <= 0 and whole | zero.all():
        return ZeroOne(np.zeros(values.shape, np.bool_))
    if not (values[~zero] - top < -_NEARLY * top).any() and top > 0:  # one value beside 0
        odd = not whole
        note = f"{path} holds 0 and {top:.3g}; voxels of {top:.3g} are taken as {marks}."
        return ZeroOne(~zero, (int(np.rint(top)),), (note,) if odd else ())
    if whole and low >= -_NEARLY:
        found = _labels(path, values, marks)
    else:
        found = _probabilities(path, values, low, top, marks)
    if found is None:
        raise error(
            f"{path} holds values from {low:.4g} to {top:.4g} that are neither 0 and 1, nor "
            f"labels, nor probabilities, so that what is {marks} cannot be told: {advice}."
        )
    return found


def _labels(path: Path, values: Float32, marks: str) -> ZeroOne | None:
    """Read whole numbers: labels, where they lie in patches, or probabilities of that scale."""
    labels, counts = np.unique(np.rint(values[values > 0.5]).astype(np.int64), return_counts=True)
    if len(labels) > _FEW and not _in_patches(values):
        return _scaled(path, values, float(labels[-1]), marks)
    named = listed(
        [f"{label} ({counted(n, 'voxel')})" for label, n in zip(labels, counts, strict=True)]
    )
    note = f"{path} holds the labels {named}; all of them are taken as {marks}."
    return ZeroOne(values > 0.5, tuple(map(int, labels)), (note,))


def _probabilities(
    path: Path, values: Float32, low: float, top: float, marks: str
) -> ZeroOne | None:
    if top > 1 + _OVERSHOOT:
        return _scaled(path, values, top, marks)
    if low < -_OVERSHOOT:
        return None
    between = int(np.count_nonzero((values > _NEARLY) & (np.abs(values - 1) > _NEARLY)))
    return ZeroOne(
        values > 0.5,
        notes=(
            f"{path} holds values other than 0 and 1 in {counted(between, 'voxel')}, as "
            f"probabilities and resampling give them, up to {top:.3g}; those above 0.5 are taken "
            f"as {marks}.",
        ),
    )


def _scaled(path: Path, values: Float32, top: float, marks: str) -> ZeroOne | None:
    """Read probabilities in percent or in a byte, where much of what they mark is nearly sure.

    Images of tissue end at such values too, but few of their voxels are nearly as bright.
    """
    for scale in _SCALES:
        high = np.count_nonzero(values > 0.9 * scale)
        if abs(top - scale) < 0.02 * scale and 3 * high >= np.count_nonzero(values > scale / 2):
            note = (
                f"{path} holds values from 0 to {top:.4g}, as probabilities in parts of "
                f"{scale:g}; those above {scale / 2:g} are taken as {marks}."
            )
            return ZeroOne(values > scale / 2, notes=(note,))
    return None


def _in_patches(values: Float32) -> bool:
    """Tell whether neighbours are mostly alike, those apart that have the largest value."""
    alike = pairs = 0
    top = values.max()
    for axis in range(3):
        ends = np.moveaxis(values, axis, 0)
        one, other = ends[1:], ends[:-1]
        both = (one > 0.5) & (other > 0.5) & ~((one == top) & (other == top))
        pairs += int(both.sum())
        alike += int((both & (one == other)).sum())
    return 2 * alike >= pairs

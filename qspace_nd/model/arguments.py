"""What users hand to a model: checked, and made rows of float32."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse

from qspace_nd.arrays import Float32, squarable
from qspace_nd.errors import ArrayError
from qspace_nd.model.rows import Healthy


def as_numbers(values: ArrayLike, name: str) -> Float32:
    """Check vectors (n, C) or images (n, K, H, W), called `name`, and return them as float32.

    What is C-contiguous float32 and may be written to is returned as it is, without a copy.

    Raises
    ------
    ArrayError
        They are of another shape, no numbers, not finite, or too large to be squared.
    """
    if issparse(values):
        raise ArrayError(f"{name} is sparse, which is not supported; give {name}.toarray().")
    try:
        given = np.asarray(values)
        if given.dtype.kind not in "biufO":  # NumPy would read text, and drop imaginary parts
            raise TypeError(f"it holds {given.dtype.name} values")
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite below
            # Copied where it is read-only, as a memory map may be: PyTorch warns of such memory.
            x = np.require(given, np.float32, ["C", "W", "E"])
    except (TypeError, ValueError) as error:
        raise ArrayError(f"{name} is not an array of numbers ({error}); give numbers.") from None
    if x.ndim not in (2, 4) or 0 in x.shape[1:]:
        raise ArrayError(
            f"{name} has shape {x.shape}; an array of rows and columns is wanted, or one of images "
            f"(n, planes, height, width)."
        )
    nonfinite = int((~np.isfinite(x.reshape(len(x), math.prod(x.shape[1:])))).any(axis=1).sum())
    if nonfinite:
        raise ArrayError(
            f"{name} holds NaN or infinity in {nonfinite} of {len(x)} rows; remove them."
        )
    largest = max(float(x.max(initial=0)), -float(x.min(initial=0)))
    if largest > squarable(math.prod(x.shape[1:])):
        raise ArrayError(
            f"{name} holds values of up to {largest:.4g}, whose squares are beyond single "
            f"precision; scale it."
        )
    return x


def as_rows(values: ArrayLike, name: str, shape: tuple[int, ...], what: str) -> Float32:
    """Check vectors or images and return them as rows (n, C) of float32.

    Parameters
    ----------
    values : array
        What was given.
    name : str
        What it is called in a message.
    shape : tuple of int
        Of one row as the model was fitted: (C,) or (K, H, W).
    what : str
        What columns are.

    Raises
    ------
    ArrayError
        See `as_numbers`; or rows have another shape.
    """
    x = as_numbers(values, name)
    if x.shape[1:] == shape:
        return x.reshape(len(x), math.prod(shape))
    if x.ndim == 2 and len(shape) == 1:
        found, expected = f"{x.shape[1]} columns", f"{shape[0]} {what}"
    else:
        found, expected = f"shape {x.shape}", f"inputs of shape {shape}"
    raise ArrayError(f"{name} has {found}; the model was fitted with {expected}.")


def require_neighbours(number: int, voxels: int) -> None:
    """Check that the mean to so many neighbours can be taken among the healthy voxels there are.

    Raises
    ------
    ArrayError
        There are fewer.
    """
    if number > voxels:
        raise ArrayError(
            f"neighbours is {number:,}, but the healthy reference has {voxels:,} voxels; take at "
            f"most as many, or leave neighbours out."
        )


def by_subject(x: Float32, groups: ArrayLike | None) -> list[Healthy]:
    """Rows (n, C) by their subject, in the order in which subjects come first.

    Without `groups`, one label a row, all are of one.

    Raises
    ------
    ArrayError
        There are not as many labels as rows.
    """
    if groups is None:
        return [Healthy("reference", x)]
    labels = np.asarray(groups)
    if labels.shape != (len(x),):
        raise ArrayError(f"groups has shape {labels.shape}; one label for each of {len(x)} rows.")
    # Rows of one subject lie together in scans: they are taken run by run.
    starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    runs: dict[str, list[Float32]] = {}
    for start, run in zip(starts, np.split(x, starts[1:]), strict=True):
        runs.setdefault(str(labels[start]), []).append(run)
    return [
        Healthy(subject, own[0] if len(own) == 1 else np.concatenate(own))
        for subject, own in runs.items()
    ]

"""Short names for arrays of one type; their shapes stand in the docstrings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Ints = NDArray[np.intp]
"""Whole numbers that say where something lies in an array."""


def squarable(numbers: int) -> float:
    """The largest size of so many numbers that float32 holds squared distances between."""
    return float(np.sqrt(np.finfo(np.float32).max / numbers) / 2)

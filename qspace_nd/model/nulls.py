"""What a model keeps of its healthy people's own maps, as arrays by name; and where they lie.

<i>.novelty    of each voxel of the i-th scan, by a score (`Measured`)
<i>.mask       where these lie in the scan: bits of (X, Y, Z) in C order
<i>.shape      (X, Y, Z)
<i>.affine     from its voxel indices to mm
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qspace_nd.arrays import Bools, Float32, Float64
from qspace_nd.calibration.null import HealthyMap
from qspace_nd.errors import ModelError

Arrays = Mapping[str, NDArray[Any]]
"""Arrays by their names."""

_MOST = 4096  # voxels along an axis


@dataclass(frozen=True)
class Measured:
    """What healthy people's maps were made by, and a patient's must be, to be compared.

    Attributes
    ----------
    score : str
    neighbours : int
        The nearest healthy voxels that distances are the mean to.
    toward : str or None
        The change that is looked for, where the score looks for one.
    """

    score: str
    neighbours: int
    toward: str | None = None


class OnDemand(Mapping[Measured, Arrays]):
    """Arrays by what was measured, each read when it is first looked at.

    Parameters
    ----------
    readers : mapping of Measured to callable
        Give the arrays.
    """

    def __init__(self, readers: Mapping[Measured, Callable[[], Arrays]] | None = None) -> None:
        self._readers = dict(readers or {})

    def __getitem__(self, measured: Measured) -> Arrays:
        arrays = self._readers[measured]()
        self._readers[measured] = partial(_held, arrays)  # which can be pickled
        return arrays

    def __iter__(self) -> Iterator[Measured]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def __or__(self, more: Mapping[Measured, Arrays]) -> OnDemand:
        """The same and more, which takes the place of what is there of the same."""
        known = {measured: partial(more.__getitem__, measured) for measured in more}
        return OnDemand({**self._readers, **known})


def _held(arrays: Arrays) -> Arrays:
    return arrays


def grid_arrays(grids: Sequence[tuple[Bools, Float64]], first: int = 0) -> dict[str, NDArray[Any]]:
    """Give what there is to store of masks (X, Y, Z) and affines (4, 4), of scans from `first`."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, (mask, affine) in enumerate(grids, start=first):
        arrays[f"{number}.mask"] = np.packbits(mask)
        arrays[f"{number}.shape"] = np.array(mask.shape, np.int64)
        arrays[f"{number}.affine"] = np.asarray(affine, np.float64)
    return arrays


def null_arrays(novelties: Sequence[Float32]) -> dict[str, NDArray[Any]]:
    """Give what there is to store of the novelty (n,) of each scan."""
    return {f"{number}.novelty": one for number, one in enumerate(novelties)}


def healthy_maps(
    null: Arrays, grids: Arrays | None, people: Sequence[tuple[str, int]]
) -> list[HealthyMap]:
    """Read the maps of healthy scans, of each of which the subject and the voxels are known.

    Raises
    ------
    ModelError
        The arrays are of other scans.
    """
    maps = []
    for number, (subject, count) in enumerate(people):
        novelty = null.get(f"{number}.novelty")
        if novelty is None or novelty.shape != (count,) or novelty.dtype != np.float32:
            raise ModelError(
                "What the model says of its healthy people's own maps does not fit its reference; "
                "calibrate it again (qspace-nd calibrate), or fit it again."
            )
        mask, affine = (None, None) if grids is None else _grid(grids, number, count)
        maps.append(HealthyMap(subject, novelty, mask, affine))
    return maps


def _grid(grids: Arrays, number: int, voxels: int) -> tuple[Bools, Float64]:
    try:
        bits, shape, affine = (grids[f"{number}.{name}"] for name in ("mask", "shape", "affine"))
        sizes = tuple(int(size) for size in shape)
        count = math.prod(sizes)
        if len(sizes) != 3 or not all(0 < size <= _MOST for size in sizes):
            raise ValueError
        if bits.shape != (-(-count // 8),):  # more would be filled up, whatever the memory
            raise ValueError
        mask = np.unpackbits(bits, count=count).astype(bool).reshape(sizes)
        if np.count_nonzero(mask) != voxels or affine.shape != (4, 4):
            raise ValueError
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(
            "Where the model says that its healthy voxels lie does not fit its reference; fit it "
            "again."
        ) from error
    return mask, affine.astype(np.float64)

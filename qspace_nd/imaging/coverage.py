"""Whether a mask covers the head that a scan shows, or a lesion of it alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qspace_nd.arrays import Bools
from qspace_nd.errors import counted
from qspace_nd.imaging.streams import Stored

_LEAST = 0.3  # of the voxels with signal: brain masks of 13 real scans have 0.93 to 1.10 as many


class Coverage:
    """Looks at one volume of a stream, to compare a mask with the head that it shows.

    Parameters
    ----------
    stored : Stored
        How the file stores the volume.
    number : int
        Of the volume: one that shows the brain, of b=0.
    """

    def __init__(self, stored: Stored, number: int) -> None:
        self._stored = stored
        self._number = number
        self._volume: npt.NDArray[Any] | None = None

    def watch(self, volumes: Iterable[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
        """Pass flat volumes on."""
        for number, volume in enumerate(volumes):
            if number == self._number:
                self._volume = volume
            yield volume

    def warnings(self, path: Path, mask: Bools) -> Iterator[str]:
        """Say of the mask at `path`, (X, Y, Z), that it leaves most of the head out, if it does.

        Those voxels have signal that are half as bright as the mask's own, or brighter.
        """
        if self._volume is None or not mask.any():
            return
        volume = self._stored.scaled(self._volume).reshape(mask.shape, order="F")
        level = np.nanmedian(np.where(np.isfinite(volume[mask]), volume[mask], np.nan))
        shown = np.count_nonzero(volume >= level / 2) if level > 0 else 0
        marked = int(mask.sum())
        if marked < _LEAST * shown:
            yield (
                f"{path} marks {counted(marked, 'voxel')}, {100 * marked / shown:.2g} % of those "
                "that have as much signal in the scan, which is divided by its mean in the mask: "
                "if it is the mask of a lesion, or of another part, name one of the brain."
            )

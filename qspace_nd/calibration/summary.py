"""What a patient's map is compared with: all that is needed of healthy people's, and is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qspace_nd.arrays import Bools, Float32, Float64
from qspace_nd.calibration.clusters import HealthyClusters
from qspace_nd.calibration.comparable import Comparable, Level
from qspace_nd.calibration.null import HealthyMap, Shares

COMMON, RARE = 0.01, 0.001
"""Shares of healthy voxels above which a brain is said to have so many."""

PRECISION = 1e-4
"""The part of a share that it may be told higher than it is: -log10 p is lower by 4e-5 at most."""


@dataclass(frozen=True, eq=False)
class Summary:
    """Healthy people's maps by one score, as they are compared with.

    Attributes
    ----------
    level : Level
        That all maps are brought to.
    heights : tuple of float
        How far each healthy map lay above it before.
    shares : Shares
        What share of healthy voxels have as much.
    forming : float
        The healthy share above which voxels form clusters.
    masses : mapping of str to list of arrays
        The masses of each subject's clusters: an array for each scan.
    above : mapping of float to tuple of float
        Of `COMMON` and `RARE`, the share of each subject's voxels above the others' such share.
    """

    level: Level
    heights: tuple[float, ...]
    shares: Shares
    forming: float
    masses: Mapping[str, Sequence[Float64]]
    above: Mapping[float, tuple[float, ...]]

    @staticmethod
    def of(maps: Sequence[HealthyMap], forming: float) -> Summary:
        """Make it of the maps of two people or more, whose images are known.

        Raises
        ------
        ArrayError
            It is not known where the voxels of a map lie.
        """
        comparable = Comparable(maps)
        null = comparable.null
        return Summary(
            comparable.level,
            comparable.heights,
            null.shares.thinned(PRECISION),
            forming,
            HealthyClusters(null, forming).masses,
            {share: tuple(null.shares_above(share).values()) for share in (COMMON, RARE)},
        )

    def bring(self, novelty: Float32, mask: Bools, affine: Float64) -> tuple[Float32, float]:
        """Make a map (n,) of a mask's voxels comparable; and how far it lay above healthy ones."""
        return self.level.take(novelty, mask, affine)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give what there is to store of it, by names."""
        arrays = {
            "level": np.array([self.level.middle, self.level.high]),
            "heights": np.array(self.heights),
            "values": self.shares.values,
            "shares": self.shares.shares,
            "voxels": np.array([self.shares.voxels]),
            "forming": np.array([self.forming]),
            "above": np.array([self.above[share] for share in (COMMON, RARE)]),
        }
        for number, scans in enumerate(self.masses.values()):
            for scan, own in enumerate(scans):
                arrays[f"masses.{number}.{scan}"] = own
        return arrays

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]], subjects: Sequence[str]) -> Summary:
        """Make it of stored arrays, of so many `subjects` in order.

        Raises
        ------
        KeyError, ValueError, TypeError
            They are not those of a summary of them.
        """
        values, shares, above = arrays["values"], arrays["shares"], arrays["above"]
        if values.ndim != 1 or shares.shape != (len(values) + 1,):
            raise ValueError("shares are not those of values")
        if above.shape != (2, len(subjects)):
            raise ValueError("shares are of other people")
        masses: dict[str, list[Float64]] = {}
        for number, subject in enumerate(subjects):
            scans = [name for name in arrays if name.startswith(f"masses.{number}.")]
            masses[subject] = [arrays[f"masses.{number}.{scan}"] for scan in range(len(scans))]
            if not scans:
                raise ValueError("clusters are of other people")
        (voxels,), (forming,) = arrays["voxels"], arrays["forming"]
        return Summary(
            Level(*map(float, arrays["level"])),
            tuple(arrays["heights"].tolist()),
            Shares(values, shares, int(voxels)),
            float(forming),
            masses,
            dict(zip((COMMON, RARE), map(tuple, above.tolist()), strict=True)),
        )

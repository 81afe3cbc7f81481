"""What a picture of a map shows, as arrays, and from where to where its colours go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from qspace_nd.arrays import Bools, Float32, Float64
from qspace_nd.errors import ArrayError, InputError
from qspace_nd.imaging.anatomy import near
from qspace_nd.imaging.connected import connected

_FROM, _TO = 98.0, 99.9  # percentiles of a map that no healthy people's maps say anything of


@dataclass(frozen=True)
class Scale:
    """The values that colours stand for.

    Attributes
    ----------
    low, high : float
        What is above `low` is coloured; from `high` on there is one colour.
    label : str
        What they are, and in which unit.
    ticks : dict of float to str
    """

    low: float
    high: float
    label: str
    ticks: dict[float, str]


@dataclass(frozen=True, eq=False)
class Shown:
    """A novelty map, with what it is shown on and held against: volumes (X, Y, Z) of one grid.

    Attributes
    ----------
    novelty : array
    mask : bool array
        The brain.
    affine : (4, 4) array
        From voxel indices to mm of the world (RAS+).
    share : float
        Voxels are coloured of which fewer healthy ones are as novel than this.
    title : str
        Whose map it is, and of which score.
    neglogp : array, optional
        -log10 of the share of healthy voxels that are as novel, where that is known.
    anatomy : array, optional
        A volume of the scan. What is far from the mask is not shown: it would show the face.
    labels : bool array, optional
        Lesions, to be outlined.
    oriented : bool
        Whether it is known which side is the patient's right.

    Raises
    ------
    ArrayError
        A volume has another shape than the map, the affine is not 4 × 4 and invertible, or the
        mask is empty.
    InputError
        `share` is none.
    """

    novelty: NDArray[np.floating[Any]]
    mask: Bools
    affine: Float64
    share: float
    title: str = ""
    neglogp: NDArray[np.floating[Any]] | None = None
    anatomy: NDArray[np.floating[Any]] | None = None
    labels: Bools | None = None
    oriented: bool = True

    def __post_init__(self) -> None:
        shape = self.novelty.shape
        if len(shape) != 3:
            raise ArrayError(f"The map has the shape {shape}; give a volume (X, Y, Z).")
        for name in ("mask", "neglogp", "anatomy", "labels"):
            other = getattr(self, name)
            if other is not None and other.shape != shape:
                raise ArrayError(
                    f"The {name} has the shape {other.shape} and the map {shape}; give both on one "
                    f"grid."
                )
        affine = self.affine
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.linalg.det(affine):
            found = np.array2string(affine, precision=3, separator=", ")
            raise ArrayError(
                f"The affine is {found}; give an invertible 4 × 4 matrix from voxels to mm."
            )
        if not self.mask.any():
            raise ArrayError("The mask is empty; give one that is true inside the brain.")
        if not 0 < self.share < 1:
            raise InputError(f"share is {self.share}; a share between 0 and 1 is wanted.")

    @property
    def values(self) -> NDArray[np.floating[Any]]:
        """What is coloured: the share of healthy voxels, or else the map itself."""
        return self.novelty if self.neglogp is None else self.neglogp

    def scale(self) -> Scale:
        """From where to where the colours go."""
        if self.neglogp is not None:
            low = -float(np.log10(self.share))
            high = max(4.0, low + 1)
            ticks = [low, *range(int(low) + 1, int(high) + 1)]
            texts = {tick: f"{100 * 10**-tick:.2g} %" for tick in ticks}
            return Scale(low, high, "share of healthy voxels\nthat are as novel", texts)
        inside = self.novelty[self.mask]
        inside = inside[np.isfinite(inside)]
        low, high = np.percentile(inside, [_FROM, _TO]).tolist() if inside.size else (0.0, 1.0)
        high = high if high > low else low + max(1.0, abs(low))
        texts = {value: f"{value:.3g}" for value in (low, high)}
        return Scale(low, high, f"novelty, above the {_FROM:.0f}th\npercentile of this map", texts)

    def coloured(self, low: float) -> Bools:
        """The voxels above `low`."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.mask & (self.values > low))

    def interest(self, scale: Scale) -> Float64:
        """How much each voxel is a reason to show its slice: by its cluster, and as a lesion.

        A voxel of a cluster counts by how far it is above the least that is coloured, times the
        same of its whole cluster, so that slices go through the largest rather than through many.
        Clusters and lesions together are of the same interest.
        """
        coloured = self.coloured(scale.low)
        numbers, count = connected(coloured)
        excess = np.where(coloured, np.minimum(self.values, scale.high) - scale.low, 0.0)
        masses = np.bincount(numbers.ravel(), excess.ravel(), count + 1)
        masses[0] = 0.0
        lesions = np.zeros_like(self.mask) if self.labels is None else self.labels & self.mask
        parts = (excess * masses[numbers], lesions)
        shares = [part / (part.sum() or 1.0) for part in parts]
        return np.asarray(shares[0] + shares[1], np.float64)

    def ground(self) -> Float32:
        """What the map is shown on, from 0, black, to 1, white; the mask where there is no scan."""
        if self.anatomy is None:
            return np.asarray(0.35 * self.mask, np.float32)
        anatomy = np.nan_to_num(self.anatomy, nan=0.0, posinf=0.0, neginf=0.0)
        white = float(np.percentile(anatomy[self.mask], 99.5))
        shown = near(self.mask, np.asarray(voxel_sizes(self.affine)))
        return np.asarray(np.where(shown & (white > 0), anatomy / (white or 1.0), 0.0), np.float32)

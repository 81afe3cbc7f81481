"""Where the voxels of an image lie in the world, and whether two images share their grid."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel import aff2axcodes
from nibabel.affines import apply_affine, obliquity, voxel_sizes

from qspace_nd.arrays import Float64
from qspace_nd.errors import GridError

_TOLERANCE = 0.05  # of the smallest voxel size


@dataclass(frozen=True, eq=False)
class Grid:
    """Where an image's voxels lie in the world, and how its header says so.

    Attributes
    ----------
    shape : (X, Y, Z)
    affine : (4, 4) ndarray
        Voxel to world (RAS+, mm).
    qform_code, sform_code : int
    qform, sform : (4, 4) ndarray or None
        The header's two affines where they are not both `affine`.
    """

    shape: tuple[int, int, int]
    affine: Float64
    qform_code: int = 1
    sform_code: int = 1
    qform: Float64 | None = None
    sform: Float64 | None = None

    @property
    def voxel_sizes(self) -> Float64:
        """(3,) mm."""
        return np.asarray(voxel_sizes(self.affine))

    @property
    def is_oriented(self) -> bool:
        """Whether the header says where the patient's left and right are."""
        return bool(self.qform_code or self.sform_code)

    def describe(self) -> str:
        """Say shape, voxel sizes, orientation and origin in a line."""
        axes = "".join(aff2axcodes(self.affine))
        tilt = np.degrees(obliquity(self.affine)).max()
        oblique = f" tilted by {tilt:.1f}°" if tilt > 0.05 else ""
        return (
            f"{' x '.join(map(str, self.shape))} voxels of "
            f"{' x '.join(f'{size:.3g}' for size in self.voxel_sizes)} mm, axes {axes}{oblique}, "
            f"origin ({', '.join(f'{x:.2f}' for x in self.affine[:3, 3])})"
        )

    def same_as(self, other: Grid) -> bool:
        """Tell whether the shapes are equal and the corners within 5 % of a voxel."""
        if self.shape != other.shape:
            return False
        apart = self.corners_apart(self.affine, other.affine)
        return bool(apart <= _TOLERANCE * self.voxel_sizes.min())

    def corners_apart(self, one: Float64, other: Float64) -> float:
        """How far apart (mm) two affines (4, 4) place a corner at most."""
        ends = [(0, size - 1) for size in self.shape]
        corners = list(itertools.product(*ends))
        return float(np.linalg.norm(apply_affine(one - other, corners), axis=1).max())


def require_same_grid(
    path: Path,
    found: Grid,
    expected: Grid,
    advice: str = "resample it to the scan's grid, or name another file",
    than: object = "the scan",
) -> None:
    """Check that the image at `path` lies on the grid of the scan.

    Parameters
    ----------
    path : Path
    found, expected : Grid
        The image's and the scan's.
    advice : str
        What to do where they differ.
    than : object
        What to call the scan.

    Raises
    ------
    GridError
        It does not; the message says both.
    """
    if not found.same_as(expected):
        raise GridError(
            f"{path} lies on another grid than {than}: found {found.describe()}; expected "
            f"{expected.describe()}: {advice}."
        )

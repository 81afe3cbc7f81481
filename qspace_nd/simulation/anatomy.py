"""What heads are made of: tissue maps, ICBM152's or a person's, and what varies smoothly.

Positions are millimetres in the world frame of the maps. What varies over the head as in everybody
lies in ICBM152 (MNI) space, the common space.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from qspace_nd.arrays import Field, Float32, Float64
from qspace_nd.errors import InputError


@dataclass(frozen=True)
class Anatomy:
    """Tissue and its course: of ICBM152, which subjects of a cohort share, or of one person.

    Attributes
    ----------
    maps : Field (3)
        Fractions of white matter, grey matter and fluid at 1 mm.
    tissues : Field (3)
        Fractions of white matter, grey matter and fluid, averaged over a voxel.
    inward : Field (3)
        Gradient of the smoothed white matter map; it points from the cortex into the depth.
    regions : Field (10)
        How the fibres' directions (3 + 3), their crossing (1), T2 (1), the diffusivity (1) and
        the anisotropy (1) of tissue vary over the head; standard normal, in the common space.
    shape, affine
        The voxel grid of the scans.
    voxel_size : float
        mm.
    common : array (4, 4)
        From the maps' space to the common one.
    own_shape : bool
        The shape is a person's, and not a mean that each subject deforms.
    """

    maps: Field
    tissues: Field
    inward: Field
    regions: Field
    shape: tuple[int, int, int]
    affine: Float64
    voxel_size: float
    common: Float64 = field(default_factory=lambda: np.eye(4))
    own_shape: bool = False

    @classmethod
    @lru_cache(maxsize=2)
    def of_icbm152(cls, voxel_size: float = 3.0) -> Anatomy:
        """Take the ICBM152 tissue maps that nilearn ships, for voxels of `voxel_size` mm.

        The grid is the usual LAS one, with the middle of its box on the middle of the maps'.

        Raises
        ------
        InputError
            The voxel size is not between 1 and 10 mm.
        """
        require_voxel_size(voxel_size)
        return cls.of_maps(icbm152_tissues(), voxel_size)

    @classmethod
    def of_maps(cls, maps: Field, voxel_size: float, common: Float64 | None = None) -> Anatomy:
        """Take tissue maps at 1 mm; of a person, with the affine `common` to ICBM152 space."""
        from scipy import ndimage

        white = ndimage.gaussian_filter(maps.values[0], 5.0)[::2, ::2, ::2]
        halved = maps.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
        shape, affine = _grid_around(maps, voxel_size)
        return cls(
            maps=maps,
            tissues=maps.averaged(voxel_size),
            inward=Field(white[None], halved).gradient(),
            regions=smooth_field(np.random.default_rng(152), 10, length=22.0),
            shape=shape,
            affine=affine,
            voxel_size=voxel_size,
            common=np.eye(4) if common is None else common,
            own_shape=common is not None,
        )

    def points(self) -> Float32:
        """The centres of the voxels in mm: (X, Y, Z, 3)."""
        return lattice_points(self.shape, self.affine)

    def in_common_space(self, points: Float32) -> Float32:
        """Bring points (..., 3) of the maps' space to the common one."""
        affine = self.common.astype(np.float32)
        return np.asarray(points @ affine[:3, :3].T + affine[:3, 3])


def lattice_points(shape: tuple[int, ...], affine: Float64) -> Float32:
    """The positions of a lattice's nodes in mm: (X, Y, Z, 3)."""
    indices = np.moveaxis(np.indices(shape, dtype=np.float32), 0, -1)
    transform = affine.astype(np.float32)
    return np.asarray(indices @ transform[:3, :3].T + transform[:3, 3])


def require_voxel_size(voxel_size: float) -> None:
    """Raise an InputError unless the voxel size is between 1 and 10 mm."""
    if not 1.0 <= voxel_size <= 10.0:
        raise InputError(f"The voxel size is {voxel_size} mm; choose one between 1 and 10 mm.")


# --- maps ---


@lru_cache(maxsize=1)
def icbm152_tissues() -> Field:
    """White matter, grey matter and fluid at 1 mm, cropped to the brain."""
    from nilearn import datasets
    from scipy import ndimage

    images = [
        datasets.load_mni152_wm_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_brain_mask(resolution=1),
    ]
    white, grey, brain = (np.asarray(image.dataobj, dtype=np.float32) for image in images)
    box = ndimage.find_objects((brain > 0).astype(np.uint8))[0]
    maps = np.stack([white, grey, brain])[:, *box] * (brain[box] > 0)
    solid = maps[0] + maps[1]
    maps[:2] /= np.maximum(solid, 1.0)
    maps[2] -= np.minimum(solid, 1.0)
    maps = np.pad(maps, ((0, 0), (6, 6), (6, 6), (6, 6)))
    affine = np.asarray(images[0].affine, dtype=np.float64).copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([axis.start - 6 for axis in box])
    return Field(maps, affine)


def _grid_around(maps: Field, voxel_size: float) -> tuple[tuple[int, int, int], Float64]:
    extent = np.array(maps.values.shape[1:])
    x, y, z = (int(n) for n in np.ceil(extent / voxel_size))
    middle = maps.affine[:3, :3] @ ((extent - 1) / 2) + maps.affine[:3, 3]
    affine = np.diag([-voxel_size, voxel_size, voxel_size, 1.0])
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array([x, y, z]) - 1) / 2)
    return (x, y, z), affine


def smooth_field(rng: np.random.Generator, channels: int, length: float) -> Field:
    """Standard normal maps over the head that vary over `length` mm."""
    from scipy import ndimage

    spacing = length / 2
    low, high = np.array([-110.0, -150.0, -100.0]), np.array([110.0, 110.0, 130.0])
    shape = np.ceil((high - low) / spacing).astype(int) + 1
    white = rng.standard_normal((channels, *shape), np.float32)
    smooth = ndimage.gaussian_filter(white, 1.0, axes=(1, 2, 3), mode="wrap")
    smooth /= smooth.std(axis=(1, 2, 3), keepdims=True)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = low
    return Field(smooth, affine)

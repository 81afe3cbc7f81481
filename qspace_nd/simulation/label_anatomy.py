"""Heads of real people, each in its own space: tissue maps from images of brain labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from qspace_nd.arrays import Bools, Field, Float32, Float64
from qspace_nd.errors import LabelError, listed
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.simulation.anatomy import Anatomy
from qspace_nd.simulation.common_space import affine_to_icbm152, overlap

COARSEST = 3.0
"""The longest edge of a label image's voxels, in mm: beyond, folds cannot be told apart."""
BRAIN_VOLUMES = (400.0, 3000.0)
"""cm³ that the labels of a whole head fill at least and at most."""

LEAST_OVERLAP = 0.6
"""Dice of the white matter with ICBM152's: heads have 0.67 and more, and 0.53 with a wrong axis."""

WHITE, GREY, FLUID = range(3)


def _numbers(*ranges: tuple[int, int]) -> tuple[int, ...]:
    return tuple(chain.from_iterable(range(first, last + 1) for first, last in ranges))


MUSE: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {
        WHITE: (35, 40, 41, 44, 45, 61, 62, 69, *_numbers((81, 95))),
        GREY: _numbers(
            *((23, 23), (30, 32), (36, 39), (47, 48), (55, 60), (71, 73), (75, 76)),
            *((100, 109), (112, 125), (128, 129), (132, 157), (160, 187), (190, 207)),
        ),
        FLUID: (1, 4, 11, 46, *_numbers((49, 52))),
    }
)
"""Which labels of the MUSE atlas, as DLMUSE writes them, are white matter, grey matter, fluid.

DLMUSE gives 1 to what is within the skull and of no region: fluid in furrows and over the cortex.
"""

_CLOSING = 8.0  # mm: half the width of the furrows and clefts that are filled with fluid
_RIM = 2.0  # mm of fluid around the brain
_BLUR = 0.5  # voxels: the standard deviation that makes the tissues' edges soft
_PADDING = 6  # mm around the brain


@lru_cache(maxsize=2)
def anatomy_of(path: Path, voxel_size: float) -> Anatomy:
    """The anatomy of the person whose brain labels an image holds.

    Raises
    ------
    LabelError, ScanError
        See `common_affine`.
    """
    common = common_affine(path)
    return Anatomy.of_maps(tissue_maps(*read_labels(path)), voxel_size, common)


@lru_cache(maxsize=1024)
def common_affine(path: Path) -> Float64:
    """Give the affine (4, 4) from the space of a person's labels to ICBM152's.

    Raises
    ------
    LabelError
        The labels do not fit ICBM152, or see `read_labels`.
    ScanError
        See `read_labels`.
    """
    maps = tissue_maps(*read_labels(path))
    common = affine_to_icbm152(maps)
    shared = overlap(maps, common)
    if shared < LEAST_OVERLAP:
        raise LabelError(
            f"{path} has labels whose white matter fits that of an upright head by "
            f"{100 * shared:.0f} % alone; expected {100 * LEAST_OVERLAP:.0f} % at least: correct "
            "the axes in its header, or take it away."
        )
    return common


def read_labels(path: Path) -> tuple[npt.NDArray[np.uint8], Float64]:
    """Read which tissue each voxel is of.

    Returns
    -------
    array (X, Y, Z) uint8, array (4, 4)
        1 more than `WHITE`, `GREY` or `FLUID`, 0 where nothing is labelled; and the affine.

    Raises
    ------
    LabelError
        The image holds no labels, others than of the MUSE atlas, too coarse voxels, or no head.
    ScanError
        It cannot be read as a volume.
    """
    values, grid = read_volume(path)
    if max(grid.voxel_sizes) > COARSEST * 1.001:
        sizes = " x ".join(f"{size:.3g}" for size in grid.voxel_sizes)
        raise LabelError(
            f"{path} has voxels of {sizes} mm; expected brain labels in voxels of {COARSEST:g} mm "
            "at most, as folds cannot be told apart in larger ones: name another folder."
        )
    tissues = _tissues_of(values, path)
    litres = np.bincount(tissues.ravel(), minlength=4)[1:] * abs(np.linalg.det(grid.affine[:3, :3]))
    for name, tissue in (("white matter", WHITE), ("grey matter", GREY), ("fluid", FLUID)):
        if not litres[tissue]:
            raise LabelError(
                f"{path} has no voxel of {name}; expected labels of a whole brain, as DLMUSE "
                "writes them: take the image away or label it anew."
            )
    volume, (least, most) = litres.sum() / 1000, BRAIN_VOLUMES
    if not least <= volume <= most:
        raise LabelError(
            f"{path} labels {volume:.0f} cm³ of brain; expected a whole one, of {least:g} to "
            f"{most:g} cm³: correct its voxel sizes, or take it away."
        )
    return tissues, np.asarray(grid.affine, np.float64)


def _tissues_of(values: Float32, path: Path) -> npt.NDArray[np.uint8]:
    found = np.unique(values)
    odd = found[~np.isfinite(found) | (found != np.rint(found))]
    if odd.size:
        raise LabelError(
            f"{path} holds values that are no whole numbers, such as {odd[0]:.4g}; expected an "
            "image of brain labels: take it away or label it."
        )
    table = {0: 0} | {label: tissue + 1 for tissue, labels in MUSE.items() for label in labels}
    unknown = [int(label) for label in found if int(label) not in table]
    if unknown:
        raise LabelError(
            f"{path} holds labels that the MUSE atlas does not have ({listed(unknown)}); expected "
            "labels as DLMUSE writes them: label the T1-weighted image with it."
        )
    tissues = np.array([table[int(label)] for label in found], np.uint8)
    return tissues[np.searchsorted(found, values)]


def tissue_maps(tissues: npt.NDArray[np.uint8], affine: Float64) -> Field:
    """White matter, grey matter and fluid at 1 mm, on a lattice along the world's axes.

    What lies between labelled tissue, and a rim around it, is fluid, labelled or not.

    Parameters
    ----------
    tissues : array (X, Y, Z) uint8
        As `read_labels` gives them.
    affine : array (4, 4)
    """
    from scipy import ndimage

    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    margins = np.ceil((_CLOSING + _PADDING) / spacing).astype(int)
    box = ndimage.find_objects((tissues > 0).astype(np.uint8))[0]
    tissues = np.pad(tissues[box], [(margin, margin) for margin in margins])
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (np.array([axis.start for axis in box]) - margins)
    brain = _closed(tissues > 0, spacing)
    tissues[brain & (tissues == 0)] = FLUID + 1
    shape, lattice = _lattice_around(np.argwhere(brain), affine)
    onto = np.linalg.inv(affine) @ lattice
    maps = np.empty((3, *shape), np.float32)
    for tissue in (WHITE, GREY, FLUID):
        soft = ndimage.gaussian_filter((tissues == tissue + 1).astype(np.float32), _BLUR)
        ndimage.affine_transform(soft, onto, output_shape=shape, output=maps[tissue], order=1)
    return Field(maps, lattice)


def _closed(labelled: Bools, spacing: Iterable[float]) -> Bools:
    """The brain with its furrows, and a rim around it."""
    from scipy import ndimage

    sampling = tuple(spacing)
    wide = ndimage.distance_transform_edt(~labelled, sampling=sampling) <= _CLOSING
    closed = ndimage.distance_transform_edt(wide, sampling=sampling) > _CLOSING - _RIM
    return np.asarray(ndimage.binary_fill_holes(closed | labelled), np.bool_)


def _lattice_around(
    voxels: npt.NDArray[np.int64], affine: Float64
) -> tuple[tuple[int, ...], Float64]:
    """Shape and affine of the lattice of 1 mm that holds voxels (n, 3), with a margin."""
    points = voxels @ affine[:3, :3].T + affine[:3, 3]
    low = np.floor(points.min(axis=0)) - _PADDING
    high = np.ceil(points.max(axis=0)) + _PADDING
    lattice = np.eye(4)
    lattice[:3, 3] = low
    return tuple(int(n) for n in high - low + 1), lattice

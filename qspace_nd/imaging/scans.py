"""A scan and what belongs to it, checked by headers and gradient files before a voxel is read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qspace_nd.diffusion.fsl import read_gradients
from qspace_nd.diffusion.gradients import B0_LIMIT, GradientTable
from qspace_nd.errors import ScanError, counted
from qspace_nd.imaging.grid import Grid, require_same_grid
from qspace_nd.imaging.nifti import grid_of, load, shape_text, stored_in, volume_grid
from qspace_nd.imaging.stack import names_told
from qspace_nd.imaging.unchanged import States, states_of
from qspace_nd.layouts.companions import ScanFiles

_FORMS_APART = 0.5  # mm: scanners round the two, one of Philips by 0.25; beyond, one of them errs
_SIZES = 0.02, 50.0  # mm: of a specimen under a microscope to the coarsest phantom


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan whose header, gradients and mask's header are in order.

    Attributes
    ----------
    files : ScanFiles
    grid : Grid
    channels : int
        C, the number of volumes.
    gradients : GradientTable or None
        None where there are no b-values.
    warnings : tuple of str
    states : dict
        Of its files when they were first looked at, for `unchanged.require_unchanged`.
    names : tuple of str
        What the JSON file beside a scan without b-values calls its channels; empty where it says
        nothing.
    """

    files: ScanFiles
    grid: Grid
    channels: int
    gradients: GradientTable | None
    warnings: tuple[str, ...]
    states: States = field(default_factory=dict)
    names: tuple[str, ...] = ()


def open_scan(files: ScanFiles, b0_threshold: float = B0_LIMIT) -> Scan:
    """Check a scan by its header, its gradients and its mask's header; read no voxels.

    b-values up to `b0_threshold` are taken as 0.

    Raises
    ------
    ScanError
        The image is no NIfTI file, not 4-D, has one volume only, or is shorter than it says.
    GridError
        The mask lies on another grid.
    GradientError
        See `read_gradients`.
    """
    states = states_of((files.image, files.bval, files.bvec, files.mask))
    image = load(files.image)
    stored = stored_in(image, files.image)
    _require_four_dimensions(files.image, image.shape)
    grid = grid_of(image, files.image)
    notes = image.notes
    if files.mask is not None:
        mask = load(files.mask)
        require_same_grid(files.mask, volume_grid(mask, files.mask), grid)
        notes += mask.notes
    gradients = None
    if files.bval is not None or files.bvec is not None:
        gradients = read_gradients(
            files.bval, files.bvec, grid.affine, stored.shape[3], b0_threshold
        )
    names = names_told(files.sidecars, stored.shape[3]) if gradients is None else ()
    notes += (*_orientation_warnings(files.image, grid), *_size_warnings(files.image, grid))
    warnings = notes if names else (*notes, *_gradient_warnings(files, gradients))
    return Scan(files, grid, stored.shape[3], gradients, warnings, states, names)


def volumes_in(path: Path) -> int | None:
    """How many volumes an image has by its header; None where it cannot be read."""
    try:
        return math.prod(load(path).shape[3:])
    except ScanError:
        return None


def _require_four_dimensions(path: Path, shape: Sequence[int]) -> None:
    if len(shape) < 4 or (len(shape) == 4 and shape[3] == 1):
        raise ScanError(
            f"{path} has the shape {shape_text(shape)}, a single volume; expected a 4-D scan of "
            "two volumes or more: name the whole scan."
        )
    if len(shape) > 4:
        one = shape[3] == 1
        advice = (
            "drop the others, with `mrconvert -axes 0,1,2,4`"
            if one
            else ("take one series of volumes, with `mrconvert -coord 4 0 -axes 0,1,2,3`")
        )
        raise ScanError(
            f"{path} has the shape {shape_text(shape)}, {len(shape)} dimensions; expected 4 with "
            f"the volumes along the last: {advice} for instance."
        )


def _orientation_warnings(path: Path, grid: Grid) -> Iterator[str]:
    if grid.qform is None and grid.sform is None:
        yield (
            f"{path} has neither a qform nor an sform: its orientation is unknown and taken as "
            f"{grid.describe()}."
        )
    elif grid.qform is not None and grid.sform is not None:
        apart = grid.corners_apart(grid.qform, grid.sform)
        if not apart <= min(_FORMS_APART, 0.5 * grid.voxel_sizes.min()):
            yield (
                f"{path} has a qform unlike its sform; the sform is used, as its code is "
                f"{grid.sform_code} (a corner lies {apart:.3g} mm off by the other): "
                f"{grid.describe()}."
            )


def _size_warnings(path: Path, grid: Grid) -> Iterator[str]:
    least, most = _SIZES
    if not (least <= grid.voxel_sizes.min() and grid.voxel_sizes.max() <= most):
        yield (
            f"{path} has voxels of {' x '.join(f'{size:.3g}' for size in grid.voxel_sizes)} mm by "
            f"its header; expected {least} to {most} mm: if it is of a head, correct its unit of "
            "length (xyzt_units) or its affine."
        )


def _gradient_warnings(files: ScanFiles, gradients: GradientTable | None) -> Iterator[str]:
    if gradients is None:
        yield (
            f"{files.image} HAS NO B-VALUES: there is no .bval and no .bvec file beside it, so its "
            "volumes are taken as plain channels, of which neither b-values nor directions can be "
            "checked; a model of it fits only scans with the same channels in the same order."
        )
        return
    if gradients.along_one_line:
        yield (
            f"{files.bvec} has one direction alone for all {np.count_nonzero(~gradients.b0)} "
            f"weighted volumes of {files.image}; expected directions all around: check that the "
            "file belongs to the scan."
        )
    if gradients.nearly_b0.any():
        low = gradients.bvals[gradients.nearly_b0]
        yield (
            f"{files.image} has no volume at b=0, but {counted(len(low), 'volume')} at b="
            f"{low.min():g} to {low.max():g}, which may be meant as such: b-values up to "
            f"{low.max():g} are taken as 0 with --b0-threshold {low.max():g}."
        )

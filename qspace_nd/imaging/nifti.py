"""NIfTI files: their headers checked, volumes read and written; the one module that opens them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from qspace_nd.arrays import Float32
from qspace_nd.errors import ArrayError, ScanError
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.headers import Header, read_header
from qspace_nd.imaging.streams import Stored
from qspace_nd.system.writing import replacing

_LEAST_VOLUME = 1e-12  # mm³
_FARTHEST = 1e6  # mm: of an affine whose numbers can still be told apart


def read_volume(path: Path) -> tuple[Float32, Grid]:
    """Read a map, mask or label image.

    Returns
    -------
    (X, Y, Z) float32 ndarray, Grid

    Raises
    ------
    ScanError
        It is no NIfTI file, truncated, or not 3-D (a fourth axis of length 1 does no harm).
    """
    image = load(path)
    grid = volume_grid(image, path)
    stored = stored_in(image, path)
    flat = np.concatenate([stored.scaled(volume) for volume in stored.volumes()])
    return np.ascontiguousarray(flat.reshape(grid.shape, order="F")), grid


def read_description(path: Path) -> str:
    """Give the description in an image's header, of up to 79 bytes.

    Raises
    ------
    ScanError
        It is no NIfTI file.
    """
    text: bytes = load(path).fields["descrip"].tobytes()
    return text.rstrip(b"\0").decode("utf-8", "replace")


def write_volume(
    path: Path,
    volume: npt.NDArray[Any],
    grid: Grid,
    description: str = "",
    like: Path | None = None,
    shown: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write a volume (X, Y, Z) as float32, on `grid`; as uint8 of bool, as int32 of whole numbers.

    Viewers open it with the values `shown`, the lowest and the highest, or choose themselves where
    both are 0. The file has the grid's affine with its qform and sform codes; it is whole or
    absent. Who may read it is as for `like`, see `replacing`.

    Raises
    ------
    ArrayError
        `volume` has another shape than the grid.
    WorkError
        The file could not be written.
    """
    kind: type = np.int32 if np.issubdtype(volume.dtype, np.integer) else np.float32
    kind = np.uint8 if volume.dtype == np.bool_ else kind
    _write(path, volume.astype(kind, copy=False), grid, description, like, shown)


def write_scan(path: Path, volumes: npt.NDArray[Any], grid: Grid, description: str = "") -> None:
    """Write a scan (X, Y, Z, C), int16 or else float32, on `grid`.

    Raises
    ------
    ArrayError, WorkError
        See `write_volume`.
    """
    kind = np.int16 if volumes.dtype == np.int16 else np.float32
    _write(path, volumes.astype(kind, copy=False), grid, description)


def load(path: Path) -> Header:
    """Read the header of a NIfTI image.

    Raises
    ------
    ScanError
        There is no such file, it is no NIfTI file, or what its header says cannot be.
    """
    return read_header(path)


def stored_in(image: Header, path: Path) -> Stored:
    """Say where and how the file of an image that was loaded from `path` stores its voxels.

    Raises
    ------
    ScanError
        They are no real numbers, or there are none.
    """
    stored = image.stored
    if stored.dtype.kind not in "iuf":
        raise ScanError(
            f"{path} stores {stored.dtype} (complex numbers or colours); expected integers or "
            "floats: take the magnitude image."
        )
    if 0 in stored.shape:
        raise ScanError(f"{path} has no voxels: its shape is {stored.shape}; name another file.")
    return stored


def grid_of(image: Header, path: Path) -> Grid:
    """Give the grid of an image by its header.

    Raises
    ------
    ScanError
        Its affine places no voxels.
    """
    affine = image.affine
    placed = bool((np.abs(affine) < _FARTHEST).all())  # False where not finite
    if not placed or abs(np.linalg.det(affine[:3, :3])) < _LEAST_VOLUME:
        raise ScanError(
            f"{path} has an affine that places no voxels (not finite, beyond a kilometre, or of "
            "volume 0); expected a voxel-to-world matrix in mm: correct its header."
        )
    qform_code, sform_code = (int(image.fields[name]) for name in ("qform_code", "sform_code"))
    x, y, z = image.shape[:3]
    return Grid((x, y, z), affine, qform_code, sform_code, image.qform, image.sform)


def volume_grid(image: Header, path: Path) -> Grid:
    """Give the grid of an image that is a single volume.

    Raises
    ------
    ScanError
        It is none, or its affine places no voxels.
    """
    if len(image.shape) < 3 or any(size != 1 for size in image.shape[3:]):
        raise ScanError(
            f"{path} has the shape {shape_text(image.shape)}; expected a 3-D image: name a "
            "single volume."
        )
    return grid_of(image, path)


def shape_text(shape: Iterable[int]) -> str:
    """Write a shape as messages do: `5 x 6 x 4`."""
    return " x ".join(map(str, shape))


def _write(
    path: Path,
    array: npt.NDArray[Any],
    grid: Grid,
    description: str,
    like: Path | None = None,
    shown: tuple[float, float] = (0.0, 0.0),
) -> None:
    if array.shape[:3] != grid.shape:
        raise ArrayError(
            f"The array for {path} has the shape {array.shape}; expected {grid.shape}, its grid's."
        )
    header = nib.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_zooms((*grid.voxel_sizes, 1.0)[: array.ndim])
    header.set_xyzt_units("mm")
    header.set_sform(grid.affine if grid.sform is None else grid.sform, grid.sform_code)
    header.set_qform(grid.affine if grid.qform is None else grid.qform, grid.qform_code)
    header["descrip"] = description.encode()[:79]
    header["cal_min"], header["cal_max"] = shown
    # Without an affine of its own the image leaves the header's codes as they were set.
    image = nib.Nifti1Image(array, None, header)
    with replacing(path, like) as temporary:
        image.to_filename(temporary.absolute())  # nibabel would take a ~ in front for a home

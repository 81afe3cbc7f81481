"""Read and write NIfTI: check scans, stream their voxels, write maps on the same grid.

Only this module knows nibabel. A scan is opened (its header, gradients and mask's header are
checked) and then read once from start to end; whatever is wrong with it is an `InputError`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from qspace_nd.arrays import Bools, Float32, Ints
from qspace_nd.diffusion.gradients import GradientTable, read_gradients, world_to_fsl
from qspace_nd.errors import ArrayError, ScanError
from qspace_nd.imaging.grid import Grid, require_same_grid
from qspace_nd.imaging.quality import left_out, nonfinite, require_signal
from qspace_nd.imaging.streams import (
    Stored,
    ahead,
    damaged,
    drain,
    gather,
    hashed,
    is_cut_short,
    keep_rows,
)
from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.progress import SILENT, Progress
from qspace_nd.system.writing import replacing

__all__ = [
    "Grid",
    "Scan",
    "Voxels",
    "open_scan",
    "read_description",
    "read_mask",
    "read_volume",
    "read_voxels",
    "require_same_grid",
    "write_gradients",
    "write_scan",
    "write_volume",
]


_OTSU_WIDTH = 6.0  # mm: wider medians cut the cortex off, narrower ones let the eyes in
_OTSU_RADIUS = 4  # voxels: DIPY's own, and as much as its median filter does in reasonable time


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
    """

    files: ScanFiles
    grid: Grid
    channels: int
    gradients: GradientTable | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Voxels:
    """The signal of a scan inside its mask.

    Attributes
    ----------
    values : (n, C) float32 ndarray
        C-contiguous, as stored: not normalised. The rows follow `mask` in C order.
    mask : (X, Y, Z) bool ndarray
        True at these n voxels.
    scan : Scan
    digest : str
        A hash of the scan's values and shape, the same however it is compressed or scaled.
    computed_mask : bool
        Whether the mask was computed, there being none.
    warnings : tuple of str
    residual : (n,) float32 ndarray or None
        Of a fit in spherical harmonics (`harmonics.ShellFits.residual`), where there was one.
    """

    values: Float32
    mask: Bools
    scan: Scan
    digest: str
    computed_mask: bool
    warnings: tuple[str, ...]
    residual: Float32 | None = None

    def fill(self, scores: npt.ArrayLike) -> Float32:
        """Scatter one score a voxel, (n,), to (X, Y, Z) float32 with 0 outside the mask.

        Raises
        ------
        ArrayError
            There is another number of scores than of voxels.
        """
        scores = np.asarray(scores)
        if scores.shape != (len(self.values),):
            raise ArrayError(
                f"The scores of {self.scan.files.image} have the shape {scores.shape}; expected "
                f"({len(self.values)},), one for each voxel of the mask."
            )
        volume = np.zeros(self.mask.shape, np.float32)
        volume[self.mask] = scores
        return volume


def open_scan(files: ScanFiles) -> Scan:
    """Check a scan by its header, its gradients and its mask's header; read no voxels.

    Raises
    ------
    ScanError
        The image is no NIfTI file, not 4-D, has one volume only, or is shorter than it says.
    GridError
        The mask lies on another grid.
    GradientError
        See `read_gradients`.
    """
    image = _load(files.image)
    stored = _stored(image, files.image)
    _require_four_dimensions(files.image, image.shape)
    grid = _grid(image, files.image)
    if files.mask is not None:
        require_same_grid(files.mask, _volume_grid(_load(files.mask), files.mask), grid)
    gradients = None
    if files.bval is not None or files.bvec is not None:
        gradients = read_gradients(files.bval, files.bvec, grid.affine, stored.shape[3])
    warnings = (*_orientation_warnings(files.image, grid), *_gradient_warnings(files, gradients))
    return Scan(files, grid, stored.shape[3], gradients, warnings)


def read_voxels(
    scan: Scan,
    *,
    order: npt.ArrayLike | None = None,
    ignore_nonfinite: bool = False,
    progress: Progress = SILENT,
) -> Voxels:
    """Read the signal inside the mask, streaming the file once.

    Where the scan has no mask one is computed (`dipy.segment.mask.median_otsu`) on the mean of the
    b=0 volumes, or of all volumes where there are none. Voxels of the mask without signal (b=0 at
    or below 0; without b=0 volumes: 0 in every channel) are left out.

    Parameters
    ----------
    scan : Scan
    order : (C,) array_like of int, optional
        Which volume serves each channel, as `gradients.channel_order` gives it.
    ignore_nonfinite : bool
        Leave voxels with NaN or infinite values out instead of raising.
    progress : Progress

    Raises
    ------
    ScanError
        The file is truncated or corrupt, the mask is empty or no voxel of it has signal, values
        inside it are not finite, a channel is constant over it, or the mean is not positive.
    GridError
        The mask lies on another grid.
    """
    path = scan.files.image
    volumes = _permutation(order, scan)  # of each channel
    stored = _stored(_load(path), path)
    hasher = hashlib.blake2b(repr(stored.shape).encode(), digest_size=16)
    b0 = np.zeros(scan.channels, np.bool_) if scan.gradients is None else scan.gradients.b0
    with (
        progress.task(f"Reading {scan.files.name}", scan.channels) as task,
        ahead(stored.volumes()) as unpacked,  # from here on, while the mask is read
    ):
        given = None if scan.files.mask is None else read_mask(scan.files.mask, scan.grid)
        stream: Iterator[npt.NDArray[Any]] = hashed(stored, unpacked, hasher, task)
        if given is None:
            kept = list(stream)  # as stored, so that the scan is held once and in its own type
            progress.say(f"Computing a brain mask for {path} with median_otsu.")
            mask = _compute_mask(scan, stored, kept, b0 if b0.any() else ~b0)
            stream = drain(kept)
        else:
            mask = given
        values, finite, signal = gather(stored, stream, mask, volumes, b0)
    if not finite.all() and not ignore_nonfinite:
        raise nonfinite(path, values, finite)
    warnings = [*_mask_warnings(scan, mask, given), *left_out(path, finite, signal)]
    values = keep_rows(values, finite & signal)
    mask = _scatter(mask, finite & signal)
    warnings += require_signal(path, values, volumes)
    return Voxels(values, mask, scan, hasher.hexdigest(), given is None, tuple(warnings))


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
    image = _load(path)
    grid = _volume_grid(image, path)
    stored = _stored(image, path)
    flat = np.concatenate([stored.scaled(volume) for volume in stored.volumes()])
    return np.ascontiguousarray(flat.reshape(grid.shape, order="F")), grid


def read_mask(path: Path, grid: Grid) -> Bools:
    """Read a mask on `grid`: (X, Y, Z) bool, True above 0.5 (probabilities are cut there).

    Raises
    ------
    ScanError
        It cannot be read as a volume, or is empty.
    GridError
        It lies on another grid; the message says both.
    """
    values, found = read_volume(path)
    require_same_grid(path, found, grid)
    mask = np.asarray(values > 0.5)  # False where NaN
    if not mask.any():
        raise ScanError(
            f"{path} is an empty mask: no voxel is above 0.5; expected 1 inside the brain and 0 "
            "outside: name another mask."
        )
    return mask


def read_description(path: Path) -> str:
    """Give the description in an image's header, of up to 79 bytes.

    Raises
    ------
    ScanError
        It is no NIfTI file.
    """
    text: bytes = _load(path).header["descrip"].tobytes()
    return text.rstrip(b"\0").decode("utf-8", "replace")


def write_volume(path: Path, volume: npt.NDArray[Any], grid: Grid, description: str = "") -> None:
    """Write a volume (X, Y, Z) as float32, or as uint8 where it is bool, on `grid`.

    The file has the grid's affine with its qform and sform codes; it is whole or absent.

    Raises
    ------
    ArrayError
        `volume` has another shape than the grid.
    WorkError
        The file could not be written.
    """
    kind = np.uint8 if volume.dtype == np.bool_ else np.float32
    _write(path, volume.astype(kind, copy=False), grid, description)


def write_scan(path: Path, volumes: npt.NDArray[Any], grid: Grid, description: str = "") -> None:
    """Write a scan (X, Y, Z, C), int16 or else float32, on `grid`.

    Raises
    ------
    ArrayError, WorkError
        See `write_volume`.
    """
    kind = np.int16 if volumes.dtype == np.int16 else np.float32
    _write(path, volumes.astype(kind, copy=False), grid, description)


def write_gradients(
    bval_path: Path, bvec_path: Path, table: GradientTable, affine: npt.ArrayLike
) -> None:
    """Write a gradient table in FSL's convention for an image of `affine` (4, 4).

    Raises
    ------
    WorkError
        A file could not be written.
    """
    vectors = world_to_fsl(table.directions, affine)
    with replacing(bval_path) as temporary:
        np.savetxt(temporary, table.bvals[None], fmt="%g")
    with replacing(bvec_path) as temporary:
        np.savetxt(temporary, vectors.T.round(6) + 0.0, fmt="%.6f")  # + 0.0: no "-0"


# --- Headers


def _load(path: Path) -> Any:
    try:
        image = nib.load(path)
    except FileNotFoundError as error:
        raise ScanError(f"{path} does not exist; name a file that does.") from error
    except PermissionError as error:
        raise ScanError(f"{path} may not be read; check its permissions.") from error
    except Exception as error:  # whatever a header that is none makes the parser raise
        if is_cut_short(path):
            raise damaged(path, EOFError("it ends inside its header")) from error
        raise _not_nifti(path, str(error)) from error
    if not isinstance(image, nib.Nifti1Image):
        raise _not_nifti(path, f"it is read as {type(image).__name__}")
    return image


def _not_nifti(path: Path, reason: str) -> ScanError:
    return ScanError(
        f"{path} is not a NIfTI file ({reason.rstrip('.')}); expected NIfTI-1 or NIfTI-2: convert "
        "it, with dcm2niix for instance."
    )


def _stored(image: Any, path: Path) -> Stored:
    proxy = image.dataobj
    if proxy.dtype.kind not in "iuf":
        raise ScanError(
            f"{path} stores {proxy.dtype} (complex numbers or colours); expected integers or "
            "floats: take the magnitude image."
        )
    if 0 in proxy.shape:
        raise ScanError(f"{path} has no voxels: its shape is {proxy.shape}; name another file.")
    needed = proxy.offset + int(np.prod(proxy.shape, dtype=object)) * proxy.dtype.itemsize
    if not path.name.lower().endswith(".gz") and path.stat().st_size < needed:
        reason = EOFError(f"it has {path.stat().st_size} bytes where its header needs {needed}")
        raise damaged(path, reason)
    shape = tuple(map(int, proxy.shape))
    return Stored(path, proxy.offset, shape, proxy.dtype, proxy.slope, proxy.inter)


def _grid(image: Any, path: Path) -> Grid:
    affine = np.asarray(image.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ScanError(
            f"{path} has an affine that places no voxels (not finite, or of volume 0); expected a "
            "voxel-to-world matrix: correct its header."
        )
    qform, qform_code = image.header.get_qform(coded=True)
    sform, sform_code = image.header.get_sform(coded=True)
    x, y, z = map(int, image.shape[:3])
    return Grid((x, y, z), affine, int(qform_code), int(sform_code), qform, sform)


def _volume_grid(image: Any, path: Path) -> Grid:
    if len(image.shape) < 3 or any(size != 1 for size in image.shape[3:]):
        raise ScanError(
            f"{path} has the shape {_shape_text(image.shape)}; expected a 3-D image: name a "
            "single volume."
        )
    return _grid(image, path)


def _require_four_dimensions(path: Path, shape: Sequence[int]) -> None:
    if len(shape) < 4 or (len(shape) == 4 and shape[3] == 1):
        raise ScanError(
            f"{path} has the shape {_shape_text(shape)}, a single volume; expected a 4-D scan of "
            "two volumes or more: name the whole scan."
        )
    if len(shape) > 4:
        raise ScanError(
            f"{path} has the shape {_shape_text(shape)}, {len(shape)} dimensions; expected 4 with "
            "the volumes along the last: drop the others, with `mrconvert -axes 0,1,2,4` for "
            "instance."
        )


def _shape_text(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))


def _orientation_warnings(path: Path, grid: Grid) -> Iterator[str]:
    if grid.qform is None and grid.sform is None:
        yield (
            f"{path} has neither a qform nor an sform: its orientation is unknown and taken as "
            f"{grid.describe()}."
        )
    elif grid.qform is None or grid.sform is None:
        return
    elif not grid.corners_agree(grid.qform, grid.sform):
        yield (
            f"{path} has a qform unlike its sform; the sform is used, as its code is "
            f"{grid.sform_code}: {grid.describe()}."
        )


def _gradient_warnings(files: ScanFiles, gradients: GradientTable | None) -> Iterator[str]:
    if gradients is None:
        yield (
            f"{files.image} HAS NO B-VALUES: there is no .bval and no .bvec file beside it, so its "
            "volumes are taken as plain channels, of which neither b-values nor directions can be "
            "checked; a model of it fits only scans with the same channels in the same order."
        )


# --- Voxels


def _permutation(order: npt.ArrayLike | None, scan: Scan) -> Ints:
    volumes = np.arange(scan.channels)
    if order is None:
        return volumes
    order = np.asarray(order)
    if not np.array_equal(np.sort(order), volumes):
        raise ArrayError(
            f"The order of the volumes of {scan.files.image} must hold each of 0 to "
            f"{scan.channels - 1} once; found {order.tolist()}."
        )
    return order


def _compute_mask(
    scan: Scan, stored: Stored, volumes: Sequence[npt.NDArray[Any]], shown: Bools
) -> Bools:
    """Find the brain in the mean of the volumes `shown` (C,)."""
    from dipy.segment.mask import median_otsu

    mean = np.zeros(volumes[0].shape, np.float64)
    for volume in itertools.compress(volumes, shown):
        mean += np.nan_to_num(stored.scaled(volume), posinf=0.0, neginf=0.0)
    mean /= np.count_nonzero(shown)
    head = np.maximum(mean, 0.0).reshape(scan.grid.shape, order="F")
    widest = int(np.rint(_OTSU_WIDTH / scan.grid.voxel_sizes.mean()))
    radius = min(max(widest, 1), _OTSU_RADIUS)
    mask = np.zeros(head.shape, np.bool_)
    if np.ptp(head) > 0:
        _, mask = median_otsu(head, median_radius=radius, numpass=4, finalize_mask=True)
    if not mask.any():
        raise ScanError(
            f"{scan.files.image} has no brain mask beside it, and median_otsu finds no brain in "
            "it; expected a mask named X_mask.nii.gz: put one there, or name it with --mask."
        )
    return np.asarray(mask, np.bool_)


def _mask_warnings(scan: Scan, mask: Bools, given: Bools | None) -> Iterator[str]:
    if given is None:
        yield (
            f"{scan.files.image} has no brain mask beside it: one of {np.count_nonzero(mask)} "
            "voxels was computed with median_otsu; look at it before you rely on it."
        )


def _scatter(mask: Bools, keep: Bools) -> Bools:
    kept = np.zeros_like(mask)
    kept[mask] = keep
    return kept


# --- Writing


def _write(path: Path, array: npt.NDArray[Any], grid: Grid, description: str) -> None:
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
    # Without an affine of its own the image leaves the header's codes as they were set.
    image = nib.Nifti1Image(array, None, header)
    with replacing(path) as temporary:
        image.to_filename(temporary)

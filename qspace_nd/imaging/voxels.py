"""The voxels of a scan inside its mask, read in one pass over the file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qspace_nd.arrays import Bools, Float32, Ints
from qspace_nd.errors import ArrayError
from qspace_nd.imaging.brightness import require_falling
from qspace_nd.imaging.coverage import Coverage
from qspace_nd.imaging.hot_voxels import require_even
from qspace_nd.imaging.masks import compute_mask, read_mask, warning_of
from qspace_nd.imaging.nifti import load, stored_in
from qspace_nd.imaging.quality import left_out, nonfinite, require_signal
from qspace_nd.imaging.scans import Scan
from qspace_nd.imaging.streams import ahead, drain, gather, hashed, keep_rows
from qspace_nd.imaging.unchanged import require_unchanged
from qspace_nd.imaging.zero_one import ZeroOne
from qspace_nd.progress import SILENT, Progress

_log = logging.getLogger(__name__)


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
        Of a fit in spherical harmonics (`harmonics.ShellFits.residual`), where it was asked for.
    residual_sample : (m,) float32 ndarray or None
        The same of a few thousand voxels, wherever there is a fit.
    """

    values: Float32
    mask: Bools
    scan: Scan
    digest: str
    computed_mask: bool
    warnings: tuple[str, ...]
    residual: Float32 | None = None
    residual_sample: Float32 | None = None

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
        inside it are not finite, it was changed meanwhile, a few voxels carry the scan
        (`hot_voxels`), a channel is constant over the mask, the mean is not positive, or b=0 is not
        the brightest (`brightness`).
    GridError
        The mask lies on another grid.
    """
    path = scan.files.image
    volumes = _permutation(order, scan)  # of each channel
    stored = stored_in(load(path), path)
    hasher = hashlib.blake2b(repr(stored.shape).encode(), digest_size=16)
    b0 = np.zeros(scan.channels, np.bool_) if scan.gradients is None else scan.gradients.b0
    with (
        progress.task(f"Reading {scan.files.name}", scan.channels) as task,
        ahead(stored.volumes()) as unpacked,  # from here on, while the mask is read
    ):
        given = None if scan.files.mask is None else read_mask(scan.files.mask, scan.grid)
        stream: Iterator[npt.NDArray[Any]] = hashed(stored, unpacked, hasher, task)
        coverage = Coverage(stored, int(b0.argmax()))
        if given is None:
            kept = list(stream)  # as stored, so that the scan is held once and in its own type
            _log.info(f"Computing a brain mask for {path} with median_otsu.")
            mask = compute_mask(stored, kept, b0 if b0.any() else ~b0, scan.grid)
            stream = drain(kept)
        else:
            mask = given.marked
            stream = coverage.watch(stream)
        values, finite, signal = gather(stored, stream, mask, volumes, b0)
    require_unchanged(scan.states)
    if not finite.all() and not ignore_nonfinite:
        raise nonfinite(path, values, finite)
    warnings = _mask_warnings(scan, mask, given, coverage)
    warnings += left_out(path, finite, signal)
    values = keep_rows(values, finite & signal)
    mask = _scatter(mask, finite & signal)
    warnings += require_even(path, values, mask, volumes)
    warnings += require_signal(path, values, volumes)
    if scan.gradients is not None:
        require_falling(path, values, volumes, scan.gradients)
    return Voxels(values, mask, scan, hasher.hexdigest(), given is None, tuple(warnings))


def _mask_warnings(scan: Scan, mask: Bools, given: ZeroOne | None, coverage: Coverage) -> list[str]:
    if given is None or scan.files.mask is None:
        return [warning_of(scan.files.image, mask)]
    return [*given.notes, *coverage.warnings(scan.files.mask, mask)]


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


def _scatter(mask: Bools, keep: Bools) -> Bools:
    kept = np.zeros_like(mask)
    kept[mask] = keep
    return kept

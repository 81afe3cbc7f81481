"""Small scans that the tests of this room write: a head of 5 x 6 x 4 voxels in 5 volumes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from qspace_nd.diffusion.fsl import write_gradients
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.imaging.scans import Scan, open_scan
from qspace_nd.layouts.scans import find_scans

AFFINE = np.array([[-2.0, 0, 0, 9], [0, 2, 0, -7], [0, 0, 3, 5], [0, 0, 0, 1]])
SHAPE = (5, 6, 4)
BVALS = np.array([0.0, 1000, 1000, 5, 2000])


def head(seed: int = 0, shape: tuple[int, ...] = (*SHAPE, 5)) -> np.ndarray:
    signal = np.random.default_rng(seed).integers(1, 1000, shape)
    if shape[-1] == len(BVALS):
        signal = signal * np.exp(-BVALS / 1500) + 1  # b=0 is the brightest
    return signal.astype(np.int16)


def brain(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[1:-1, 1:-2, 1:] = True
    return mask


def table(seed: int = 0) -> GradientTable:
    vectors = np.random.default_rng(seed).normal(size=(5, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return GradientTable(BVALS, vectors * (BVALS > 50)[:, None])


def save(
    folder: Path,
    data: np.ndarray,
    affine: np.ndarray = AFFINE,
    *,
    mask: np.ndarray | None = None,
    gradients: GradientTable | None = None,
    name: str = "s.nii.gz",
    slope: tuple[float, float] | None = None,
) -> Scan:
    """Write a scan as other programs do, and open it."""
    folder.mkdir(exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    nib.save(image, folder / name)
    if mask is not None:
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), folder / "s_mask.nii.gz")
    if gradients is not None:
        write_gradients(folder / "s.bval", folder / "s.bvec", gradients, affine)
    return opened(folder / name)


def opened(path: Path) -> Scan:
    return open_scan(find_scans([path])[0])


def in_storage(data: np.ndarray, affine: np.ndarray, axes: str) -> tuple[np.ndarray, np.ndarray]:
    """Store the same voxels at the same places along other axes."""
    image = nib.Nifti1Image(data, affine)
    wanted = nib.orientations.axcodes2ornt(axes)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(affine), wanted)
    )
    return np.asarray(turned.dataobj), turned.affine

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from qspace_nd.arrays import Bools, Float64
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.regridding import resample_mask


def affine_of(size: float, degrees: tuple[float, float, float], origin: Float64) -> Float64:
    affine = np.eye(4)
    affine[:3, :3] = size * Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    affine[:3, 3] = origin
    return affine


FINE = Grid((48, 52, 44), affine_of(1.0, (0, 0, 0), np.array([-20.0, -30.0, -10.0])))
"""As a T1-weighted image lies."""

COARSE = Grid((24, 26, 20), affine_of(2.5, (12, -9, 21), np.array([-22.0, -36.0, -14.0])))
"""As a tilted slab of diffusion-weighted volumes lies, partly beyond the other."""


@pytest.fixture(scope="module")
def lesions() -> Bools:
    """Three balls, of which one is cut by the edge of the image."""
    at = np.indices(FINE.shape).reshape(3, -1).T
    balls = [((24, 26, 22), 9.0), ((38, 12, 30), 5.0), ((2, 40, 8), 6.0)]
    inside = [np.linalg.norm(at - centre, axis=1) <= radius for centre, radius in balls]
    return np.any(inside, axis=0).reshape(FINE.shape)


def test_the_same_grid_gives_the_same_mask(lesions: Bools) -> None:
    np.testing.assert_array_equal(resample_mask(lesions, FINE, FINE), lesions)


def test_a_flipped_axis_gives_the_mirrored_array(lesions: Bools) -> None:
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = FINE.shape[0] - 1
    flipped = Grid(FINE.shape, FINE.affine @ flip)
    np.testing.assert_array_equal(resample_mask(lesions, FINE, flipped), lesions[::-1])


def test_a_voxel_is_marked_where_that_is_more_probable_than_not(lesions: Bools) -> None:
    """By the eight voxels around each centre, weighted as linear interpolation does."""
    found = resample_mask(lesions, FINE, COARSE)
    points = apply_affine(
        np.linalg.inv(FINE.affine) @ COARSE.affine, np.indices(COARSE.shape).reshape(3, -1).T
    )
    for point, marked in zip(points[::7], found.reshape(-1)[::7], strict=True):
        low = np.floor(point).astype(int)
        probable = 0.0
        for corner in np.ndindex(2, 2, 2):
            there = low + corner
            if (there >= 0).all() and (there < FINE.shape).all() and lesions[tuple(there)]:
                probable += float(np.prod(1 - np.abs(point - there)))
        if (point >= 0).all() and (point <= np.array(FINE.shape) - 1).all():
            assert marked == (probable > 0.5)
        else:
            assert not marked


@pytest.mark.filterwarnings("ignore:Resampling binary images")
def test_it_agrees_with_nilearn_but_for_rims_on_a_tilted_grid(lesions: Bools) -> None:
    """With nilearn's linear interpolation cut at half everywhere, with its nearest off rims."""
    from nilearn.image import resample_to_img

    found = resample_mask(lesions, FINE, COARSE)
    source = nib.Nifti1Image(lesions.astype(np.float32), FINE.affine)
    target = nib.Nifti1Image(np.zeros(COARSE.shape, np.float32), COARSE.affine)

    def by_nilearn(interpolation: str) -> np.ndarray:
        there = resample_to_img(
            source, target, interpolation, force_resample=True, copy_header=True
        )
        return np.asarray(there.dataobj)

    rest = by_nilearn("linear") - 0.5
    inner = ndimage.binary_erosion(np.ones(FINE.shape, bool), iterations=2)
    away = resample_mask(inner, FINE, COARSE)  # at the image's edge it fades out, and we do not
    sure = (abs(rest) > 1e-4) & away
    assert found.sum() > 200
    np.testing.assert_array_equal(found[sure], rest[sure] > 0)
    assert sure[away].mean() > 0.999

    nearest = by_nilearn("nearest") > 0.5
    rim = ndimage.binary_dilation(lesions) & ~ndimage.binary_erosion(lesions)
    at_rim = resample_mask(ndimage.binary_dilation(rim), FINE, COARSE)
    differ = found != nearest
    assert not (differ & ~at_rim & away).any()
    overlap = 2 * np.sum(found & nearest) / (found.sum() + nearest.sum())
    assert overlap > 0.95


def test_labels_that_lie_elsewhere_mark_nothing(lesions: Bools) -> None:
    far = Grid(COARSE.shape, affine_of(2.5, (0, 0, 0), np.array([500.0, 0.0, 0.0])))
    assert not resample_mask(lesions, FINE, far).any()

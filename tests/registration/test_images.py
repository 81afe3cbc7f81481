from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import ArrayError
from qspace_nd.registration.images import SPACING, images_of, interpolated, moved, shown_of
from tests.registration.conftest import head


def ramp(size: tuple[float, float, float], affine: np.ndarray | None = None):
    """A box of tissue whose anisotropy rises along the world's x, 100 mm a unit."""
    shape = tuple(round(60 / side) for side in size)
    affine = np.diag([*size, 1.0]) if affine is None else affine
    mask = np.ones(shape, bool)
    points = moved(np.argwhere(mask), affine)
    features = np.zeros((len(points), 3), np.float32)
    features[:, 2] = 0.2 + points[:, 0] / 100
    return features, mask, affine


@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (1.25, 1.25, 2.5), (3, 3, 3), (2.0, 2.0, 5.0)])
def test_the_lattice_shows_what_lies_there_whatever_the_voxels_size(size):
    features, mask, affine = ramp(size)
    images = images_of(shown_of(features), mask, affine)
    np.testing.assert_allclose(np.linalg.norm(images.affine[:3, :3], axis=0), SPACING)
    inside = np.array([[x, 30.0, 30.0] for x in (12.0, 20.0, 31.0, 40.0)])
    found = interpolated(images.values, images.affine, inside)[0]
    np.testing.assert_allclose(found, 0.2 + inside[:, 0] / 100, atol=2e-3)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SLA"])
def test_the_lattice_does_not_depend_on_the_order_of_the_axes_in_the_file(orientation):
    one = head(0)
    volume = np.zeros((*one.mask.shape, 3), np.float32)
    volume[one.mask] = one.features
    image = nib.Nifti1Image(np.concatenate([volume, one.mask[..., None]], axis=-1), one.affine)
    target = nib.orientations.axcodes2ornt(orientation)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(one.affine), target)
    )
    data = turned.get_fdata(dtype=np.float32)
    mask = data[..., 3] > 0
    again = images_of(shown_of(data[..., :3][mask]), mask, turned.affine)
    np.testing.assert_allclose(again.affine, one.images.affine, atol=1e-4)
    np.testing.assert_allclose(again.values, one.images.values, atol=1e-5)
    np.testing.assert_array_equal(again.mask, one.images.mask)


def test_an_oblique_scans_lattice_spans_the_scan_and_no_more():
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    features, mask, affine = ramp((3.0, 3.0, 3.0), turn @ np.diag([3.0, 3.0, 3.0, 1.0]))
    images = images_of(shown_of(features), mask, affine)
    assert images.mask.shape == mask.shape
    assert images.mask.all()
    np.testing.assert_allclose(images.affine, affine, atol=1e-9)
    np.testing.assert_allclose(images.registered[mask], features[:, 2], atol=1e-5)


def test_a_hot_voxel_counts_as_fluid_does():
    features, mask, affine = ramp((3.0, 3.0, 3.0))
    features[1000, 0] = 20.0
    assert images_of(shown_of(features), mask, affine).values[1].max() == pytest.approx(5.0)


def test_features_that_cannot_be_registered_are_refused():
    features, mask, affine = ramp((3.0, 3.0, 3.0))
    with pytest.raises(ArrayError, match=r"shape \(7999, 2\) .* holds 8000 voxels"):
        images_of(shown_of(features)[1:], mask, affine)
    thin = np.zeros_like(mask)
    thin[:, :, :5] = True
    with pytest.raises(ArrayError, match=r"15 mm from end to end .* 24 mm"):
        images_of(shown_of(features)[thin.ravel()], thin, affine)
    features[3, 2] = np.nan
    with pytest.raises(ArrayError, match="not finite"):
        images_of(shown_of(features), mask, affine)

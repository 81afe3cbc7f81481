from __future__ import annotations

import numpy as np

from qspace_nd.imaging.smoothing import smooth_inside

SIZES = np.array([2.0, 2.0, 4.0])


def naive(volume, mask, fwhm):
    std = fwhm / np.sqrt(8 * np.log(2))
    points = np.argwhere(mask) * SIZES
    weights = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1) / (2 * std**2))
    values = np.zeros(mask.shape)
    values[mask] = weights @ volume[mask] / weights.sum(1)
    return values


def test_smoothing_is_the_gaussian_weighted_mean_over_the_masks_voxels():
    random = np.random.default_rng(0)
    mask = random.random((9, 8, 6)) < 0.6
    volume = random.normal(size=mask.shape).astype(np.float32)
    smooth = smooth_inside(volume, mask, SIZES, 8.0)
    np.testing.assert_allclose(smooth, naive(volume, mask, 8.0), atol=2e-3)  # cut at 4 std


def test_a_constant_map_stays_constant_up_to_the_edge_and_zero_outside():
    mask = np.zeros((9, 8, 6), bool)
    mask[2:7, 1:6, 1:4] = True
    smooth = smooth_inside(np.where(mask, 3.0, np.nan).astype(np.float32), mask, SIZES, 6.0)
    np.testing.assert_allclose(smooth[mask], 3.0, rtol=1e-6)
    assert not smooth[~mask].any()


def test_a_width_of_zero_changes_nothing_inside():
    random = np.random.default_rng(0)
    mask = random.random((5, 5, 5)) < 0.5
    volume = random.normal(size=mask.shape).astype(np.float32)
    np.testing.assert_array_equal(smooth_inside(volume, mask, SIZES, 0.0)[mask], volume[mask])

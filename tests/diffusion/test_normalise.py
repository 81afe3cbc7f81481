from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qspace_nd.diffusion.normalise import (
    channel_means,
    divide_by_channel_means,
    divide_by_scan_mean,
)


def scan(rows: int, seed: int = 0) -> np.ndarray:
    signal = np.random.default_rng(seed).uniform(50, 2000, size=(rows, 5))
    return signal.astype(np.float32)


def test_a_scan_has_a_mean_of_one_afterwards() -> None:
    values = scan(1000)
    expected = values.astype(np.float64) / values.astype(np.float64).mean()
    divide_by_scan_mean(values)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert values.dtype == np.float32


@settings(deadline=None)
@given(st.floats(1e-3, 1e5))
def test_the_gain_of_a_scanner_does_not_matter(gain: float) -> None:
    values = scan(50)
    scaled = values * np.float32(gain)
    divide_by_scan_mean(values)
    divide_by_scan_mean(scaled)
    np.testing.assert_allclose(scaled, values, rtol=1e-5)


def test_channel_means_weigh_every_voxel_alike() -> None:
    scans = [scan(10), scan(1000, seed=1)]
    expected = np.concatenate(scans).astype(np.float64).mean(axis=0)
    means = channel_means(scans)
    np.testing.assert_allclose(means, expected, rtol=1e-6)
    assert means.dtype == np.float32


def test_every_channel_of_the_healthy_scans_has_a_mean_of_one_afterwards() -> None:
    scans = [scan(300), scan(200, seed=1)]
    means = channel_means(scans)
    for values in scans:
        divide_by_channel_means(values, means)
    np.testing.assert_allclose(np.concatenate(scans).mean(axis=0), 1, rtol=1e-5)


def test_many_voxels_do_not_cost_digits() -> None:
    values = np.full((3_000_000, 2), 0.1, np.float32)
    np.testing.assert_array_equal(channel_means([values]), np.float32(0.1))
    divide_by_scan_mean(values)
    assert (values == 1).all()

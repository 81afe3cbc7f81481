from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from qspace_nd.diffusion.products import multiply


def product(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    out = np.full((len(values), len(matrix)), np.nan, np.float32)
    multiply(values, matrix, out)
    return out


def made(channels: int, volumes: int, voxels: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(channels)
    signal = random.uniform(1, 2000, (voxels, volumes)).astype(np.float32)
    return signal, random.normal(size=(channels, volumes)) / volumes


@pytest.mark.parametrize(("channels", "volumes"), [(46, 46), (1, 1), (17, 33), (40, 7), (3, 90)])
def test_a_product_is_that_of_double_precision_but_for_rounding(
    channels: int, volumes: int
) -> None:
    values, matrix = made(channels, volumes)
    exact = values.astype(np.float64) @ matrix.T
    most = np.abs(values) @ np.abs(matrix).T  # what a sum's rounding errors are shares of
    found = product(values, matrix)
    assert found.dtype == np.float32
    assert (np.abs(found - exact) <= (volumes + 2) * 2.0**-24 * most).all()


@pytest.mark.parametrize(("channels", "volumes"), [(46, 46), (17, 33)])
def test_a_voxel_gives_the_same_bits_in_any_company(channels: int, volumes: int) -> None:
    values, matrix = made(channels, volumes)
    whole = product(values, matrix)
    for start, stop in ((0, 1), (1, 2), (7, 20), (100, 1131), (2999, 3000)):
        np.testing.assert_array_equal(product(values[start:stop], matrix), whole[start:stop])
    order = np.random.default_rng(0).permutation(len(values))
    np.testing.assert_array_equal(product(values[order], matrix), whole[order])
    for threads in (1, 2):
        with threadpool_limits(threads):
            np.testing.assert_array_equal(product(values, matrix), whole)


def test_the_result_may_take_the_place_of_the_voxels() -> None:
    values, matrix = made(21, 21)
    expected = product(values, matrix)
    multiply(values, matrix, values)
    np.testing.assert_array_equal(values, expected)
    multiply(values[:0], matrix, values[:0])

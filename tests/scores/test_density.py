"""Densities of healthy voxels, held against sums over all of them in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from qspace_nd.gaussian import Gaussian
from qspace_nd.scores import joining
from qspace_nd.scores.density import density_trees, log_density_sum
from qspace_nd.scores.measures import double, double_gaussian
from qspace_nd.searching import tree
from tests.scores.conftest import cloud, in_chunks

Values = NDArray[np.float64]


def log_mean_density(
    points: torch.Tensor, healthy: Gaussian[torch.Tensor], size: int = 700
) -> Values:
    trees = density_trees(in_chunks(healthy, size))
    return log_density_sum(points, trees) - math.log(len(healthy))


def brute_density(points: torch.Tensor, healthy: Gaussian[torch.Tensor]) -> Values:
    p = double_gaussian(healthy)
    logs = [np.logaddexp.reduce(p.log_prob(point)) for point in double(points)]
    return np.array(logs) - math.log(len(healthy))


@pytest.mark.parametrize("dimensions", [1, 8, 46])
@pytest.mark.parametrize("size", [1, 300, 2000])
def test_the_density_is_that_of_all_pairs(dimensions: int, size: int) -> None:
    healthy, queries = cloud(size, dimensions, 0), cloud(100, dimensions, 1)
    for points in (queries.mean, queries.mean[:5] * 1e6, healthy.mean[:50]):
        found = log_mean_density(points, healthy, 700)
        np.testing.assert_allclose(found, brute_density(points, healthy), rtol=1e-9, atol=1e-9)


def test_the_density_is_exact_at_an_outlier_among_outliers() -> None:
    # 1e6 times as far as wide: squares of the distances in a matrix product have no digit right.
    healthy = cloud(600, 8, 0)
    healthy.mean[::2] += 1e6
    healthy.std[:] = 1e-2
    points = healthy.mean[:20] + 0.005
    found = log_mean_density(points, healthy, 700)
    np.testing.assert_allclose(found, brute_density(points, healthy), rtol=1e-9, atol=1e-9)


def test_equal_gaussians_add_up() -> None:
    healthy = Gaussian(torch.zeros(1500, 3), torch.ones(1500, 3))
    expected = stats.norm(0, 1).logpdf(0) * 3
    np.testing.assert_allclose(log_mean_density(healthy.mean[:3], healthy), expected)


@pytest.mark.parametrize("rows", [1, 97])
def test_a_result_does_not_depend_on_the_voxels_beside(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy, queries = cloud(2000, 13, 0), cloud(200, 13, 1)
    densities = log_mean_density(queries.mean, healthy)
    monkeypatch.setattr(tree, "_BATCH", rows)
    order = np.random.default_rng(0).permutation(200)
    moved = queries.mean[order]
    np.testing.assert_array_equal(log_mean_density(moved, healthy), densities[order])


def test_gaussians_may_fill_several_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy, queries = cloud(2000, 5, 0), cloud(100, 5, 1)
    monkeypatch.setattr(joining, "NUMBERS", 2500)
    assert len(density_trees(in_chunks(healthy, 150))) == 5
    found = log_mean_density(queries.mean, healthy, 150)
    np.testing.assert_allclose(found, brute_density(queries.mean, healthy), rtol=1e-9)

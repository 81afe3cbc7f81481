"""Measures between Gaussians and points, and the searches and sums over many of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats

from qspace_nd.gaussian import Gaussian
from qspace_nd.scores import joining
from qspace_nd.scores.density import density_trees, log_density_sum
from qspace_nd.scores.measures import (
    bhattacharyya,
    divergence,
    double,
    double_gaussian,
    euclidean,
    negative_log_likelihood,
)
from qspace_nd.scores.overlap import nearest_gaussians, overlap_trees
from qspace_nd.searching import tree

Values = NDArray[np.float64]

numbers = st.floats(-50, 50)
spreads = st.floats(0.01, 50)


def one(mean: float, std: float) -> Gaussian[np.ndarray]:
    return Gaussian(np.array([mean]), np.array([std]))


# Measures.


@given(numbers, spreads, numbers, spreads)
def test_the_bhattacharyya_distance_is_symmetric_and_at_least_0(
    m: float, s: float, n: float, t: float
) -> None:
    distance = bhattacharyya(one(m, s), one(n, t))
    assert distance == bhattacharyya(one(n, t), one(m, s))
    assert distance >= 0


@given(numbers, spreads)
def test_the_bhattacharyya_distance_of_a_gaussian_to_itself_is_exactly_0(
    m: float, s: float
) -> None:
    assert bhattacharyya(one(m, s), one(m, s)) == 0


@pytest.mark.parametrize(("m", "s", "n", "t"), [(0, 1, 0.5, 1), (1, 0.2, -1, 2), (3, 1, 3, 0.1)])
def test_the_bhattacharyya_distance_is_minus_the_logarithm_of_the_overlap(
    m: float, s: float, n: float, t: float
) -> None:
    p, q = stats.norm(m, s), stats.norm(n, t)
    integral, _ = integrate.quad(lambda x: math.sqrt(p.pdf(x) * q.pdf(x)), -15, 15, points=[m, n])
    assert bhattacharyya(one(m, s), one(n, t)) == pytest.approx(-math.log(integral), rel=1e-6)


@given(numbers, st.floats(0.1, 10))
def test_the_divergence_from_the_unit_gaussian_is_the_integral(m: float, s: float) -> None:
    q = Gaussian(*torch.tensor([[[m]], [[s]]], dtype=torch.float64))
    # E_q[ln q - ln n] = -entropy + (m² + s² + ln 2π) / 2
    expected = -stats.norm(m, s).entropy() + 0.5 * (m**2 + s**2 + math.log(2 * math.pi))
    assert divergence(q)[0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_likelihood_and_distance_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    x, mean, std = rng.normal(size=(3, 7, 5)) ** 2 + 0.1
    p = Gaussian(torch.from_numpy(mean), torch.from_numpy(std))
    expected = -stats.norm(mean, std).logpdf(x).sum(axis=1)
    np.testing.assert_allclose(negative_log_likelihood(p, torch.from_numpy(x)), expected)
    np.testing.assert_allclose(
        euclidean(torch.from_numpy(x), p.mean), np.linalg.norm(x - mean, axis=1)
    )


# Searches and sums.


def cloud(number: int, dimensions: int, seed: int) -> Gaussian[torch.Tensor]:
    """Gaussians about a curve, of standard deviations from 0.01 to 1."""
    rng = np.random.default_rng(seed)
    along = rng.normal(size=(number, 1))
    mean = np.sin(along * np.arange(1, dimensions + 1)) + 0.1 * rng.normal(
        size=(number, dimensions)
    )
    std = np.exp(rng.uniform(np.log(0.01), 0, size=(number, 1)) + 0.1 * np.cos(5 * mean))
    return Gaussian(torch.from_numpy(mean).float(), torch.from_numpy(std).float())


def in_chunks(gaussians: Gaussian[torch.Tensor], size: int) -> Iterator[Gaussian[torch.Tensor]]:
    for start in range(0, len(gaussians), size):
        yield gaussians[start : start + size]


def brute_overlap(queries: Gaussian[torch.Tensor], healthy: Gaussian[torch.Tensor]) -> Values:
    p, q = double_gaussian(queries), double_gaussian(healthy)
    return np.array(
        [bhattacharyya(Gaussian(p.mean[i], p.std[i]), q).min() for i in range(len(p.mean))]
    )


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
def test_the_nearest_gaussian_is_that_of_all_pairs(dimensions: int, size: int) -> None:
    healthy, queries = cloud(size, dimensions, 0), cloud(100, dimensions, 1)
    far = Gaussian(queries.mean[:5] * 1e6, queries.std[:5] * 100)
    for some in (queries, far, healthy[:50]):
        found = nearest_gaussians(some, overlap_trees(in_chunks(healthy, 700)))
        np.testing.assert_allclose(found, brute_overlap(some, healthy), rtol=1e-12)


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


def test_the_nearest_gaussian_is_exact_at_an_outlier_among_outliers() -> None:
    healthy = cloud(600, 8, 0)
    healthy.mean[::2] += 1e6
    healthy.std[:] = 1e-2
    queries = Gaussian(healthy.mean[:20] + 0.25, healthy.std[:20] * 1.5)
    found = nearest_gaussians(queries, overlap_trees(in_chunks(healthy, 700)))
    np.testing.assert_allclose(found, brute_overlap(queries, healthy), rtol=1e-12)


def test_equal_gaussians_are_as_good_as_others() -> None:
    healthy = Gaussian(torch.zeros(1500, 3), torch.ones(1500, 3))
    np.testing.assert_array_equal(nearest_gaussians(healthy[:3], overlap_trees([healthy])), 0.0)
    expected = stats.norm(0, 1).logpdf(0) * 3
    np.testing.assert_allclose(log_mean_density(healthy.mean[:3], healthy), expected)


@pytest.mark.parametrize("rows", [1, 3, 64, 97])
def test_a_result_does_not_depend_on_the_voxels_beside(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy, queries = cloud(2000, 13, 0), cloud(200, 13, 1)
    densities = log_mean_density(queries.mean, healthy, 700)
    distances = nearest_gaussians(queries, overlap_trees(in_chunks(healthy, 700)))
    monkeypatch.setattr(tree, "_BATCH", rows)
    order = np.random.default_rng(0).permutation(200)
    moved = Gaussian(queries.mean[order], queries.std[order])
    np.testing.assert_array_equal(log_mean_density(moved.mean, healthy, 700), densities[order])
    np.testing.assert_array_equal(
        nearest_gaussians(moved, overlap_trees(in_chunks(healthy, 700))), distances[order]
    )


def test_gaussians_may_fill_several_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy, queries = cloud(2000, 5, 0), cloud(100, 5, 1)
    monkeypatch.setattr(joining, "NUMBERS", 2500)
    sizes = [len(some) for some in joining.gathered(in_chunks(healthy, 150))]
    assert sizes == [450, 450, 450, 450, 200]
    np.testing.assert_allclose(
        nearest_gaussians(queries, overlap_trees(in_chunks(healthy, 150))),
        brute_overlap(queries, healthy),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        log_mean_density(queries.mean, healthy, 150),
        brute_density(queries.mean, healthy),
        rtol=1e-9,
    )

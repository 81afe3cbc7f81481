"""Distances to the nearest healthy voxel, held against all pairs in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, stats

from qspace_nd.gaussian import Gaussian
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.scores import joining
from qspace_nd.scores.measures import double_gaussian
from qspace_nd.scores.nearest import nearest_gaussians, overlap_trees
from qspace_nd.searching import tree
from tests.scores.conftest import cloud, in_chunks

Values = NDArray[np.float64]


@pytest.mark.parametrize(
    "name",
    [
        "input-distance",
        "latent-distance",
        "latent-bhattacharyya",
        "output-distance",
        "output-bhattacharyya",
    ],
)
def test_a_voxel_of_the_reference_is_at_distance_0(name: str, trained: NoveltyModel) -> None:
    known = trained.reference_.parts[1].views.x[100:140].numpy()
    np.testing.assert_array_equal(trained.novelty(known, name), 0.0)


def bhattacharyya(p: Gaussian[np.ndarray], q: Gaussian[np.ndarray]) -> Values:
    """Distance between diagonal Gaussians (..., D), by its equation: (...)."""
    variances = p.std**2 + q.std**2
    apart = 0.25 * (p.mean - q.mean) ** 2 / variances
    return np.asarray((apart + 0.5 * np.log(variances / (2.0 * p.std * q.std))).sum(axis=-1))


def one(mean: float, std: float) -> Gaussian[np.ndarray]:
    return Gaussian(np.array([mean]), np.array([std]))


@pytest.mark.parametrize(("m", "s", "n", "t"), [(0, 1, 0.5, 1), (1, 0.2, -1, 2), (3, 1, 3, 0.1)])
def test_the_equation_is_that_of_minus_the_logarithm_of_the_overlap(
    m: float, s: float, n: float, t: float
) -> None:
    p, q = stats.norm(m, s), stats.norm(n, t)
    integral, _ = integrate.quad(lambda x: math.sqrt(p.pdf(x) * q.pdf(x)), -15, 15, points=[m, n])
    assert bhattacharyya(one(m, s), one(n, t)) == pytest.approx(-math.log(integral), rel=1e-6)


def brute_overlap(queries: Gaussian[torch.Tensor], healthy: Gaussian[torch.Tensor]) -> Values:
    p, q = double_gaussian(queries), double_gaussian(healthy)
    return np.array(
        [bhattacharyya(Gaussian(p.mean[i], p.std[i]), q).min() for i in range(len(p.mean))]
    )


@pytest.mark.parametrize("dimensions", [1, 8, 46])
@pytest.mark.parametrize("size", [1, 300, 2000])
def test_the_nearest_gaussian_is_that_of_all_pairs(dimensions: int, size: int) -> None:
    healthy, queries = cloud(size, dimensions, 0), cloud(100, dimensions, 1)
    far = Gaussian(queries.mean[:5] * 1e6, queries.std[:5] * 100)
    for some in (queries, far, healthy[:50]):
        found = nearest_gaussians(some, overlap_trees(in_chunks(healthy, 700)))
        np.testing.assert_allclose(found, brute_overlap(some, healthy), rtol=1e-12)


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


@pytest.mark.parametrize("rows", [1, 97])
def test_a_result_does_not_depend_on_the_voxels_beside(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy, queries = cloud(2000, 13, 0), cloud(200, 13, 1)
    trees = overlap_trees(in_chunks(healthy, 700))
    distances = nearest_gaussians(queries, trees)
    monkeypatch.setattr(tree, "_BATCH", rows)
    order = np.random.default_rng(0).permutation(200)
    moved = Gaussian(queries.mean[order], queries.std[order])
    np.testing.assert_array_equal(nearest_gaussians(moved, trees), distances[order])


def test_gaussians_may_fill_several_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy, queries = cloud(2000, 5, 0), cloud(100, 5, 1)
    monkeypatch.setattr(joining, "NUMBERS", 2500)
    trees = overlap_trees(in_chunks(healthy, 150))
    assert len(trees) == 5
    found = nearest_gaussians(queries, trees)
    np.testing.assert_allclose(found, brute_overlap(queries, healthy), rtol=1e-12)

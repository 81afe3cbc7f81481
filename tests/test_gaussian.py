from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qspace_nd.gaussian import Gaussian, concatenate

ROWS, DIMENSIONS = 5, 3
moderate = st.floats(-50, 50, width=32)
positive = st.floats(0.0625, 16, width=32)
vectors = arrays(np.float64, (ROWS, DIMENSIONS), elements=moderate)
stds = arrays(np.float64, (ROWS, DIMENSIONS), elements=positive)


@settings(deadline=None)
@given(vectors, stds, vectors)
def test_log_prob_is_that_of_scipy(mean: np.ndarray, std: np.ndarray, x: np.ndarray) -> None:
    expected = scipy.stats.norm.logpdf(x, mean, std).sum(axis=-1)
    np.testing.assert_allclose(Gaussian(mean, std).log_prob(x), expected, rtol=1e-12)


@settings(deadline=None)
@given(vectors, stds, vectors)
def test_log_prob_is_greatest_at_the_mean(mean: np.ndarray, std: np.ndarray, x: np.ndarray) -> None:
    gaussian = Gaussian(mean, std)
    assert (gaussian.log_prob(x) <= gaussian.log_prob(mean)).all()


@settings(deadline=None)
@given(vectors, stds)
def test_kl_is_that_of_numerical_integration_and_never_negative(
    mean: np.ndarray, std: np.ndarray
) -> None:
    kl = Gaussian(mean, std).kl()
    # E over q of log q - log p, exact for these quadratic logarithms by Gauss-Hermite quadrature.
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    z = mean[..., None] + std[..., None] * nodes
    q, p = scipy.stats.norm.logpdf(nodes) - np.log(std)[..., None], scipy.stats.norm.logpdf(z)
    expected = ((q - p) * weights).sum(axis=-1) / weights.sum()
    np.testing.assert_allclose(kl, expected, rtol=1e-9, atol=1e-9)
    assert (kl >= -1e-12).all()


def test_kl_of_the_unit_gaussian_is_nothing() -> None:
    unit = Gaussian(np.zeros((2, 4)), np.ones((2, 4)))
    assert (unit.kl() == 0).all()


@settings(deadline=None)
@given(vectors, stds, vectors)
def test_tensors_and_arrays_agree(mean: np.ndarray, std: np.ndarray, x: np.ndarray) -> None:
    array = Gaussian(mean, std)
    tensor = Gaussian(torch.from_numpy(mean), torch.from_numpy(std))
    np.testing.assert_allclose(tensor.log_prob(torch.from_numpy(x)), array.log_prob(x), rtol=1e-12)
    np.testing.assert_allclose(tensor.kl(), array.kl(), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(tensor.sample(torch.from_numpy(x)), array.sample(x))


def test_samples_of_broadcast_noise_have_the_mean_and_the_std() -> None:
    gaussian = Gaussian(np.array([[1.0, -2.0]]), np.array([[0.5, 3.0]]))
    samples = gaussian.sample(np.random.default_rng(0).standard_normal((100_000, 1, 2)))
    assert samples.shape == (100_000, 1, 2)
    np.testing.assert_allclose(samples.mean(axis=0), gaussian.mean, atol=0.05)
    np.testing.assert_allclose(samples.std(axis=0), gaussian.std, rtol=0.02)


@settings(deadline=None)
@given(st.integers(0, ROWS), st.integers(0, ROWS))
def test_slices_joined_are_the_whole(first: int, second: int) -> None:
    cut, end = sorted((first, second))
    rng = np.random.default_rng(0)
    whole = Gaussian(torch.from_numpy(rng.normal(size=(ROWS, 2))), torch.ones(ROWS, 2))
    joined = concatenate([whole[:cut], whole[cut:end], whole[end:]])
    assert len(joined) == len(whole) == ROWS
    assert torch.equal(joined.mean, whole.mean)
    assert torch.equal(joined.std, whole.std)


def test_numpy_detaches_and_leaves_arrays_as_they_are() -> None:
    tensor = Gaussian(torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3))
    converted = tensor.numpy()
    assert isinstance(converted.mean, np.ndarray)
    assert converted.mean.dtype == np.float32
    assert converted.numpy().std is converted.std


@pytest.mark.parametrize("x", [1e6, -1e6])
def test_an_outlier_of_a_narrow_gaussian_has_a_finite_density_in_float32(x: float) -> None:
    narrow = Gaussian(torch.zeros(1, 1), torch.full((1, 1), 0.01))
    assert torch.isfinite(narrow.log_prob(torch.full((1, 1), x))).all()

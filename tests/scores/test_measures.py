"""Measures between Gaussians and points, held against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from qspace_nd.gaussian import Gaussian
from qspace_nd.scores.measures import (
    divergence,
    euclidean,
    negative_log_likelihood,
)

Values = NDArray[np.float64]

numbers = st.floats(-50, 50)


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

"""Shells: what they are called, and the logarithm of their mean signal."""

from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.shells import named_shells, shell_features


def table(bvals: list[float]) -> GradientTable:
    directions = np.random.default_rng(0).normal(size=(len(bvals), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return GradientTable(np.array(bvals, float), directions)


@pytest.mark.parametrize(
    ("bvals", "names"),
    [
        ([0, *[2995] * 6, *[1005] * 3, *[1000] * 3], ["b1000", "b3000"]),
        ([0, *[960] * 6, *[1040] * 6], ["b960", "b1040"]),  # not b1000 both
        ([0, *[1000] * 6, *[2000] * 5], ["b1000"]),  # too few directions at 2000
        ([0, *[700] * 6, *np.arange(1000, 2000, 45)], ["b700"]),  # those from 1000 are no shell
        ([0, 0], []),
    ],
)
def test_shells_are_called_by_their_b_value(bvals: list[float], names: list[str]) -> None:
    assert list(named_shells(table(bvals))) == names


def test_a_shell_is_told_by_the_logarithm_of_its_mean_signal() -> None:
    shells = table([*[2000] * 6, 0, *[1000] * 6])
    signals = np.random.default_rng(1).uniform(0.2, 2, (5, 13)).astype(np.float32)
    signals[4] = 0.0
    expected = np.log([signals[:4, 7:].mean(axis=1), signals[:4, :6].mean(axis=1)]).T
    found = shell_features(signals, shells)
    np.testing.assert_allclose(found[:4], expected, rtol=1e-5)
    assert np.isfinite(found[4]).all()

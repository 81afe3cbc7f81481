from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.tensor import has_tensor, tissue_features
from qspace_nd.simulation.head import standard_table

TABLE = standard_table()


def signals(along: float, across: float, b0: float, axis: tuple[float, float, float]) -> np.ndarray:
    """The signal of one axially symmetric tensor, (1, C)."""
    unit = np.array(axis) / np.linalg.norm(axis)
    apparent = across + (along - across) * (TABLE.directions @ unit) ** 2
    return (b0 * np.exp(-np.where(TABLE.b0, 0, TABLE.bvals) * apparent))[None].astype(np.float32)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 1), (1, -2, 3)])
def test_features_are_those_of_the_tensor_whichever_way_it_points(axis):
    (found,) = tissue_features(signals(1.7e-3, 0.3e-3, 1.5, axis), TABLE)
    mean = 2.3e-3 / 3
    deviations = np.array([1.7e-3, 0.3e-3, 0.3e-3]) - mean
    fa = np.sqrt(1.5 * (deviations**2).sum() / (1.7e-3**2 + 2 * 0.3e-3**2))
    np.testing.assert_allclose(found, [np.log(1.5), np.log(mean), fa], rtol=1e-3)


def test_features_of_what_has_no_signal_are_finite():
    dark = np.zeros((3, len(TABLE.bvals)), np.float32)
    dark[1] = 1.0  # no decay at all
    dark[2, TABLE.b0] = 2.0  # no signal but at b=0
    found = tissue_features(dark, TABLE)
    assert np.isfinite(found).all()
    assert found.dtype == np.float32
    assert ((found[:, 2] >= 0) & (found[:, 2] <= 1)).all()


@pytest.mark.parametrize(
    ("bvals", "able"), [([0, *[1000] * 6], True), ([0, *[1000] * 5], False), ([1000] * 7, False)]
)
def test_a_tensor_takes_b0_and_six_directions(bvals, able):
    directions = np.random.default_rng(0).normal(size=(len(bvals), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert has_tensor(GradientTable(np.array(bvals, float), directions)) == able
    assert not has_tensor(None)

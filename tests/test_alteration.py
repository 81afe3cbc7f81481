from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.alteration import alter
from qspace_nd.gradients import GradientTable
from qspace_nd.phantom import multi_tensor_signal, standard_table


@pytest.fixture(scope="module")
def table() -> GradientTable:
    return standard_table()


@pytest.fixture(scope="module")
def fibres(table: GradientTable) -> np.ndarray:
    """Noise-free white matter: 500 voxels with fibres in random directions."""
    random = np.random.default_rng(0)
    axes = random.normal(size=(500, 1, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    along, across = np.full((500, 1), 1.7e-3), np.full((500, 1), 0.4e-3)
    return multi_tensor_signal(table, np.ones((500, 1)), along, across, axes)


def diffusivity(signals, table):
    weighted = signals[:, ~table.b0] / signals[:, table.b0].mean(1, keepdims=True)
    return -np.log(weighted) / table.bvals[~table.b0]


def test_altered_tissue_has_longer_t2_higher_diffusivity_and_lower_anisotropy(table, fibres):
    altered = alter(fibres, table, np.random.default_rng(1))
    gain = altered[:, table.b0].mean(1) / fibres[:, table.b0].mean(1)
    before, after = diffusivity(fibres, table), diffusivity(altered, table)
    assert (gain >= 1).all() and 1.05 < gain.mean() < 1.5
    assert (after.mean(1) >= before.mean(1) - 1e-9).all()
    assert after.mean() - before.mean() > 0.05e-3
    assert (after.std(1) <= before.std(1) + 1e-9).all()
    assert (after.std(1) < 0.9 * before.std(1)).mean() > 0.3


def test_every_voxel_is_changed_and_the_seed_decides_how(table, fibres):
    altered = alter(fibres, table, np.random.default_rng(1))
    assert (np.abs(altered / fibres - 1).max(1) > 0).all()
    np.testing.assert_array_equal(altered, alter(fibres, table, np.random.default_rng(1)))


def test_channels_without_signal_stay_finite(table, fibres):
    empty = fibres.copy()
    empty[:, 7] = 0.0
    empty[:, 8] = -0.1
    assert np.isfinite(alter(empty, table, np.random.default_rng(1))).all()

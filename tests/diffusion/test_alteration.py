from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.diffusion.alteration import alter
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.errors import GradientError
from qspace_nd.simulation.head import multi_tensor_signal, standard_table


@pytest.fixture(scope="module")
def table() -> GradientTable:
    return standard_table()


@pytest.fixture(scope="module")
def fibres(table: GradientTable) -> np.ndarray:
    """White matter: 500 voxels with fibres in random directions, and noise."""
    random = np.random.default_rng(0)
    axes = random.normal(size=(500, 1, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    along, across = np.full((500, 1), 1.7e-3), np.full((500, 1), 0.4e-3)
    signal = multi_tensor_signal(table, np.ones((500, 1)), along, across, axes)
    return np.asarray(signal + 0.01 * random.normal(size=signal.shape), dtype=np.float32)


def attenuation(signals, table):
    return np.log(signals[:, ~table.b0] / signals[:, table.b0].mean(1, keepdims=True))


def test_changed_tissue_has_longer_t2_higher_diffusivity_and_lower_anisotropy(table, fibres):
    changed = alter(fibres, table, np.random.default_rng(1))
    assert len(changed) == len(fibres)  # all of it is white matter
    gain = changed[:, table.b0].mean(1) / fibres[:, table.b0].mean(1)
    severity = np.log(gain) / 0.4
    assert severity.min() > -0.02 and severity.max() < 1.02 and severity.std() > 0.2
    before, after = attenuation(fibres, table), attenuation(changed, table)
    fallen = (before - after).mean(1) / table.bvals[~table.b0].mean()
    np.testing.assert_allclose(fallen[severity > 0.5] / severity[severity > 0.5], 0.4e-3, rtol=0.5)
    assert (after.std(1) < before.std(1))[severity > 0.3].all()


def test_the_noise_stays_as_it_is(table, fibres):
    changed = alter(fibres, table, np.random.default_rng(1))
    noise = fibres[:, table.b0] - fibres[:, table.b0].mean(1, keepdims=True)
    kept = changed[:, table.b0] - changed[:, table.b0].mean(1, keepdims=True)
    np.testing.assert_allclose(kept, noise, atol=1e-5)


def test_fluid_and_grey_matter_are_left_out(table, fibres):
    axes = np.tile([[[1.0, 0.0, 0.0]]], (9, 1, 1))
    for diffusivity in (3e-3, 0.8e-3):
        even = np.full((9, 1), diffusivity)
        round_ = multi_tensor_signal(table, np.ones((9, 1)), even, even, axes).astype(np.float32)
        assert len(alter(round_, table, np.random.default_rng(1))) == 0


def test_too_few_directions_for_a_tensor_are_refused(table):
    few = GradientTable(table.bvals[:5], table.directions[:5])
    with pytest.raises(GradientError, match=r"needs b=0 and 6 directions or more"):
        alter(np.ones((3, 5), np.float32), few, np.random.default_rng(0))

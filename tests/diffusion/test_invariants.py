from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.invariants import RotationInvariants
from qspace_nd.errors import GradientError
from qspace_nd.simulation.anatomy import Anatomy
from qspace_nd.simulation.head import simulate_subject, standard_table

MODEL = standard_table(directions=40)
SNR = 20.0


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return Anatomy.of_icbm152(8.0)


def head(anatomy: Anatomy, table: GradientTable, snr: float = SNR) -> np.ndarray:
    """The voxels of one head (n, C), whatever the table."""
    subject = simulate_subject(anatomy, table, 0, snr=snr)
    return subject.signal[subject.mask]


def features_of(anatomy: Anatomy, directions: int, snr: float = SNR) -> np.ndarray:
    table = standard_table(directions=directions)
    return RotationInvariants(MODEL, table, "s")(head(anatomy, table, snr))


def test_features_are_b0_and_of_each_shell_the_mean_and_the_power_of_each_order() -> None:
    assert RotationInvariants(MODEL, MODEL, "s").names == (
        "b=0",
        "mean at b=1200",
        "power of order 2 at b=1200",
        "power of order 4 at b=1200",
    )


def test_features_are_those_of_the_signal_on_a_dense_sphere(anatomy: Anatomy) -> None:
    dense = standard_table(directions=200)
    signal = head(anatomy, dense, snr=1e6).astype(np.float64)
    unweighted, weighted = signal[:, dense.b0].mean(axis=1), signal[:, ~dense.b0]
    features = features_of(anatomy, 40, snr=1e6)
    scale = unweighted.mean() * 6 / 46 + weighted.mean() * 40 / 46
    np.testing.assert_allclose(features[:, 0], unweighted / scale, rtol=1e-3)
    np.testing.assert_allclose(features[:, 1], weighted.mean(axis=1) / scale, rtol=2e-3)
    variance = weighted.var(axis=1) / scale**2  # the powers of all orders from 2, unsmoothed
    powers = features[:, 2:].sum(axis=1)
    assert np.corrcoef(powers, variance)[0, 1] > 0.999
    assert powers.mean() == pytest.approx(variance.mean(), rel=0.12)
    assert (powers <= variance + 1e-4).all()


def test_features_do_not_change_when_the_head_turns(anatomy: Anatomy) -> None:
    turn = Rotation.from_euler("zyx", [25, -15, 40], degrees=True)
    # A head that turns in the scanner is one that rests while the gradients turn the other way.
    turned = GradientTable(MODEL.bvals, turn.inv().apply(MODEL.directions))
    invariants = RotationInvariants(MODEL, MODEL, "s")
    still, moved = head(anatomy, MODEL, 1e6), head(anatomy, turned, 1e6)
    assert np.abs(still - moved).max() > 0.2 * still.mean()
    before, after = invariants(still), invariants(moved)
    np.testing.assert_allclose(before, after, atol=2e-4)


def test_30_and_60_directions_of_a_head_give_the_same_features_but_for_noise(
    anatomy: Anatomy,
) -> None:
    few, many = features_of(anatomy, 30), features_of(anatomy, 60)
    apart = few - many
    errors = apart.std(axis=0) / np.sqrt(len(apart))
    assert (np.abs(apart.mean(axis=0)) < 4 * errors).all()
    # What a voxel's features differ by is what they differ by from those of the head without noise.
    noise = [
        (found - features_of(anatomy, n, snr=1e6)).std(axis=0)
        for found, n in ((few, 30), (many, 60))
    ]
    assert (apart.std(axis=0) < 1.05 * np.hypot(*noise)).all()


@pytest.mark.parametrize("directions", [20, 30, 60])
def test_the_powers_of_noise_are_0_on_average(directions: int) -> None:
    table = standard_table(directions=directions)
    rng = np.random.default_rng(directions)
    noise = 1 + rng.normal(scale=0.05, size=(20_000, len(table.bvals)))
    features = RotationInvariants(MODEL, table, "s")(noise.astype(np.float32))
    powers = features[:, 2:]
    errors = powers.std(axis=0) / np.sqrt(len(powers))
    assert (np.abs(powers.mean(axis=0)) < 4 * errors).all()
    with_noise = powers.std(axis=0).sum()
    assert np.abs(powers.mean(axis=0)).sum() < 0.1 * with_noise


def test_powers_are_divided_by_the_square_of_their_shells_mean() -> None:
    invariants = RotationInvariants(MODEL, MODEL, "s")
    means = np.array([2.0, 0.5, 1e-3, -1e-5], np.float32)
    np.testing.assert_allclose(invariants.scales(means), [2.0, 0.5, 0.25, 0.25])


def test_too_few_directions_for_the_models_orders_are_refused() -> None:
    model, scan = (standard_table(directions=n, bvalue=600) for n in (30, 12))
    with pytest.raises(GradientError, match=r"^s has 12 directions at b=600, too few .* order 4; "):
        RotationInvariants(model, scan, "s")

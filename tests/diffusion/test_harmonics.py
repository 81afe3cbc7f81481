from __future__ import annotations

import numpy as np
import pytest
from dipy.data import get_sphere

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.harmonics import (
    MAX_ERROR,
    ShellFit,
    coefficients_of,
    degrees,
    fit_shells,
    harmonics,
    require_directions,
)
from qspace_nd.errors import GradientError
from tests.diffusion.tables import (
    joined,
    part,
    spread,
    voxels,
)


@pytest.mark.parametrize(
    ("directions", "order"), [(5, 0), (6, 2), (14, 2), (15, 4), (28, 6), (99, 8)]
)
def test_the_order_grows_with_the_directions(directions: int, order: int) -> None:
    fit = ShellFit(1000.0, np.arange(directions), np.zeros((directions, 3)))
    assert fit.order == order
    assert len(degrees(order)) == coefficients_of(order) <= directions


def test_harmonics_are_even_and_orthonormal_over_the_sphere() -> None:
    dense = get_sphere(name="repulsion724").vertices
    basis = harmonics(6, dense)
    assert basis.shape == (724, coefficients_of(6))
    np.testing.assert_allclose(basis, harmonics(6, -dense), atol=1e-12)
    np.testing.assert_allclose(4 * np.pi / 724 * basis.T @ basis, np.eye(28), atol=0.02)


def test_the_fit_is_penalised_least_squares() -> None:
    table = spread(30)
    (shell,) = fit_shells(table, "s").shells
    basis, order = harmonics(6, shell.directions), degrees(6)
    rows = np.diag(np.sqrt(30 * 0.006 / 60) * order * (order + 1))
    signal = np.random.default_rng(0).normal(size=30)
    naive = np.linalg.lstsq(np.vstack([basis, rows]), np.append(signal, np.zeros(28)), rcond=None)
    np.testing.assert_allclose(shell.matrix @ signal, naive[0], atol=1e-10)


def test_the_noise_of_a_shell_is_found_from_its_residual() -> None:
    table = spread(40)
    (shell,) = fit_shells(table, "s").shells
    noise = np.random.default_rng(0).normal(scale=0.05, size=(4000, len(table.bvals)))
    signal = (voxels(table, 4000) + noise).astype(np.float32)
    assert np.sqrt(shell.noise_variance(signal[:, shell.volumes])) == pytest.approx(0.05, rel=0.02)


def test_the_residual_is_a_share_of_b0_and_0_where_there_is_none() -> None:
    table = spread(40)
    fits = fit_shells(table, "s")
    flat = np.full((3, 43), 2.0, np.float32)
    flat[1, fits.shells[0].volumes] += np.tile([0.4, -0.4], 20)
    flat[2] = 0.0
    constant, noisy, empty = fits.residual(flat)
    assert (constant, empty) == (pytest.approx(0, abs=1e-6), 0.0)
    assert 0.1 < noisy <= 0.2


def noisy(table: GradientTable, number: int = 2000) -> np.ndarray:
    """Voxels with noise, in the numbers that a scanner stores."""
    noise = np.random.default_rng(0).normal(scale=0.05, size=(number, len(table.bvals)))
    return (700 * (voxels(table, number) + noise)).astype(np.float32)


def test_the_residual_is_that_of_double_precision_but_for_a_millionth_of_b0() -> None:
    table = joined(spread(30, 700), spread(40, 2000))
    fits, signal = fit_shells(table, "s"), noisy(table)
    exact = signal.astype(np.float64)
    squares = 0
    for shell in fits.shells:
        fitted = exact[:, shell.volumes] @ shell.at(shell.directions).T
        squares = squares + np.square(exact[:, shell.volumes] - fitted).sum(axis=1)
    expected = np.sqrt(squares / 70) / exact[:, fits.b0].mean(axis=1)
    np.testing.assert_allclose(fits.residual(signal), expected, rtol=0, atol=1e-6)


def test_the_residual_of_a_voxel_is_the_same_in_any_company() -> None:
    table = spread(40)
    fits, signal = fit_shells(table, "s"), noisy(table, 9000)
    whole = fits.residual(signal)
    order = np.random.default_rng(0).permutation(9000)
    np.testing.assert_array_equal(fits.residual(signal[order]), whole[order])
    for rows in (slice(0, 1), slice(3, 4100), slice(4095, 8193)):
        np.testing.assert_array_equal(fits.residual(signal[rows]), whole[rows])


def test_many_directions_in_one_plane_are_too_unevenly_spread() -> None:
    angles = np.arange(40) * np.pi / 40
    flat = np.stack([np.cos(angles), np.sin(angles), np.zeros(40)], axis=1)
    model = spread(40)
    scan = joined(part(model, model.b0), GradientTable(np.full(40, 1200.0), flat))
    with pytest.raises(GradientError, match="or spreads them too unevenly"):
        require_directions(fit_shells(scan, "s"), "s")


@pytest.mark.parametrize(("bvalue", "accepted"), [(929, True), (2500, True), (4000, False)])
def test_15_well_spread_directions_serve_up_to_b_2500(bvalue: float, accepted: bool) -> None:
    (shell,) = fit_shells(spread(15, bvalue), "s").shells
    assert (shell.typical_error <= MAX_ERROR) == accepted

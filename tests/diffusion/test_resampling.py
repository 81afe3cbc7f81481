from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.harmonics import (
    MAX_ERROR,
    ShellFit,
    coefficients_of,
    degrees,
    fit_shells,
    harmonics,
)
from qspace_nd.diffusion.resampling import Resampling
from qspace_nd.errors import GradientError
from qspace_nd.simulation.head import multi_tensor_signal, standard_table


def spread(directions: int, bvalue: float = 1200.0, unweighted: int = 3, seed: int = 0):
    """A table of evenly spread directions, turned at random."""
    table = standard_table(unweighted=unweighted, directions=directions, bvalue=bvalue)
    turn = Rotation.random(random_state=seed)
    return GradientTable(table.bvals, turn.apply(table.directions) * ~table.b0[:, None])


def joined(*tables: GradientTable) -> GradientTable:
    return GradientTable(
        np.concatenate([table.bvals for table in tables]),
        np.concatenate([table.directions for table in tables]),
    )


def part(table: GradientTable, volumes: np.ndarray) -> GradientTable:
    return GradientTable(table.bvals[volumes], table.directions[volumes])


def voxels(table: GradientTable, number: int = 300, seed: int = 0) -> np.ndarray:
    """Fibres, crossing fibres and isotropic tissue without noise: (number, C)."""
    rng = np.random.default_rng(seed)
    fractions = rng.dirichlet([0.6, 0.6, 0.6], number).astype(np.float32)
    axes = rng.normal(size=(number, 3, 3)).astype(np.float32)
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    along = np.tile(np.array([1.7e-3, 1.7e-3, 0.9e-3], np.float32), (number, 1))
    across = np.tile(np.array([0.3e-3, 0.3e-3, 0.9e-3], np.float32), (number, 1))
    return multi_tensor_signal(table, fractions, along, across, axes)


def scaled(signal: np.ndarray) -> np.ndarray:
    return signal / signal.mean(dtype=np.float64)


# --- The fit


@pytest.mark.parametrize(
    ("directions", "order"), [(5, 0), (6, 2), (14, 2), (15, 4), (28, 6), (99, 8)]
)
def test_the_order_grows_with_the_directions(directions: int, order: int) -> None:
    fit = ShellFit(1000.0, np.arange(directions), np.zeros((directions, 3)))
    assert fit.order == order
    assert len(degrees(order)) == coefficients_of(order) <= directions


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


# --- Resampling


@pytest.mark.parametrize("directions", [15, 20, 30, 60])
def test_the_signal_at_the_models_directions_is_close_to_what_it_would_have_been(
    directions: int,
) -> None:
    model, scan = spread(40), spread(directions, seed=1)
    found = Resampling(model, scan, "s")(voxels(scan))
    expected = voxels(model)
    error = found * expected.mean() - expected  # both are 1 at b=0
    assert np.sqrt(np.mean(error[:, ~model.b0] ** 2)) < 0.012
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.998


def test_the_map_is_linear_and_leaves_a_signal_that_is_the_same_everywhere() -> None:
    model, scan = spread(40, unweighted=6), spread(30, unweighted=2, seed=1)
    matrix = Resampling(model, scan, "s").matrix
    assert matrix.shape == (46, 32)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-4)
    np.testing.assert_array_equal(matrix[np.ix_(model.b0, scan.b0)], 0.5)  # averaged and repeated
    assert not matrix[np.ix_(model.b0, ~scan.b0)].any()
    assert not matrix[np.ix_(~model.b0, scan.b0)].any()


def test_30_and_60_directions_are_smoothed_alike() -> None:
    model = spread(40)
    few, many = (
        Resampling(model, scan, "s")(voxels(scan)) for scan in (spread(30, seed=1), spread(60))
    )
    np.testing.assert_allclose(few, many, atol=0.006)


def test_shells_are_resampled_one_by_one() -> None:
    model = joined(spread(30, 700), spread(40, 2000))
    scan = joined(spread(40, 2000, seed=3), spread(20, 700, seed=4))
    resampling = Resampling(model, scan, "s")
    assert [shell.b for shell in resampling.fits.shells] == [700, 2000]
    error = resampling(voxels(scan)) - scaled(voxels(model))
    assert np.abs(error).mean() < 0.02


def test_dropped_volumes_and_other_b0_volumes_make_little_difference() -> None:
    model = spread(40, unweighted=6)
    order = np.random.default_rng(0).permutation(46)
    for kept in (order[order != order[5]], np.append(order, 0), order[3:]):
        found = Resampling(model, part(model, kept), "s")(voxels(model)[:, kept])
        np.testing.assert_allclose(found, scaled(voxels(model)), atol=0.12)
        assert np.abs(found - scaled(voxels(model))).mean() < 0.015


def test_b_values_within_the_range_are_carried_as_if_the_signal_fell_exponentially() -> None:
    model, scan = spread(40, 1000), spread(40, 1090)
    diffusivities = np.array([[0.5e-3], [1e-3], [2e-3]])
    signal = (3 * np.exp(-scan.bvals * diffusivities)).astype(np.float32)
    expected = np.exp(-model.bvals * diffusivities)
    np.testing.assert_allclose(
        Resampling(model, scan, "s")(signal), expected / expected.mean(), rtol=2e-3
    )
    assert np.isfinite(Resampling(model, scan, "s")(signal - 1)).all()


# --- Refusals

MODEL = spread(40)


@pytest.mark.parametrize(
    ("model", "scan", "sentence"),
    [
        (spread(12, 1500), spread(12, 1500, seed=1), "too few directions at b=1500.* with its 12 "),
        (MODEL, spread(10), r"too few .* errs by 3\.9 % of b=0; expected at most 3 %, .* 15 well"),
        (MODEL, spread(40, 1400), "it lacks b=1200 and has b=1400, which the model has not"),
        (MODEL, joined(MODEL, spread(30, 2500)), "it has b=2500, which the model has not; expec"),
        (joined(MODEL, spread(30, 2500)), MODEL, "it lacks b=2500; expected .*30 at b=2500, found"),
        (MODEL, part(MODEL, ~MODEL.b0), r"no volume at b=0 \(40 at b=1200\), which a fit in spher"),
        (part(MODEL, ~MODEL.b0), MODEL, "the model has no channel at b=0 .* --gradients strict"),
    ],
)
def test_what_cannot_be_resampled_is_refused_in_a_sentence(
    model: GradientTable, scan: GradientTable, sentence: str
) -> None:
    with pytest.raises(GradientError, match=f"^s .*{sentence}"):
        Resampling(model, scan, "s")


def test_many_directions_in_one_plane_are_too_unevenly_spread() -> None:
    angles = np.arange(40) * np.pi / 40
    flat = np.stack([np.cos(angles), np.sin(angles), np.zeros(40)], axis=1)
    scan = joined(part(MODEL, MODEL.b0), GradientTable(np.full(40, 1200.0), flat))
    with pytest.raises(GradientError, match="or spreads them too unevenly"):
        Resampling(MODEL, scan, "s")


@pytest.mark.parametrize(("bvalue", "accepted"), [(929, True), (2500, True), (4000, False)])
def test_15_well_spread_directions_serve_up_to_b_2500(bvalue: float, accepted: bool) -> None:
    (shell,) = fit_shells(spread(15, bvalue), "s").shells
    assert (shell.typical_error <= MAX_ERROR) == accepted

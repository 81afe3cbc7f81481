from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.resampling import Resampling
from qspace_nd.errors import GradientError
from tests.diffusion.tables import (
    joined,
    part,
    spread,
    voxels,
)


def scaled(signal: np.ndarray) -> np.ndarray:
    return signal / signal.mean(dtype=np.float64)


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


def test_resampling_is_that_of_double_precision_but_for_rounding() -> None:
    model, scan = joined(spread(30, 700), spread(40, 2000)), spread(40, 730)
    scan = joined(scan, spread(40, 2000, seed=3))  # of one shell b is carried, of the other not
    resampling, signal = Resampling(model, scan, "s"), 700 * voxels(scan)
    exact = signal.astype(np.float64) @ resampling.matrix.T
    b0 = signal[:, resampling.fits.b0].mean(axis=1, dtype=np.float64)[:, None]
    share = np.where((model.bvals > 600) & (model.bvals < 800), 700 / 730 - 1, 0)
    exact *= (exact / b0).clip(0.01, 1) ** share
    np.testing.assert_allclose(resampling(signal), scaled(exact), rtol=0, atol=2e-6)


def test_the_result_takes_the_place_of_the_voxels_where_it_may() -> None:
    model, scan = spread(40), spread(40, 1230, seed=1)
    signal = voxels(scan)
    expected = Resampling(model, scan, "s")(signal)
    found = Resampling(model, scan, "s")(signal, overwrite=True)
    assert found is signal
    np.testing.assert_array_equal(found, expected)
    fewer = Resampling(model, spread(30), "s")(voxels(spread(30)), overwrite=True)
    assert fewer.shape == (300, 43)


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

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.harmonics import ShellFits, fit_shells
from qspace_nd.diffusion.outlying import FAR, LEAST, bad_volumes, modified_z
from qspace_nd.simulation.head import standard_table

VOXELS = 500


def table(unweighted: int = 6, directions: int = 30) -> GradientTable:
    return standard_table(unweighted=unweighted, directions=directions)


def uneven() -> GradientTable:
    """Directions at random, of which some are far from all others."""
    axes = np.random.default_rng(0).normal(size=(30, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    bvals = np.r_[np.zeros(6), np.full(30, 1000.0)]
    return GradientTable(bvals, np.r_[np.zeros((6, 3)), axes])


def signal(of: GradientTable, noise: float = 3.0) -> np.ndarray:
    """Fibres along random axes, 100 at b=0."""
    random = np.random.default_rng(1)
    axes = random.normal(size=(VOXELS, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    along = np.square(axes @ of.directions.T)
    clean = 100 * np.exp(-of.bvals * (0.3e-3 + 1.4e-3 * along))
    return (clean + noise * random.normal(size=clean.shape)).astype(np.float32)


@pytest.fixture
def fits() -> ShellFits:
    return fit_shells(table(), "scan")


def test_the_modified_z_of_a_far_value_is_that_of_iglewicz_and_hoaglin() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 100.0]  # median 3, MAD 1
    np.testing.assert_allclose(modified_z(values), 0.6745 * (np.array(values) - 3))


def test_what_differs_where_all_others_are_equal_is_infinitely_far() -> None:
    assert modified_z([2.0, 2.0, 2.0, 1.0, 3.0]).tolist() == [0, 0, 0, -np.inf, np.inf]


@given(st.lists(st.integers(-1000, 1000), min_size=1), st.integers(-99, 99), st.integers(1, 9))
def test_the_modified_z_knows_neither_origin_nor_unit(
    values: list[int], shift: int, scale: int
) -> None:
    moved = [scale * value + shift for value in values]
    np.testing.assert_allclose(modified_z(moved), modified_z(values))


@pytest.mark.parametrize("of", [table(), uneven()], ids=["even", "uneven"])
def test_good_volumes_are_not_bad(of: GradientTable) -> None:
    assert bad_volumes(fit_shells(of, "scan"), signal(of)).tolist() == []


@pytest.mark.parametrize("volume", [0, 7, 20])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_volume_that_lost_signal_is_bad_and_no_neighbour_of_it(
    volume: int, share: float, fits: ShellFits
) -> None:
    values = signal(table())
    values[:, volume] *= share
    assert bad_volumes(fits, values).tolist() == [volume]


def test_several_bad_volumes_are_found_and_a_few_slices_are_enough(fits: ShellFits) -> None:
    values = signal(table())
    values[:, 9] *= 0.5
    values[100:130, 15] = 0
    values[:, 33] += 20 * np.random.default_rng(2).normal(size=VOXELS)
    assert bad_volumes(fits, values).tolist() == [9, 15, 33]


def test_a_shell_of_few_volumes_has_no_bad_one() -> None:
    few = table(unweighted=LEAST - 1)
    values = signal(few)
    values[:, 0] *= 0.3
    assert bad_volumes(fit_shells(few, "scan"), values).tolist() == []


def test_the_limit_is_that_of_the_book() -> None:
    assert FAR == 3.5

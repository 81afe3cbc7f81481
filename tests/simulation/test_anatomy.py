from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qspace_nd.arrays import Field
from qspace_nd.errors import InputError
from qspace_nd.simulation.anatomy import Anatomy, lattice_points, smooth_field

LITRE = 1e6  # mm³


@pytest.fixture(scope="module")
def coarse() -> Anatomy:
    return Anatomy.of_icbm152(6.0)


def _field(shape: tuple[int, ...] = (2, 7, 8, 9)) -> Field:
    affine = np.diag([2.0, 3.0, 1.5, 1.0])
    affine[:3, 3] = [-5.0, 10.0, 0.0]
    return Field(np.random.default_rng(0).normal(size=shape).astype(np.float32), affine)


def test_a_field_gives_its_own_values_at_its_nodes():
    field = _field()
    at_nodes = field.at(lattice_points((7, 8, 9), field.affine))
    np.testing.assert_allclose(np.moveaxis(at_nodes, -1, 0), field.values, atol=1e-4)


def test_a_field_is_linear_between_two_nodes():
    field = _field()
    node, step = np.array([-1.0, 16.0, 3.0], np.float32), np.array([2.0, 0.0, 0.0], np.float32)
    a, b, c = field.at(np.stack([node, node + 0.25 * step, node + step]))
    np.testing.assert_allclose(b, 0.75 * a + 0.25 * c, atol=1e-5)


def test_the_gradient_of_a_linear_field_is_its_slope():
    affine = _field().affine
    slopes = np.array([[0.5, -1.0, 2.0], [0.0, 0.25, 1.0]])
    values = np.moveaxis(lattice_points((5, 6, 7), affine) @ slopes.T, -1, 0)
    gradient = Field(values.astype(np.float32), affine).gradient()
    expected = np.broadcast_to(slopes.reshape(6, 1, 1, 1), (6, 5, 6, 7))
    np.testing.assert_allclose(gradient.values, expected, atol=1e-4)


def test_averaging_over_three_nodes_is_the_mean_of_27_neighbours():
    field = Field(_field((1, 6, 7, 8)).values, np.eye(4))
    averaged = field.averaged(3.0).values[0]
    naive = field.values[0, 1:4, 2:5, 3:6].astype(np.float64).mean()
    assert averaged[2, 3, 4] == pytest.approx(naive, abs=1e-6)


@given(st.floats(1.0, 9.0))
def test_averaging_keeps_the_total(voxel_size):
    values = np.zeros((1, 31, 31, 31), np.float32)
    values[0, 15, 14, 16] = 1.0
    averaged = Field(values, np.eye(4)).averaged(voxel_size).values[0]
    assert averaged.sum() == pytest.approx(1.0, abs=1e-5)
    assert averaged.max() <= 1.0 / voxel_size**3 + 1e-6


def test_a_smooth_field_is_standard_normal_and_reproducible():
    values = smooth_field(np.random.default_rng(1), 2, length=20.0).values
    again = smooth_field(np.random.default_rng(1), 2, length=20.0).values
    np.testing.assert_allclose(values.std(axis=(1, 2, 3)), 1.0, atol=1e-3)
    assert np.array_equal(values, again)


@pytest.mark.parametrize("voxel_size", [3.5, 6.0])
def test_partial_volume_keeps_the_volumes_of_the_tissues(voxel_size):
    anatomy = Anatomy.of_icbm152(voxel_size)
    tissues = anatomy.tissues.at(anatomy.points()).astype(np.float64)
    white, grey, fluid = tissues.sum(axis=(0, 1, 2)) * voxel_size**3 / LITRE
    assert white == pytest.approx(0.65, abs=0.05)
    assert grey == pytest.approx(1.01, abs=0.05)
    assert fluid == pytest.approx(0.23, abs=0.05)


def test_the_fractions_of_a_voxel_are_at_most_one(coarse):
    tissues = coarse.tissues.at(coarse.points())
    assert tissues.min() >= -1e-5
    assert tissues.sum(axis=-1).max() <= 1 + 1e-4


def test_the_grid_is_las_and_holds_the_whole_brain(coarse):
    brain = coarse.tissues.at(coarse.points()).sum(axis=-1) > 0.5
    faces = [brain[0], brain[-1], brain[:, 0], brain[:, -1], brain[:, :, -1]]
    assert not any(face.any() for face in faces)
    np.testing.assert_array_equal(np.diag(coarse.affine), [-6, 6, 6, 1])


@pytest.mark.parametrize("voxel_size", [0.5, 11.0, float("nan")])
def test_an_odd_voxel_size_is_refused(voxel_size):
    with pytest.raises(InputError, match=r"voxel size is .* mm; choose one between 1 and 10 mm"):
        Anatomy.of_icbm152(voxel_size)

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qspace_nd.evaluation.axial import MOST, AxialSlices
from tests.evaluation.conftest import case_of, turned


def slices_of(mask: np.ndarray, interest: np.ndarray | None = None, **others: object):
    affine = others.get("affine", np.eye(4))
    return AxialSlices.of(affine, mask, np.zeros(mask.shape) if interest is None else interest)


def column(slices: int) -> np.ndarray:
    return np.ones((4, 5, slices), bool)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_of_few_slices_all_are_shown(count: int) -> None:
    assert slices_of(column(count)).indices == tuple(range(count))


@pytest.mark.parametrize("count", [10, 11, 17, 60, 256])
def test_of_many_nine_are_spread_over_the_brain(count: int) -> None:
    indices = slices_of(column(count)).indices
    assert len(indices) == MOST
    gaps = np.diff([-1, *indices, count])
    assert gaps.min() >= 1
    assert gaps.max() <= 2 * count / MOST + 1


def test_thin_ends_of_the_brain_get_no_slice_of_their_own() -> None:
    mask = np.zeros((20, 20, 60), bool)
    mask[9:11, 9:11] = True
    mask[:, :, 20:40] = True
    indices = np.array(slices_of(mask).indices)
    assert len(indices) == MOST
    assert ((indices >= 20) & (indices < 40)).sum() >= MOST - 2


def test_the_slice_of_most_interest_is_shown_and_its_neighbour_is_not() -> None:
    interest = np.zeros((4, 5, 90))
    interest[1, 1, 29] = 2.0  # at the border of two ninths
    interest[1, 1, 30] = 1.9
    interest[1, 1, 36] = 0.1
    interest[0, 0, 71] = 0.5
    indices = slices_of(column(90), interest).indices
    assert {29, 36, 71} <= set(indices)
    assert 30 not in indices


def test_slices_without_brain_are_never_shown() -> None:
    mask = column(30)
    mask[:, :, ::2] = False
    assert all(index % 2 for index in slices_of(mask).indices)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flipped", [(), (0,), (1, 2), (0, 1, 2)])
def test_slices_do_not_depend_on_how_the_volume_is_stored(order, flipped) -> None:
    affine = np.diag([2.0, 2.5, 4.0, 1.0])
    affine[:3, :3] = _rotation(0.2) @ affine[:3, :3]
    case = case_of()
    (mask, novelty), stored = turned([case.mask, case.novelty], affine, order, flipped)
    here = slices_of(case.mask, case.novelty, affine=affine)
    there = slices_of(mask, novelty, affine=stored)
    for one, other in zip(there.planes(novelty), here.planes(case.novelty), strict=True):
        np.testing.assert_array_equal(one, other)
    assert there.extent == pytest.approx(here.extent)
    assert there.heights == pytest.approx(here.heights)
    assert there.tilt == pytest.approx(here.tilt)


def test_the_front_is_up_and_the_patients_right_on_the_left() -> None:
    mask = np.zeros((14, 12, 3), bool)
    mask[2:-2, 2:-2] = True
    place = np.zeros(mask.shape)
    place[2, 9, 1] = 1  # with x rising to the right and y to the front: at the left, in front
    plane = list(slices_of(mask).planes(place))[1]
    ((row, column),) = np.argwhere(plane)
    assert row < plane.shape[0] / 2
    assert column > plane.shape[1] / 2


def test_voxels_keep_their_shape_and_heights_are_millimetres() -> None:
    affine = np.diag([1.0, 3.0, 2.0, 1.0])
    affine[2, 3] = -7
    slices = slices_of(case_of().mask, affine=affine)
    rows, columns = next(slices.planes(case_of().mask)).shape
    assert slices.size == (columns * 1.0, rows * 3.0)
    assert slices.heights == tuple(2.0 * index - 7 for index in slices.indices)
    assert slices.tilt == 0


@pytest.mark.parametrize("angle", [0.1, 0.4])
def test_the_tilt_is_told_in_degrees(angle: float) -> None:
    cos, sin = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[cos, -sin], [sin, cos]]
    assert slices_of(column(5), affine=affine).tilt == pytest.approx(np.degrees(angle))
    turn = np.eye(4)
    turn[:2, :2] = [[cos, -sin], [sin, cos]]  # within the slices
    assert slices_of(column(5), affine=turn).tilt == pytest.approx(0, abs=1e-5)


def _rotation(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ np.array(
        [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]
    )

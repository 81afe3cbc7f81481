from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.imaging.connected import connected, with_rim


def chain(*, gap: int) -> np.ndarray:
    """Three voxels that touch by their corners, and three more along an axis after a gap."""
    inside = np.zeros((12, 12, 12), bool)
    for at in range(3):
        inside[at, at, at] = inside[at, 2 + gap, 2] = True
    return inside


@pytest.mark.parametrize(("gap", "count"), [(1, 1), (7, 2)])
def test_voxels_that_touch_by_a_corner_are_connected(gap: int, count: int) -> None:
    numbers, found = connected(chain(gap=gap), least=1)
    assert found == count
    assert np.unique(numbers).tolist() == [*range(count + 1)]
    np.testing.assert_array_equal(numbers > 0, chain(gap=gap))


def test_parts_that_are_too_small_are_out_and_the_others_are_numbered_without_a_gap() -> None:
    inside = np.zeros((9, 3, 3), bool)
    inside[0, 0, :2] = inside[3, 1] = inside[3, 2, :2] = inside[7, 2] = inside[8, 2, 0:2] = True
    numbers, count = connected(inside)
    assert count == 2
    assert numbers[0, 0, 0] == 0
    assert (numbers[3, 1, 1], numbers[7, 2, 1]) == (1, 2)
    assert connected(inside, least=6)[1] == 0


def test_where_nothing_is_there_is_no_part() -> None:
    numbers, count = connected(np.zeros((2, 2, 2), bool))
    assert (count, numbers.max()) == (0, 0)


def test_the_rim_is_one_voxel_wide_at_corners_too() -> None:
    inside = np.zeros((5, 5, 5), bool)
    inside[2, 2, 2] = True
    assert with_rim(inside).sum() == 27

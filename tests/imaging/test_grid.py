from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qspace_nd.errors import GridError
from qspace_nd.imaging.grid import Grid, require_same_grid
from tests.imaging.small_scans import AFFINE, SHAPE, brain, in_storage


def moved(**places: float) -> np.ndarray:
    """The affine with its origin moved by so many mm."""
    affine = AFFINE.copy()
    for axis, shift in places.items():
        affine["xyz".index(axis), 3] += shift
    return affine


def test_a_grid_is_described_in_a_line() -> None:
    assert Grid(SHAPE, AFFINE).describe() == (
        "5 x 6 x 4 voxels of 2 x 2 x 3 mm, axes LAS, origin (9.00, -7.00, 5.00)"
    )


def test_a_grid_names_the_directions_that_its_axes_run_in() -> None:
    for axes in map("".join, itertools.product("LR", "PA", "IS")):
        for turned in map("".join, itertools.permutations(axes)):
            _, affine = in_storage(brain().astype(np.uint8), AFFINE, turned)
            assert f"axes {turned}," in Grid(SHAPE, affine).describe()
            sizes = [3.0 if axis in "IS" else 2.0 for axis in turned]
            np.testing.assert_allclose(Grid(SHAPE, affine).voxel_sizes, sizes)


@pytest.mark.parametrize(
    ("degrees", "told"),
    [(0.04, "LAS,"), (0.1, "LAS tilted by 0.1°,"), (-20, "LAS tilted by 20.0°,"), (70, "LSP tilt")],
)
def test_a_tilt_is_told_with_the_nearest_axes(degrees: float, told: str) -> None:
    turn = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    affine = nib.affines.from_matvec(turn @ AFFINE[:3, :3], AFFINE[:3, 3])
    assert f"axes {told}" in Grid(SHAPE, affine).describe()


@pytest.mark.parametrize(("shift", "same"), [(0.09, True), (0.11, False)])
def test_grids_are_the_same_where_corners_agree_within_5_percent_of_a_voxel(
    shift: float, same: bool
) -> None:
    assert Grid(SHAPE, AFFINE).same_as(Grid(SHAPE, moved(z=shift))) is same
    assert not Grid(SHAPE, AFFINE).same_as(Grid((5, 6, 5), AFFINE))


def test_a_small_turn_counts_by_what_it_moves_the_farthest_corner() -> None:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", 0.3, degrees=True).as_matrix()
    affine = AFFINE.copy()
    affine[:3, 3] = 0
    small, large = ((n, n, n) for n in (5, 50))
    assert Grid(small, affine).same_as(Grid(small, turn @ affine))
    assert not Grid(large, affine).same_as(Grid(large, turn @ affine))


def test_another_grid_is_refused_with_both() -> None:
    require_same_grid(Path("m.nii"), Grid(SHAPE, moved(x=0.05)), Grid(SHAPE, AFFINE))
    with pytest.raises(
        GridError,
        match=r"m\.nii lies on another grid than the scan: found 5 x 6 x 4 voxels of .*"
        r"origin \(9\.20, -7\.00, 5\.00\); expected 5 x 6 x 4 .*origin \(9\.00, ",
    ):
        require_same_grid(Path("m.nii"), Grid(SHAPE, moved(x=0.2)), Grid(SHAPE, AFFINE))

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import GradientError, GridError, ScanError
from qspace_nd.imaging.nifti import write_volume
from qspace_nd.imaging.scans import open_scan
from qspace_nd.imaging.voxels import read_voxels
from qspace_nd.layouts.companions import ScanFiles
from tests.imaging.small_scans import (
    AFFINE,
    SHAPE,
    brain,
    head,
    opened,
    save,
    table,
)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((5, 6), r"has the shape 5 x 6, a single volume; expected a 4-D scan"),
        ((5, 6, 4), r"has the shape 5 x 6 x 4, a single volume; expected a 4-D scan"),
        ((5, 6, 4, 1), r"has the shape 5 x 6 x 4(?: x 1)?, a single volume"),
        ((5, 6, 4, 1, 3), r"has the shape 5 x 6 x 4 x 1 x 3, 5 dimensions; expected 4 .*mrconvert"),
        ((5, 6, 4, 2, 3), r"5 dimensions; expected 4"),
    ],
)
def test_a_scan_of_other_than_four_dimensions_is_refused(
    tmp_path: Path, shape: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(ScanError, match=sentence):
        save(tmp_path, head(shape=shape))


def test_an_image_removed_after_it_was_found_is_named(tmp_path: Path) -> None:
    files = ScanFiles(tmp_path / "gone.nii", None, None, None, "gone", "gone")
    with pytest.raises(ScanError, match=r"gone\.nii does not exist"):
        open_scan(files)


def test_a_scan_with_one_of_two_gradient_files_is_refused(tmp_path: Path) -> None:
    scan = save(tmp_path, head(), mask=brain(), gradients=table())
    (tmp_path / "s.bvec").unlink()
    with pytest.raises(GradientError, match=r"s\.bval has no b-vectors that belong to it"):
        opened(scan.files.image)


def test_a_scan_without_b_values_is_taken_with_a_loud_warning(tmp_path: Path) -> None:
    scan = save(tmp_path, head(), mask=brain())
    assert scan.gradients is None
    assert len(scan.warnings) == 1
    assert "s.nii.gz HAS NO B-VALUES: " in scan.warnings[0]


def test_a_mask_of_several_volumes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ScanError, match=r"s_mask\.nii\.gz has the shape 5 x 6 x 4 x 5; expected a 3-D"
    ):
        save(tmp_path, head(), mask=head())


@pytest.mark.parametrize("moved", [(0.2, False), (0.05, True)])
def test_a_mask_on_another_grid_is_refused_with_both_grids(
    tmp_path: Path, moved: tuple[float, bool]
) -> None:
    shift, accepted = moved
    scan = save(tmp_path, head(), mask=brain())
    affine = AFFINE.copy()
    affine[0, 3] += shift
    nib.save(nib.Nifti1Image(brain().astype(np.uint8), affine), tmp_path / "s_mask.nii.gz")
    if accepted:
        assert read_voxels(open_scan(scan.files)).mask.sum() == 27
        return
    sentence = (
        r"s_mask\.nii\.gz lies on another grid than the scan: found 5 x 6 x 4 voxels of "
        r"2 x 2 x 3 mm, axes LAS, origin \(9\.20, -7\.00, 5\.00\); expected 5 x 6 x 4 voxels of "
        r"2 x 2 x 3 mm, axes LAS, origin \(9\.00, "
    )
    with pytest.raises(GridError, match=sentence):
        open_scan(scan.files)


def test_a_mask_of_another_shape_is_refused_with_both_grids(tmp_path: Path) -> None:
    with pytest.raises(GridError, match=r"found 6 x 6 x 4 voxels .* expected 5 x 6 x 4 voxels"):
        save(tmp_path, head(), mask=brain((6, 6, 4)))


def test_a_qform_unlike_the_sform_is_told_with_the_one_used(tmp_path: Path) -> None:
    image = nib.Nifti1Image(head(), AFFINE)
    other = AFFINE.copy()
    other[0, 3] += 10
    image.set_sform(AFFINE, 2)
    image.set_qform(other, 1)
    nib.save(image, tmp_path / "s.nii.gz")
    scan = opened(tmp_path / "s.nii.gz")
    assert "s.nii.gz has a qform unlike its sform; the sform is used" in scan.warnings[0]
    np.testing.assert_array_equal(scan.grid.affine, AFFINE)
    write_volume(tmp_path / "map.nii.gz", np.zeros(SHAPE), scan.grid)
    header = nib.load(tmp_path / "map.nii.gz").header
    np.testing.assert_allclose(header.get_qform(), other, atol=1e-5)
    np.testing.assert_allclose(header.get_sform(), AFFINE)


def test_a_scan_without_orientation_is_taken_with_a_warning(tmp_path: Path) -> None:
    image = nib.Nifti1Image(head(), None)
    image.header.set_zooms((2, 2, 3, 1))
    nib.save(image, tmp_path / "s.nii.gz")
    assert "has neither a qform nor an sform" in opened(tmp_path / "s.nii.gz").warnings[0]

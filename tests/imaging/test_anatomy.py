from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import ScanError
from qspace_nd.imaging.anatomy import MARGIN, near, read_anatomy
from qspace_nd.imaging.scans import open_scan
from qspace_nd.layouts.scans import find_scans


def write(folder: Path, volumes: np.ndarray, bvals: str | None = None) -> Path:
    path = folder / "scan.nii.gz"
    image = nib.Nifti1Image(volumes, np.diag([-2.0, 2.0, 2.0, 1.0]))
    image.header.set_slope_inter(0.5, 3.0)
    nib.save(image, path)
    if bvals is not None:
        (folder / "scan.bval").write_text(bvals)
        count = len(bvals.split())
        np.savetxt(folder / "scan.bvec", np.tile([[1.0], [0.0], [0.0]], count))
    return path


@pytest.mark.parametrize(("bvals", "number"), [("1000 0 1000 0", 1), (None, 0)])
def test_the_first_volume_at_b_0_is_read_or_the_first_channel(
    tmp_path: Path, bvals: str | None, number: int
) -> None:
    volumes = np.random.default_rng(0).integers(0, 900, (4, 5, 3, 4)).astype(np.int16)
    path = write(tmp_path, volumes, bvals)
    (files,) = find_scans([path])
    expected = nib.load(path).get_fdata()[..., number]
    np.testing.assert_allclose(read_anatomy(open_scan(files)), expected, atol=1e-3)


def test_a_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    volumes = np.random.default_rng(0).integers(0, 900, (14, 15, 13, 4)).astype(np.int16)
    path = write(tmp_path, volumes)
    scan = open_scan(find_scans([path])[0])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ScanError, match="is truncated or corrupt"):
        read_anatomy(scan)


def test_what_is_near_is_measured_in_millimetres() -> None:
    mask = np.zeros((21, 21, 21), bool)
    mask[10, 10, 10] = True
    around = near(mask, np.array([1.0, 2.0, 3.0]))
    assert [int(around[:, 10, 10].sum()), int(around[10, :, 10].sum())] == [9, 5]
    assert int(around[10, 10].sum()) == 3
    assert MARGIN == 4


def test_a_neighbour_is_near_however_large_voxels_are() -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 2] = True
    assert near(mask, np.array([8.0, 8.0, 8.0])).sum() == 7
    assert near(np.ones((2, 2, 2), bool), np.ones(3)).all()

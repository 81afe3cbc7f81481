from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.errors import ScanError
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.masks import read_mask
from qspace_nd.imaging.nifti import write_volume
from qspace_nd.imaging.voxels import read_voxels
from tests.imaging.small_scans import (
    AFFINE,
    SHAPE,
    brain,
    head,
    opened,
    save,
    table,
)

DATA = os.environ.get("QSPACE_ND_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="QSPACE_ND_DATA names no folder of real scans")


def test_a_mask_is_what_lies_above_one_half(tmp_path: Path) -> None:
    grid = Grid((2, 2, 2), AFFINE)
    values = np.array([0, 0.5, 0.51, 1, 1.1, 0.2, -0.1, np.nan], np.float32).reshape(2, 2, 2)
    write_volume(tmp_path / "m.nii.gz", values, grid)
    mask = read_mask(tmp_path / "m.nii.gz", grid)
    assert mask.marked.ravel().tolist() == [False, False, True, True, True, False, False, False]
    assert "those above 0.5 are taken as brain" in mask.notes[0]


def test_an_empty_mask_is_refused(tmp_path: Path) -> None:
    scan = save(tmp_path, head(), mask=brain() & False)
    with pytest.raises(ScanError, match=r"s_mask\.nii\.gz is an empty mask"):
        read_voxels(scan)


def test_a_mask_with_an_axis_of_one_behind_is_taken(tmp_path: Path) -> None:
    voxels = read_voxels(save(tmp_path, head(), mask=brain()[..., None]))
    np.testing.assert_array_equal(voxels.mask, brain())


def phantom() -> np.ndarray:
    """A bright ball in noise, with a bright eye beside it: two b=0 and three weighted volumes."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.arange(n) for n in (30, 32, 20)], indexing="ij")
    ball = ((x - 15) / 10) ** 2 + ((y - 15) / 11) ** 2 + ((z - 10) / 7) ** 2 <= 1
    eye = (x - 3) ** 2 + (y - 28) ** 2 + (z - 4) ** 2 <= 4
    signal = np.where(ball | eye, 800.0, 0.0)[..., None] * [1, 0.5, 0.5, 1, 0.3]
    return np.asarray(np.abs(signal + rng.normal(scale=20, size=signal.shape)), np.float32)


@pytest.mark.parametrize("gradients", [table(), None], ids=["b=0 volumes", "all volumes"])
def test_a_missing_mask_is_computed_and_told(
    tmp_path: Path, gradients: GradientTable | None
) -> None:
    data = phantom()
    data[0, 0, 0, 0] = np.nan
    coarse = np.diag([-6.0, 6, 6, 1])  # mm, as the ball is a head
    voxels = read_voxels(save(tmp_path, data, coarse, gradients=gradients))
    truth = data[..., 0] > 400
    assert voxels.computed_mask
    assert "has no brain mask beside it: one of" in voxels.warnings[0]
    overlap = 2 * (voxels.mask & truth).sum() / (voxels.mask.sum() + truth.sum())
    assert overlap > 0.95
    assert not voxels.mask[3, 28, 4]  # islands are no brain
    np.testing.assert_array_equal(voxels.values, data[voxels.mask])


def test_where_no_brain_is_found_a_mask_is_asked_for(tmp_path: Path) -> None:
    scan = save(tmp_path, np.full((*SHAPE, 5), 7, np.int16))
    with pytest.raises(ScanError, match=r"median_otsu finds no brain in it; .* --mask"):
        read_voxels(scan)


@needs_data
@pytest.mark.parametrize(
    ("name", "litres"),
    [
        ("uih/sub-A/dwi/sub-A_acq-PArot_dwi.nii.gz", (1.0, 1.4)),  # the slab ends above the eyes
        ("uih/sub-B/dwi/sub-B_acq-AP_dwi.nii.gz", (0.8, 1.2)),
        ("galan/sub-01/dwi/sub-01_acq-cor20_dwi.nii.gz", (1.3, 1.7)),
    ],
)
def test_a_computed_mask_of_a_real_head_holds_a_brain(
    name: str, litres: tuple[float, float]
) -> None:
    from scipy.ndimage import label

    voxels = read_voxels(opened(Path(str(DATA)) / name))
    volume = voxels.mask.sum() * voxels.scan.grid.voxel_sizes.prod() / 1e6
    assert litres[0] < volume < litres[1]
    assert label(voxels.mask)[1] == 1
    inside = voxels.values[:, 0].mean()
    assert inside > 100

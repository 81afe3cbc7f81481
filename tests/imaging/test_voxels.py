from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.matching import channel_order
from qspace_nd.errors import ArrayError, ScanError
from qspace_nd.imaging.voxels import Voxels, read_voxels
from tests.imaging.small_scans import (
    AFFINE,
    brain,
    head,
    in_storage,
    opened,
    save,
    table,
)

DATA = os.environ.get("QSPACE_ND_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="QSPACE_ND_DATA names no folder of real scans")


def by_position(voxels: Voxels) -> dict[tuple[float, ...], np.ndarray]:
    """Give each voxel's values by its place in the world."""
    places = nib.affines.apply_affine(voxels.scan.grid.affine, np.argwhere(voxels.mask))
    return dict(zip(map(tuple, places.round(2).tolist()), voxels.values, strict=True))


def test_the_voxels_of_the_mask_are_gathered_in_c_order(tmp_path: Path) -> None:
    data, mask = head(), brain()
    voxels = read_voxels(save(tmp_path, data, mask=mask, gradients=table()))
    np.testing.assert_array_equal(voxels.values, data[mask].astype(np.float32))
    np.testing.assert_array_equal(voxels.mask, mask)
    assert voxels.values.dtype == np.float32
    assert voxels.values.flags.c_contiguous
    assert not voxels.computed_mask
    assert voxels.warnings == ()


def test_scores_are_scattered_back_to_their_voxels(tmp_path: Path) -> None:
    data, mask = head(), brain()
    voxels = read_voxels(save(tmp_path, data, mask=mask))
    np.testing.assert_array_equal(voxels.fill(voxels.values[:, 2]), np.where(mask, data[..., 2], 0))
    assert voxels.fill(voxels.values[:, 2]).dtype == np.float32
    with pytest.raises(ArrayError, match=r"have the shape \(3,\); expected \(27,\)"):
        voxels.fill(np.zeros(3))


def test_channels_come_in_the_order_asked_for(tmp_path: Path) -> None:
    scan = save(tmp_path, head(), mask=brain(), gradients=table())
    order = np.array([3, 1, 4, 0, 2])
    plain, ordered = read_voxels(scan), read_voxels(scan, order=order)
    np.testing.assert_array_equal(ordered.values, plain.values[:, order])
    assert ordered.digest == plain.digest
    with pytest.raises(ArrayError, match=r"must hold each of 0 to 4 once; found \[0, 0"):
        read_voxels(scan, order=[0, 0, 1, 2, 3])


def test_one_head_stored_las_lps_and_ras_gives_the_same_voxels_and_directions(
    tmp_path: Path,
) -> None:
    data, mask = head(), brain()
    stored = {}
    for axes in ("LAS", "LPS", "RAS", "PSR"):
        turned, affine = in_storage(data, AFFINE, axes)
        turned_mask, _ = in_storage(mask.astype(np.uint8), AFFINE, axes)
        stored[axes] = read_voxels(
            save(tmp_path / axes, turned, affine, mask=turned_mask, gradients=table())
        )
    reference = by_position(stored["LAS"])
    bvecs = {axes: (tmp_path / axes / "s.bvec").read_text() for axes in stored}
    assert bvecs["LAS"] != bvecs["LPS"]
    assert bvecs["LAS"] == bvecs["RAS"]  # the flip of x in the image and in the convention cancel
    for axes, voxels in stored.items():
        assert "".join(nib.aff2axcodes(voxels.scan.grid.affine)) == axes
        gradients = voxels.scan.gradients
        assert gradients is not None
        np.testing.assert_allclose(gradients.directions, table().directions, atol=2e-6)
        found = by_position(voxels)
        assert found.keys() == reference.keys()
        for place, values in found.items():
            np.testing.assert_array_equal(values, reference[place])


def test_permuted_volumes_are_read_in_the_models_order(tmp_path: Path) -> None:
    data, order = head(), np.array([4, 2, 0, 1, 3])
    model = save(tmp_path / "model", data, mask=brain(), gradients=table())
    shuffled = GradientTable(table().bvals[order], table().directions[order])
    scan = save(tmp_path / "scan", data[..., order], mask=brain(), gradients=shuffled)
    assert model.gradients is not None
    assert scan.gradients is not None
    found = read_voxels(scan, order=channel_order(model.gradients, scan.gradients, "s"))
    np.testing.assert_array_equal(found.values, read_voxels(model).values)


def test_numbers_too_large_to_add_are_finite_but_too_bright(tmp_path: Path) -> None:
    data = head().astype(np.float32)
    data[2, 2, 2] = [3e38, 2e38, 3e38, 1e38, 3e38]
    with pytest.raises(ScanError, match=r"1 voxel in its mask .* \(2, 2, 2\) with 3e\+38 in vol"):
        read_voxels(save(tmp_path, data, mask=brain()))


def test_progress_is_told_of_every_volume(tmp_path: Path) -> None:
    steps: list[object] = []

    class Heard:
        def task(self, name: str, total: int) -> Heard:
            steps.append((name, total))
            return self

        def __enter__(self) -> Heard:
            return self

        def __exit__(self, *_: object) -> None:
            steps.append("done")

        def advance(self, count: int = 1, note: str = "") -> None:
            steps.append(count)

        def say(self, message: str) -> None: ...

        def warn(self, message: str) -> None: ...

    read_voxels(save(tmp_path, head(), mask=brain()), progress=Heard())
    assert steps == [("Reading s", 5), 1, 1, 1, 1, 1, "done"]


def test_voxels_without_signal_at_b0_are_left_out_and_counted(tmp_path: Path) -> None:
    data, mask = head().astype(np.float32), brain()
    data[1, 1, 1, [0, 3]] = 0
    data[2, 2, 2, [0, 3]] = -4, 3
    data[3, 3, 3, 0] = 0  # the other b=0 volume shows signal
    voxels = read_voxels(save(tmp_path, data, mask=mask, gradients=table()))
    mask[1, 1, 1] = mask[2, 2, 2] = False
    np.testing.assert_array_equal(voxels.mask, mask)
    np.testing.assert_array_equal(voxels.values, data[mask])
    assert (
        "2 of the 27 voxels of its mask are left out, as they have no signal" in voxels.warnings[0]
    )


def test_without_b_values_voxels_of_zeros_are_left_out(tmp_path: Path) -> None:
    data, mask = head(), brain()
    data[1, 1, 1] = 0
    data[2, 2, 2, :4] = 0
    voxels = read_voxels(save(tmp_path, data, mask=mask))
    assert len(voxels.values) == 26


def test_values_that_are_not_finite_are_counted_and_can_be_left_out(tmp_path: Path) -> None:
    data, mask = head().astype(np.float32), brain()
    data[0, 0, 0] = np.nan  # outside the mask
    data[1, 1, 1, 2:4] = np.nan, np.inf
    data[2, 2, 2, 0] = -np.inf
    scan = save(tmp_path, data, mask=mask, gradients=table())
    with pytest.raises(
        ScanError, match=r"3 NaN or infinite values in 2 of the 27 vo.*--ignore-non"
    ):
        read_voxels(scan)
    voxels = read_voxels(scan, ignore_nonfinite=True)
    mask[1, 1, 1] = mask[2, 2, 2] = False
    np.testing.assert_array_equal(voxels.mask, mask)
    np.testing.assert_array_equal(voxels.values, data[mask])
    assert len(voxels.warnings) == 1
    assert "2 of the 27 voxels of its mask are left out, as they hold NaN" in voxels.warnings[0]


def test_negative_values_are_kept_and_counted(tmp_path: Path) -> None:
    data, mask = head(), brain()
    data[1, 1, 1, 1:3] = -5
    voxels = read_voxels(save(tmp_path, data, mask=mask, gradients=table()))
    np.testing.assert_array_equal(voxels.values, data[mask])
    assert "2 values inside its mask (1.5 %) are negative" in voxels.warnings[0]


def change(**channels: float) -> np.ndarray:
    data = head().astype(np.float32)
    for name, value in channels.items():
        data[..., int(name[1:])] = value
    return data


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (change(v2=0), r"constant over its mask: 2 \(always 0\) \(counted from 0\)"),
        (change(v1=7, v4=-1.5), r"constant over its mask: 1 \(always 7\), 4 \(always -1.5\)"),
        (change(v0=0, v3=0), r"no voxel with signal inside its mask"),
        (head() * 0, r"no voxel with signal inside its mask"),
        (
            head() - np.float32([0, 9999, 9999, 0, 9999]),
            r"a mean of -\d+ over its mask; expected a pos",
        ),
    ],
)
def test_a_scan_without_usable_signal_is_refused(
    tmp_path: Path, data: np.ndarray, sentence: str
) -> None:
    scan = save(tmp_path, data, mask=brain(), gradients=table())
    with pytest.raises(ScanError, match=sentence):
        read_voxels(scan)


def test_a_constant_channel_is_named_by_its_volume_in_the_file(tmp_path: Path) -> None:
    scan = save(tmp_path, change(v2=0), mask=brain(), gradients=table())
    with pytest.raises(ScanError, match=r"mask: 2 \(always 0\)"):
        read_voxels(scan, order=[3, 2, 1, 0, 4])


@needs_data
def test_a_real_oblique_scan_is_read_as_nibabel_reads_it() -> None:
    path = Path(str(DATA)) / "uih/sub-A/dwi/sub-A_acq-PArot_dwi.nii.gz"
    voxels = read_voxels(opened(path))
    whole = np.asanyarray(nib.load(path).dataobj)
    np.testing.assert_array_equal(voxels.values, whole[voxels.mask].astype(np.float32))
    assert "tilted by 25" in voxels.scan.grid.describe()


@needs_data
def test_a_real_multi_contrast_volume_is_read_without_gradients() -> None:
    scan = opened(Path(str(DATA)) / "ms" / "patient07_multicontrast.nii.gz")
    assert scan.files.mask is not None
    assert scan.files.mask.name == "patient07_desc-brain_mask.nii.gz"
    voxels = read_voxels(scan)
    assert voxels.values.shape[1] == 4
    assert voxels.scan.grid.sform_code == 2

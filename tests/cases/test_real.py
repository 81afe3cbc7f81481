"""Real scans of four makers, of the folder QSPACE_ND_DATA: no false alarm, no silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Run

GOOD = [
    "real/toshiba/7006_DTI_ortho",
    "real/toshiba/9006_DTI_COR_20d",
    "real/philips_slope/WIP_dti_ax_601",
    "real/decub/HFS_ep2d_diff_mddw_20_p2",
    "real/decub/HFDL_ep2d_diff_mddw_20_p2",
    "uih/sub-A/dwi/sub-A_acq-PArot_dwi",
    "galan/sub-01/dwi/sub-01_acq-ortho_dwi",
]


@pytest.mark.parametrize("name", GOOD)
def test_flips_of_real_scans_are_told_and_good_ones_are_not(
    name: str, real_scans: Path, tmp_path: Path, call: Run
) -> None:
    source = real_scans / name
    for ending in (".nii.gz", ".bval", ".bvec"):
        shutil.copyfile(source.with_name(source.name + ending), tmp_path / f"scan{ending}")
    good = call("check scan.nii.gz", tmp_path)
    assert good.status == 0, good.stdout
    assert "fits the scan less" not in good.stdout
    vectors = np.loadtxt(tmp_path / "scan.bvec")
    np.savetxt(tmp_path / "scan.bvec", vectors * [[1], [-1], [1]], fmt="%.6f")
    flipped = call("check scan.nii.gz", tmp_path).stdout
    assert "scan.bvec fits the scan less than the same b-vectors with y flipped" in flipped
    np.savetxt(tmp_path / "scan.bvec", np.roll(vectors, 1, axis=1), fmt="%.6f")
    np.savetxt(
        tmp_path / "scan.bval", np.roll(np.loadtxt(tmp_path / "scan.bval"), 1)[None], fmt="%g"
    )
    shifted = call("check scan.nii.gz", tmp_path)
    assert shifted.status == 2
    assert "expected the signal to fall with the b-value" in shifted.stdout


def test_a_head_that_is_turned_in_the_scanner_is_of_the_same_protocol(
    real_scans: Path, tmp_path: Path, call: Run
) -> None:
    folder = real_scans / "real/decub"
    fitted = call(f"fit {folder}/HFS_ep2d_diff_mddw_20_p2.nii.gz --epochs 1", tmp_path)
    assert fitted.status == 0, fitted.stderr
    turned = f"{folder}/HFDL_ep2d_diff_mddw_20_p2.nii.gz"
    mapped = call(f"map {turned} -o map.nii.gz", tmp_path)
    assert mapped.status == 0, mapped.stderr
    assert "is unlike the scans" not in mapped.stderr


def test_a_slab_that_is_tilted_is_mapped_where_the_angle_is_allowed(
    real_scans: Path, tmp_path: Path, call: Run
) -> None:
    folder = real_scans / "real/toshiba"
    assert call(f"fit {folder}/7006_DTI_ortho.nii.gz --epochs 1", tmp_path).status == 0
    tilted = f"{folder}/9006_DTI_COR_20d.nii.gz -o map.nii.gz"
    refused = call(f"map {tilted}", tmp_path)
    assert refused.status == 2
    assert "or allow more with --max-angle 21." in refused.stderr
    assert not list(tmp_path.glob("map*"))
    assert call(f"map {tilted} --max-angle 21", tmp_path).status == 0

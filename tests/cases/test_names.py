"""Names that are nearly BIDS, or FSL's, as users have them: whose a scan and its files are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.scans import save_mask, save_scan
from tests.conftest import Run


@pytest.mark.parametrize("label", ["HC_0{}", "HC-0{}", "Müller_{}", "HC_0{}_ses-1"])
def test_each_person_has_a_mask_of_their_own(label: str, tmp_path: Path, call: Run) -> None:
    names = [f"sub-{label.format(k)}" for k in (1, 2, 3)]
    sizes = []
    for k, name in enumerate(names):
        save_scan(tmp_path / f"{name}_dwi.nii.gz", k)
        sizes.append(save_mask(tmp_path / f"{name}_mask.nii.gz", 0.9 - 0.1 * k))
    done = call("check sub-*_dwi.nii.gz", tmp_path)
    assert (done.status, done.stderr.count("Traceback")) == (0, 0)
    for name, size in zip(names, sizes, strict=True):
        person = name.removesuffix("_ses-1") if "-0" in name else name
        assert f"Subject {person};" in done.stdout
        assert f"{size:,} voxels with signal in the mask {name}_mask.nii.gz" in done.stdout


def test_scans_of_a_study_that_is_called_as_a_subject_are_of_its_people(
    tmp_path: Path, call: Run
) -> None:
    for k in (1, 2):
        save_scan(tmp_path / f"sub-study/P{k}/dwi.nii.gz", k)
        save_mask(tmp_path / f"sub-study/P{k}/dwi_mask.nii.gz")
    done = call("check sub-study/P1/dwi.nii.gz sub-study/P2/dwi.nii.gz", tmp_path)
    assert done.status == 0
    assert "Subject P1;" in done.stdout and "Subject P2;" in done.stdout


@pytest.mark.parametrize(
    ("image", "ends", "mask"),
    [
        ("P1/dwi.nii.gz", ("bvals", "bvecs"), "nodif_brain_mask.nii.gz"),
        ("P1/P1.nii.gz", ("bvals", "bvecs"), "nodif_brain_mask.nii.gz"),
        ("P1/dwi_eddy.nii.gz", ("BVALS", "BVECS"), "nodif_brain_mask.NII.GZ"),
        ("P1/SCAN.NII.GZ", (".BVAL", ".BVEC"), "SCAN_MASK.NII.GZ"),
    ],
)
def test_files_are_found_by_fsls_names_and_in_capitals(
    image: str, ends: tuple[str, str], mask: str, tmp_path: Path, call: Run
) -> None:
    save_scan(tmp_path / image, ends=ends)
    size = save_mask(tmp_path / "P1" / mask)
    done = call(f"check {image}", tmp_path)
    assert done.status == 0
    assert "Subject P1;" in done.stdout
    assert "14 channels: 2 at b=0, 12 at b=1000" in done.stdout
    assert f"{size:,} voxels with signal in the mask P1/{mask}" in done.stdout


def test_three_people_are_fitted_as_three_and_mapped_without_their_own(
    tmp_path: Path, call: Run
) -> None:
    for k in (1, 2, 3):
        save_scan(tmp_path / f"h/sub-HC-0{k}_dwi.nii.gz", k)
        save_mask(tmp_path / f"h/sub-HC-0{k}_dwi_mask.nii.gz")
    assert call("fit h --epochs 1", tmp_path).status == 0
    done = call("map h/sub-HC-01_dwi.nii.gz -o o.nii.gz", tmp_path)
    assert done.status == 0, done.stderr
    assert '"LeftOut": "sub-HC-01"' in (tmp_path / "o.json").read_text()

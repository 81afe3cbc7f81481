from __future__ import annotations

from pathlib import Path

import pytest

from tests.layouts.files import only, touch


def test_gradients_and_mask_are_found_beside_a_plain_file(tmp_path: Path) -> None:
    image, bval, bvec, mask = touch(
        tmp_path, "patient.nii.gz", "patient.bval", "patient.bvec", "patient_mask.nii.gz"
    )
    scan = only(image)
    assert (scan.image, scan.bval, scan.bvec, scan.mask) == (image, bval, bvec, mask)
    assert (scan.subject, scan.name, scan.entities) == ("patient", "patient", {})


def test_a_scan_alone_has_none_of_them(tmp_path: Path) -> None:
    scan = only(*touch(tmp_path, "patient.nii"))
    assert (scan.bval, scan.bvec, scan.mask) == (None, None, None)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("p1.nii.gz", "p1_mask.nii.gz"),
        ("p1.nii.gz", "p1_brain_mask.nii"),
        ("p1_dwi.nii.gz", "p1_mask.nii.gz"),
        ("p1_dwi.nii.gz", "p1_dwi_mask.nii.gz"),
        ("p1_contrasts.nii.gz", "p1_desc-brain_mask.nii.gz"),
        ("data.nii.gz", "nodif_brain_mask.nii.gz"),
        ("sub-1_dwi.nii.gz", "sub-1_desc-brain_mask.nii.gz"),
        ("sub-1_dwi.nii.gz", "sub-1_mask.nii.gz"),
        ("sub-1_dwi.nii.gz", "sub-1_dwi_mask.nii.gz"),
        ("sub-1_ses-2_run-1_dwi.nii.gz", "sub-1_ses-2_run-1_desc-brain_mask.nii.gz"),
        ("sub-1_space-T1w_desc-preproc_dwi.nii.gz", "sub-1_space-T1w_desc-brain_mask.nii.gz"),
        ("sub-1_desc-preproc_dwi.nii.gz", "sub-1_desc-preproc_mask.nii.gz"),
    ],
)
def test_a_mask_is_found_by_its_name(tmp_path: Path, image: str, mask: str) -> None:
    scan, mask_path = touch(tmp_path, image, mask)
    assert only(scan).mask == mask_path


@pytest.mark.parametrize(
    ("image", "other"),
    [
        ("p1.nii.gz", "p10_mask.nii.gz"),
        ("p1.nii.gz", "nodif_brain_mask.nii.gz"),
        ("sub-1_dwi.nii.gz", "sub-1_desc-lesion_mask.nii.gz"),
        ("sub-1_dwi.nii.gz", "sub-1_label-lesion_mask.nii.gz"),
        ("sub-1_dwi.nii.gz", "sub-1_space-MNI_desc-brain_mask.nii.gz"),
        ("sub-1_run-1_dwi.nii.gz", "sub-1_run-2_desc-brain_mask.nii.gz"),
        ("sub-1_dwi.nii.gz", "sub-10_desc-brain_mask.nii.gz"),
    ],
)
def test_a_mask_of_something_else_is_not_taken(tmp_path: Path, image: str, other: str) -> None:
    scan, _ = touch(tmp_path, image, other)
    assert only(scan).mask is None


def test_a_brain_mask_is_preferred_to_others(tmp_path: Path) -> None:
    image, _, brain = touch(
        tmp_path, "sub-1_dwi.nii.gz", "sub-1_mask.nii.gz", "sub-1_desc-brain_mask.nii.gz"
    )
    assert only(image).mask == brain


def test_a_mask_among_the_datasets_derivatives_is_found(tmp_path: Path) -> None:
    name = "sub-1/ses-2/dwi/sub-1_ses-2"
    image, mask, _ = touch(
        tmp_path,
        f"{name}_dwi.nii.gz",
        f"derivatives/masks/{name}_desc-brain_mask.nii.gz",
        f"derivatives/other/{name}_space-T1w_desc-brain_mask.nii.gz",
    )
    assert only(image).mask == mask


def test_bids_inheritance_takes_the_nearest_gradients(tmp_path: Path) -> None:
    image, bval, bvec, _, _ = touch(
        tmp_path,
        "sub-1/dwi/sub-1_acq-a_run-1_dwi.nii.gz",
        "dwi.bval",
        "sub-1/sub-1_acq-a_dwi.bvec",
        "sub-1/sub-1_acq-b_dwi.bvec",
        "acq-a_dwi.bvec",
    )
    scan = only(image)
    assert scan.bval == bval
    assert scan.bvec == bvec


@pytest.mark.parametrize(
    ("path", "subject", "name"),
    [
        ("sub-07/dwi/scan7.nii.gz", "sub-07", "scan7"),
        ("healthy/sub-07.nii.gz", "sub-07", "sub-07"),
        ("sub-out/a/b/healthy/c.nii.gz", "c", "c"),
        ("p3/dwi.nii.gz", "p3", "p3"),
        ("p3_dwi.nii.gz", "p3", "p3"),
        ("100307/T1w/Diffusion/data.nii.gz", "100307", "100307"),
        ("p3/eddy_corrected.nii.gz", "p3", "p3"),
        ("p3/eddy_p9.nii.gz", "eddy_p9", "eddy_p9"),
    ],
)
def test_a_scan_is_named_after_what_tells_it_from_others(
    tmp_path: Path, path: str, subject: str, name: str
) -> None:
    scan = only(*touch(tmp_path, path))
    assert (scan.subject, scan.name) == (subject, name)


def test_a_relative_path_is_kept_and_its_folder_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "p3/data.nii.gz", "p3/bvals", "p3/bvecs")
    monkeypatch.chdir(tmp_path / "p3")
    scan = only(Path("data.nii.gz"))
    assert scan.image == Path("data.nii.gz")
    assert scan.bvec == Path("bvecs")
    assert scan.subject == "p3"


def test_rotated_b_vectors_are_preferred_for_the_output_of_eddy(tmp_path: Path) -> None:
    image, bvals, _, rotated, _, _ = touch(
        tmp_path,
        *("eddy_corrected.nii.gz", "bvals", "bvecs", "eddy_corrected.eddy_rotated_bvecs"),
        *("eddy_corrected.eddy_cnr_maps.nii.gz", "eddy_corrected.eddy_outlier_free_data.nii.gz"),
    )
    scan = only(tmp_path)
    assert (scan.image, scan.bval, scan.bvec) == (image, bvals, rotated)

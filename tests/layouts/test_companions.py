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
        ("sub-HC_02_dwi.nii.gz", "sub-HC_02_mask.nii.gz"),
        ("sub-HC_02.nii.gz", "sub-HC_02_desc-brain_mask.nii.gz"),
        ("sub-HC-01_ses-1_dwi.nii.gz", "sub-HC-01_ses-1_dwi_mask.nii.gz"),
        ("sub-Müller_dwi.nii.gz", "sub-Müller_mask.nii.gz"),
        ("Patient 1.nii.gz", "Patient 1_mask.nii.gz"),
        ("SCAN1.NII.GZ", "SCAN1_MASK.NII.GZ"),
        ("p1.nii.gz", "p1_Brain_Mask.nii"),
        ("dwi.nii.gz", "nodif_brain_mask.nii.gz"),
        ("p1.nii.gz", "nodif_brain_mask.nii.gz"),
    ],
)
def test_a_mask_is_found_by_its_name(tmp_path: Path, image: str, mask: str) -> None:
    scan, mask_path = touch(tmp_path, image, mask)
    assert only(scan).mask == mask_path


@pytest.mark.parametrize(
    ("image", "other"),
    [
        ("p1.nii.gz", "p10_mask.nii.gz"),
        ("p1.nii.gz", "nodif_brain_mask_p2.nii.gz"),
        ("p1_dwi.nii.gz", "p1_T1w_mask.nii.gz"),
        ("sub-1_dwi.nii.gz", "sub-1_T1w_mask.nii.gz"),
        ("sub-HC_02_dwi.nii.gz", "sub-HC_01_mask.nii.gz"),
        ("sub-HC_02_dwi.nii.gz", "sub-HC_desc-brain_mask.nii.gz"),
        ("sub-HC_02.nii.gz", "sub-HC_desc-brain_mask.nii.gz"),
        ("sub-HC-02_dwi.nii.gz", "sub-HC_mask.nii.gz"),
        ("sub-1_run-1_run-2_dwi.nii.gz", "sub-1_run-2_desc-brain_mask.nii.gz"),
        ("sub-1_part-mag_dwi.nii.gz", "sub-1_desc-brain_mask.nii.gz"),
        ("patient_07.nii.gz", "patient_desc-brain_mask.nii.gz"),
        ("Scan1.nii.gz", "scan1_mask.nii.gz"),
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
        ("p3/ses-1/dwi/dwi.nii.gz", "p3", "p3_ses-1"),
        ("p3/visit2/DWI_denoised.nii.gz", "p3", "p3_visit2"),
        ("sub-1/ses-2/data.nii.gz", "sub-1", "sub-1_ses-2"),
        ("sub-study/P1/dwi.nii.gz", "P1", "P1"),
        ("sub-study/P1.nii.gz", "P1", "P1"),
        ("sub-HC_01_dwi.nii.gz", "sub-HC_01", "sub-HC_01"),
        ("sub-HC_01.nii.gz", "sub-HC_01", "sub-HC_01"),
        ("sub-HC_anna.nii.gz", "sub-HC_anna", "sub-HC_anna"),
        ("sub-HC-01_dwi.nii.gz", "sub-HC-01", "sub-HC-01"),
        ("sub-HC-01_ses-1_dwi.nii.gz", "sub-HC-01", "sub-HC-01_ses-1"),
        ("sub-HC_01/dwi/sub-HC_01_ses-1_dwi.nii.gz", "sub-HC_01", "sub-HC_01_ses-1"),
        ("sub-HC/sub-HC_01_dwi.nii.gz", "sub-HC_01", "sub-HC_01"),
        ("sub-Müller_run-1_dwi.nii.gz", "sub-Müller", "sub-Müller_run-1"),
        ("SUB-01_DWI.nii.gz", "SUB-01", "SUB-01"),
        ("sub-1_contrasts.nii.gz", "sub-1", "sub-1_contrasts"),
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


@pytest.mark.parametrize(
    ("image", "bval", "bvec"),
    [
        ("SCAN1.NII.GZ", "SCAN1.BVAL", "SCAN1.bvec"),
        ("p1.nii.gz", "p1.bvals", "p1.BVECS"),
        ("dwi.nii.gz", "bvals", "bvecs"),
        ("p1.nii.gz", "BVALS", "BVECS"),
        ("sub-1_dwi.nii.gz", "bval", "bvec"),
        ("sub-1_acq-a_dwi.nii.gz", "acq-a_dwi.BVAL", "sub-1_dwi.bvec"),
    ],
)
def test_gradients_are_found_by_their_names(
    tmp_path: Path, image: str, bval: str, bvec: str
) -> None:
    files = touch(tmp_path / "sub-1" / "dwi", image, bval, bvec)
    scan = only(files[0])
    assert [scan.bval, scan.bvec] == files[1:]


@pytest.mark.parametrize(
    ("image", "other"),
    [
        ("sub-1_dwi.nii.gz", "Group_A_dwi.bval"),
        ("sub-1_dwi.nii.gz", "sub-HC_1_dwi.bval"),
        ("sub-1_dwi.nii.gz", "acq-a_dwi.bval"),
        ("sub-HC-1_dwi.nii.gz", "sub-HC_dwi.bval"),
        ("Scan1.nii.gz", "scan1.bval"),
    ],
)
def test_gradients_of_something_else_are_not_taken(tmp_path: Path, image: str, other: str) -> None:
    scan, _ = touch(tmp_path / "sub-1" / "dwi", image, other)
    assert only(scan).bval is None


def test_what_is_called_the_same_everywhere_is_of_a_scan_that_is_alone(
    tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    first, _, *_ = touch(tmp_path, "p1.nii.gz", "p2.nii.gz", "bvals", "bvecs", "p2.bval")
    scan = only(first)
    assert (scan.bval, scan.bvec) == (None, None)
    assert heard.messages == [
        f"{first} has files beside it that do not say whose they are, and are not taken: bvals, "
        f"bvecs; name them with --bval, --bvec and --mask, or give them the scan's name."
    ]


def test_a_short_name_is_of_the_scan_that_has_it(tmp_path: Path) -> None:
    long, short, mask = touch(tmp_path, "p1_dwi.nii.gz", "p1.nii.gz", "p1_mask.nii.gz")
    assert only(long).mask is None
    assert only(short).mask == mask


def test_a_mask_of_the_word_in_front_is_of_the_one_scan_with_it(tmp_path: Path) -> None:
    anna, mask = touch(tmp_path, "study_anna.nii.gz", "study_desc-brain_mask.nii.gz")
    assert only(anna).mask == mask
    touch(tmp_path, "study_bert.nii.gz")
    assert only(anna).mask is None

from __future__ import annotations

from pathlib import Path

import pytest

from qspace_nd.errors import GradientError, InputError, ScanError
from qspace_nd.layouts.scans import find_scans
from tests.layouts.files import only, touch


def test_a_folder_in_fsls_layout_is_one_scan(tmp_path: Path) -> None:
    image, bvals, bvecs, mask, *_ = touch(
        tmp_path,
        *("data.nii.gz", "bvals", "bvecs", "nodif_brain_mask.nii.gz"),
        *("nodif.nii.gz", "nodif_brain.nii.gz", "dti_FA.nii.gz", "dti_V1.nii.gz"),
    )
    scan = only(tmp_path)
    assert (scan.image, scan.bval, scan.bvec, scan.mask) == (image, bvals, bvecs, mask)


def test_a_folder_of_fsl_folders_is_as_many_scans(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{person}/{name}" for person in "ab" for name in ("data.nii.gz", "bvals")))
    assert [scan.subject for scan in find_scans([tmp_path])] == ["a", "b"]


def test_a_bids_dataset_is_all_its_scans_and_no_derivatives(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "dataset_description.json",
        "sub-1/dwi/sub-1_dwi.nii.gz",
        "sub-1/anat/sub-1_T1w.nii.gz",
        "sub-2/ses-1/dwi/sub-2_ses-1_dwi.nii.gz",
        "derivatives/prep/sub-1/dwi/sub-1_desc-preproc_dwi.nii.gz",
        "derivatives/prep/sub-1/dwi/sub-1_desc-brain_mask.nii.gz",
        "derivatives/prep/sub-1/dwi/sub-1_model-eddy_stat-cnr_dwimap.nii.gz",
    )
    assert [s.name for s in find_scans([tmp_path])] == ["sub-1", "sub-2_ses-1"]
    assert [s.subject for s in find_scans([tmp_path / "sub-2"])] == ["sub-2"]
    prep = find_scans([tmp_path / "derivatives" / "prep"])
    assert [s.name for s in prep] == ["sub-1_desc-preproc"]


def test_a_folder_of_plain_images_is_all_its_scans(
    tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.nii.gz", "b.nii", "a_mask.nii.gz", "a.bval", "notes.txt")
    assert [scan.name for scan in find_scans([tmp_path])] == ["a", "b"]
    assert heard.messages == ["Taken as the masks of their scans: a_mask.nii.gz."]


def test_masks_and_derivatives_that_a_glob_matches_are_noted_and_never_read(
    tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    paths = touch(
        tmp_path,
        *("a.nii.gz", "a_mask.nii.gz", "b.nii.gz", "b_brain_mask.nii.gz", "c_mask.nii.gz"),
        *("a_dwiref.nii.gz", "a_cnr.nii.gz", "a_tsnr.nii.gz", "a_FA.nii.gz", "dti_MD.nii.gz"),
        *("a_param-latentDistance_dwimap.nii.gz", "novelty.nii.gz", "lesions.nii.gz"),
        *("novelty_latent-distance.nii.gz", "novelty_mask.nii.gz", "a_sbref.nii.gz"),
    )
    assert [scan.name for scan in find_scans(paths)] == ["a", "b"]
    taken, skipped = heard.messages
    assert taken == "Taken as the masks of their scans: a_mask.nii.gz, b_brain_mask.nii.gz."
    assert skipped == (
        "Skipped, as their names say that they are not scans: c_mask.nii.gz, a_dwiref.nii.gz, "
        "a_cnr.nii.gz, a_tsnr.nii.gz, a_FA.nii.gz, dti_MD.nii.gz, "
        "a_param-latentDistance_dwimap.nii.gz, novelty.nii.gz and 4 more."
    )


@pytest.mark.parametrize("name", ["control_AD", "novelty_study_1", "patient_multicontrast", "map1"])
def test_names_that_only_resemble_derivatives_are_scans(tmp_path: Path, name: str) -> None:
    assert only(*touch(tmp_path, f"{name}.nii.gz")).name == name


def test_a_file_named_twice_is_read_once(tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    (image,) = touch(tmp_path, "a.nii.gz")
    found = find_scans([image, tmp_path / ".." / tmp_path.name / "a.nii.gz", str(image)])
    assert [scan.image for scan in found] == [image]
    assert heard.messages == ["Named twice and read once: a.nii.gz."]


def test_links_of_one_content_stay_two_scans(tmp_path: Path) -> None:
    touch(tmp_path, ".annex/content")
    for name in ("sub-1_dwi.nii.gz", "sub-2_dwi.nii.gz"):
        (tmp_path / name).symlink_to(tmp_path / ".annex" / "content")
    assert len(find_scans([tmp_path])) == 2


def test_options_take_the_place_of_what_the_names_say(tmp_path: Path) -> None:
    image, _, _, other, *files = touch(
        tmp_path, "a.nii.gz", "a.bval", "a_mask.nii.gz", "b.nii.gz", "x", "y", "z.nii"
    )
    (scan,) = find_scans([image], bval=files[0], bvec=files[1], mask=files[2])
    assert [scan.bval, scan.bvec, scan.mask] == files
    with pytest.raises(InputError, match=r"--bval and --mask given for 2 scans, .* name one scan"):
        find_scans([image, other], bval=files[0], mask=files[2])
    with pytest.raises(GradientError, match=r"gone, given as --bvec, does not exist"):
        find_scans([image], bvec=tmp_path / "gone")
    with pytest.raises(ScanError, match=r"gone, given as --mask, does not exist"):
        find_scans([image], mask=tmp_path / "gone")


def test_what_holds_no_scan_is_refused_in_a_sentence(tmp_path: Path) -> None:
    mask, label, text, _ = touch(
        tmp_path, "a_mask.nii.gz", "lesions.nii.gz", "a.bval", "empty/readme.txt"
    )
    (tmp_path / "lost.nii.gz").symlink_to(tmp_path / ".annex" / "gone")
    bad = {
        r"No scan was named": [],
        r"gone\.nii\.gz does not exist; .*: check the path\.": [tmp_path / "gone.nii.gz"],
        r"\*\.nii\.gz does not exist; .* no file matches this": [tmp_path / "healthy/*.nii.gz"],
        r"a\.bval is not a NIfTI file by its name": [text],
        r"a_mask\.nii\.gz is by its name a mask, not a scan": [mask],
        r"lesions\.nii\.gz is by its name a map or label": [label],
        r"None of the 2 images is a scan .*\(a_mask\.nii\.gz, lesions\.nii\.gz\)": [mask, label],
        r"The folder .*empty holds no scan": [tmp_path / "empty"],
        r"lost\.nii\.gz is a link to content that is not here; .*datalad get": [
            tmp_path / "lost.nii.gz"
        ],
    }
    for sentence, paths in bad.items():
        with pytest.raises(ScanError, match=sentence):
            find_scans(paths)

from __future__ import annotations

import os
import re
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
    assert heard.messages == [
        "Taken as the masks of their scans: a_mask.nii.gz.",
        "2 scans of 2 subjects: a, b.",
    ]


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
    taken, skipped, _ = heard.messages
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


def names_in(folder: Path) -> list[str]:
    return [scan.name for scan in find_scans([folder])]


@pytest.mark.parametrize(
    ("files", "read"),
    [
        (["sub-1_part-mag_dwi", "sub-1_part-phase_dwi"], ["sub-1_part-mag"]),
        (["sub-HC-1_part-mag_dwi", "sub-HC-1_part-phase_dwi"], ["sub-HC-1_part-mag"]),
        (["c1", "c1_ph", "c2", "c2_phase"], ["c1", "c2"]),
        (
            ["sub-1_dwi", "sub-1_desc-denoised_dwi", "sub-1_desc-preproc_dwi", "sub-2_dwi"],
            ["sub-1_desc-preproc", "sub-2"],
        ),
        (["sub-1_desc-denoised_dwi", "sub-2_desc-denoised_dwi"], ["sub-1_desc-denoised"] * 2),
        (["._c1", ".c2", "c3"], ["c3"]),
        (["C1.NII.GZ", "c2"], ["C1", "c2"]),
    ],
)
def test_a_folder_is_read_as_a_dataset_is(
    tmp_path: Path, files: list[str], read: list[str]
) -> None:
    touch(tmp_path, *(f if f.endswith("GZ") else f"{f}.nii.gz" for f in files))
    found = names_in(tmp_path)
    assert [name.replace("sub-2_desc", "sub-1_desc") for name in found] == read
    paths = [path for path in tmp_path.iterdir() if not path.name.startswith(".c")]
    assert sorted(s.name for s in find_scans(paths)) == sorted(found)  # as a pattern gives them


def test_two_stages_of_a_scan_of_which_none_is_the_last_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1_desc-denoised_dwi.nii.gz", "sub-1_desc-eddy_dwi.nii.gz")
    with pytest.raises(
        ScanError, match=r"denoised_dwi.nii.gz and sub-1_desc-eddy_dwi.nii.gz are t"
    ):
        find_scans([tmp_path])


def test_phase_images_are_read_where_nothing_else_is_named(tmp_path: Path) -> None:
    (phase,) = touch(tmp_path, "sub-1_part-phase_dwi.nii.gz")
    assert only(phase).image == phase


def test_linked_subjects_are_found(tmp_path: Path) -> None:
    touch(tmp_path, "ds/sub-1/dwi/sub-1_dwi.nii.gz", "elsewhere/dwi/sub-2_dwi.nii.gz")
    (tmp_path / "ds/sub-2").symlink_to("../elsewhere")
    (tmp_path / "ds/sub-1/again").symlink_to("..")
    assert names_in(tmp_path / "ds") == ["sub-1", "sub-2"]


@pytest.mark.parametrize("lost", ["c1.nii.gz", "c1.bval", "c1.bvec", "c1_mask.nii.gz"])
@pytest.mark.parametrize("target", [".git/annex/objects/none", "itself"])
def test_content_that_is_not_here_is_to_be_fetched(tmp_path: Path, lost: str, target: str) -> None:
    touch(tmp_path, *{"c1.nii.gz", "c1.bval", "c1.bvec", "c1_mask.nii.gz"} - {lost})
    (tmp_path / lost).symlink_to(lost if target == "itself" else target)
    for path in (tmp_path, tmp_path / "c1.nii.gz"):
        with pytest.raises(
            ScanError, match=rf"{lost} is a link to content that is not here.*datal"
        ):
            find_scans([path])


def test_a_mask_that_is_named_serves_in_place_of_one_that_is_not_here(tmp_path: Path) -> None:
    image, mask = touch(tmp_path, "c1.nii.gz", "other.nii.gz")
    (tmp_path / "c1_mask.nii.gz").symlink_to("gone")
    assert find_scans([image], mask=mask)[0].mask == mask


B0, WEIGHTED = "0 0 5\n", "0 1000 1000 1000\n"


@pytest.mark.parametrize(
    ("tables", "read"),
    [
        ((WEIGHTED, B0), ["sub-1_acq-AP"]),
        ((WEIGHTED, "0"), ["sub-1_acq-AP"]),
        ((B0, B0), ["sub-1_acq-AP", "sub-1_acq-PA"]),  # nothing that they would serve
        ((WEIGHTED, "0 1 1 2\n"), ["sub-1_acq-AP", "sub-1_acq-PA"]),  # in other units perhaps
        ((WEIGHTED, "0 x"), ["sub-1_acq-AP", "sub-1_acq-PA"]),
        ((WEIGHTED, "0 nan"), ["sub-1_acq-AP", "sub-1_acq-PA"]),
    ],
)
def test_b0_images_for_the_correction_of_distortions_are_passed_over(
    tmp_path: Path, tables: tuple[str, str], read: list[str], heard: pytest.LogCaptureFixture
) -> None:
    for way, table in zip(("AP", "PA"), tables, strict=True):
        (image,) = touch(tmp_path, f"sub-1/dwi/sub-1_acq-{way}_dwi.nii.gz")
        image.with_name(f"sub-1_acq-{way}_dwi.bval").write_text(table)
    assert names_in(tmp_path) == read
    said = "hold b=0 volumes alone, which serve to correct distortions: sub-1_acq-PA_dwi.nii.gz."
    assert any(said in message for message in heard.messages) == (len(read) == 1)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["p1.nii.gz", "p2.nii.gz"], r"2 scans of 2 subjects: p1, p2\."),
        (["sub-1_ses-a_dwi.nii.gz", "sub-1_ses-b_dwi.nii.gz"], r"2 scans of 1 subject: sub-1\."),
        (["a/p1.nii.gz", "b/p1.nii.gz"], r"2 scans are taken as of one subject, p1: .*a/p1.nii"),
        (["a/sub-1_dwi.nii.gz", "b/sub-1_dwi.nii.gz"], r"By their names, .* are one scan"),
        (
            ["a/sub-1/sub-1_dwi.nii.gz", "b/sub-1/sub-1_run-2_dwi.nii.gz"],
            r"2 scans are taken as of one subject, sub-1: ",
        ),
        (
            ["sub-1_space-A_dwi.nii.gz", "sub-1_space-B_dwi.nii.gz"],
            r"By their names, .*A_dwi.nii.gz, .* are one scan: if they are versions of it, name",
        ),
        (
            ["sub-HC_1_dwi.nii.gz", "sub-HC_2_dwi.nii.gz"],
            r"No BIDS names, .* sub-HC_2_dwi.nii.gz, of 2 subjects: sub-HC_1, sub-HC_2\.",
        ),
        (["sub-1/dwi/sub-2_dwi.nii.gz"], r"is taken as of sub-2, by its name, not of sub-1\."),
    ],
)
def test_whose_scans_they_are_is_told(
    tmp_path: Path, files: list[str], says: str, heard: pytest.LogCaptureFixture
) -> None:
    find_scans(touch(tmp_path, *files))
    assert any(re.search(says, message) for message in heard.messages), heard.messages


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    touch(tmp_path, "c1.nii.gz", "c1.bval/x", "c1_mask.nii.gz/x")
    os.mkfifo(tmp_path / "c2.nii.gz")
    (scan,) = find_scans([tmp_path])
    assert (scan.name, scan.bval, scan.mask) == ("c1", None, None)
    with pytest.raises(ScanError, match=r"c2.nii.gz is no file but a pipe or device"):
        find_scans([tmp_path / "c2.nii.gz"])


def test_names_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "c\udcff.nii.gz")
    for path in (tmp_path, tmp_path / "c\udcff.nii.gz"):
        with pytest.raises(ScanError, match=r"c\\udcff.nii.gz is not UTF-8, .*; rename the file"):
            find_scans([path])
    with pytest.raises(ScanError, match=r"cannot be read \(File name too long\)"):
        find_scans([tmp_path / f"{'c' * 300}.nii.gz"])


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

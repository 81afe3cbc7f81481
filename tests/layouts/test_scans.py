from __future__ import annotations

from pathlib import Path

import pytest

from qspace_nd.errors import GradientError, InputError, ScanError
from qspace_nd.layouts.scans import find_scans, parse_entities


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def only(*paths: Path):  # type: ignore[no-untyped-def]
    found = find_scans(paths)
    assert len(found.scans) == 1
    return found.scans[0]


# --- What belongs to a scan


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


def test_the_entities_of_a_bids_name_are_kept_in_order(tmp_path: Path) -> None:
    image = Path("sub-01_ses-pre_acq-b1000_run-2_space-T1w_desc-preproc_dwi.nii.gz")
    assert list(parse_entities(image).items()) == [
        ("sub", "01"),
        ("ses", "pre"),
        ("acq", "b1000"),
        ("run", "2"),
        ("space", "T1w"),
        ("desc", "preproc"),
    ]
    assert parse_entities(Path("patient_run-2_dwi.nii.gz")) == {}
    scan = only(*touch(tmp_path, image.name))
    assert scan.subject == "sub-01"
    assert scan.name == "sub-01_ses-pre_acq-b1000_run-2_space-T1w_desc-preproc"


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


# --- FSL


def test_a_folder_in_fsls_layout_is_one_scan(tmp_path: Path) -> None:
    image, bvals, bvecs, mask, *_ = touch(
        tmp_path,
        *("data.nii.gz", "bvals", "bvecs", "nodif_brain_mask.nii.gz"),
        *("nodif.nii.gz", "nodif_brain.nii.gz", "dti_FA.nii.gz", "dti_V1.nii.gz"),
    )
    scan = only(tmp_path)
    assert (scan.image, scan.bval, scan.bvec, scan.mask) == (image, bvals, bvecs, mask)


def test_rotated_b_vectors_are_preferred_for_the_output_of_eddy(tmp_path: Path) -> None:
    image, bvals, _, rotated, _, _ = touch(
        tmp_path,
        *("eddy_corrected.nii.gz", "bvals", "bvecs", "eddy_corrected.eddy_rotated_bvecs"),
        *("eddy_corrected.eddy_cnr_maps.nii.gz", "eddy_corrected.eddy_outlier_free_data.nii.gz"),
    )
    scan = only(tmp_path)
    assert (scan.image, scan.bval, scan.bvec) == (image, bvals, rotated)


def test_a_folder_of_fsl_folders_is_as_many_scans(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{person}/{name}" for person in "ab" for name in ("data.nii.gz", "bvals")))
    assert [scan.subject for scan in find_scans([tmp_path]).scans] == ["a", "b"]


# --- Lists and folders


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
    assert [s.name for s in find_scans([tmp_path]).scans] == ["sub-1", "sub-2_ses-1"]
    assert [s.subject for s in find_scans([tmp_path / "sub-2"]).scans] == ["sub-2"]
    prep = find_scans([tmp_path / "derivatives" / "prep"]).scans
    assert [s.name for s in prep] == ["sub-1_desc-preproc"]


def test_a_folder_of_plain_images_is_all_its_scans(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b.nii", "a_mask.nii.gz", "a.bval", "notes.txt")
    found = find_scans([tmp_path])
    assert [scan.name for scan in found.scans] == ["a", "b"]
    assert found.notes == ("Taken as the masks of their scans: a_mask.nii.gz.",)


def test_masks_and_derivatives_that_a_glob_matches_are_noted_and_never_read(
    tmp_path: Path,
) -> None:
    paths = touch(
        tmp_path,
        *("a.nii.gz", "a_mask.nii.gz", "b.nii.gz", "b_brain_mask.nii.gz", "c_mask.nii.gz"),
        *("a_dwiref.nii.gz", "a_cnr.nii.gz", "a_tsnr.nii.gz", "a_FA.nii.gz", "dti_MD.nii.gz"),
        *("a_param-latentDistance_dwimap.nii.gz", "novelty.nii.gz", "lesions.nii.gz"),
        *("novelty_latent-distance.nii.gz", "novelty_mask.nii.gz", "a_sbref.nii.gz"),
    )
    found = find_scans(paths)
    assert [scan.name for scan in found.scans] == ["a", "b"]
    taken, skipped = found.notes
    assert taken == "Taken as the masks of their scans: a_mask.nii.gz, b_brain_mask.nii.gz."
    assert skipped == (
        "Skipped, as their names say that they are not scans: c_mask.nii.gz, a_dwiref.nii.gz, "
        "a_cnr.nii.gz, a_tsnr.nii.gz, a_FA.nii.gz, dti_MD.nii.gz, "
        "a_param-latentDistance_dwimap.nii.gz, novelty.nii.gz and 4 more."
    )


@pytest.mark.parametrize("name", ["control_AD", "novelty_study_1", "patient_multicontrast", "map1"])
def test_names_that_only_resemble_derivatives_are_scans(tmp_path: Path, name: str) -> None:
    assert only(*touch(tmp_path, f"{name}.nii.gz")).name == name


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    (image,) = touch(tmp_path, "a.nii.gz")
    found = find_scans([image, tmp_path / ".." / tmp_path.name / "a.nii.gz", str(image)])
    assert [scan.image for scan in found.scans] == [image]
    assert found.notes == ("Named twice and read once: a.nii.gz.",)


def test_links_of_one_content_stay_two_scans(tmp_path: Path) -> None:
    touch(tmp_path, ".annex/content")
    for name in ("sub-1_dwi.nii.gz", "sub-2_dwi.nii.gz"):
        (tmp_path / name).symlink_to(tmp_path / ".annex" / "content")
    assert len(find_scans([tmp_path]).scans) == 2


def test_options_take_the_place_of_what_the_names_say(tmp_path: Path) -> None:
    image, _, _, other, *files = touch(
        tmp_path, "a.nii.gz", "a.bval", "a_mask.nii.gz", "b.nii.gz", "x", "y", "z.nii"
    )
    (scan,) = find_scans([image], bval=files[0], bvec=files[1], mask=files[2]).scans
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

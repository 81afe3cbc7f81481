from __future__ import annotations

from pathlib import Path

import pytest

from qspace_nd.layouts.names import (
    dataset_root,
    ending,
    files_below,
    identity,
    is_scan,
    parse_entities,
    parse_name,
    says,
    stem,
    subject_folder,
)
from tests.layouts.files import touch


def test_the_entities_of_a_bids_name_are_kept_in_order() -> None:
    image = Path("sub-01_ses-pre_acq-b1000_run-2_space-T1w_desc-preproc_dwi.nii.gz")
    assert list(parse_entities(image).items()) == [
        ("sub", "01"),
        ("ses", "pre"),
        ("acq", "b1000"),
        ("run", "2"),
        ("space", "T1w"),
        ("desc", "preproc"),
    ]
    assert identity(parse_entities(image)) == {
        "sub": "01",
        "ses": "pre",
        "acq": "b1000",
        "run": "2",
    }


@pytest.mark.parametrize("name", ["sub-07", "sub-07_dwi", "sub-0+7_dwi", "sub-07_DWI"])
def test_short_names_are_parsed(name: str) -> None:
    assert parse_entities(Path(f"{name}.nii.gz")).keys() == {"sub"}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "sub-HC_01_dwi",
            "sub-HC_01",
            "sub-HC-01_dwi",
            "sub-HC-01_ses-1_dwi",
            "sub-01_ses-1-2_dwi",
        ),
        *(
            "sub-1_run-1_run-2_dwi",
            "sub-1_sub-2_dwi",
            "sub-1__dwi",
            "sub-1_dwi_2",
            "sub-1_T1w_mask",
        ),
        *(
            "sub-Müller_dwi",
            "sub-1 2_dwi",
            "sub-_dwi",
            "sub_01_dwi",
            "SUB-01_dwi",
            "sub-1_ses-_dwi",
        ),
        *("patient_run-2_dwi", "ses-1_sub-2_dwi", "p1", ""),
    ],
)
def test_a_name_is_parsed_whole_or_not_at_all(name: str) -> None:
    assert parse_entities(Path(f"{name}.nii.gz")) == {}


def test_a_name_of_files_that_serve_several_is_parsed_too() -> None:
    assert parse_name("dwi") is not None
    found = parse_name("acq-a_dwi")
    assert found is not None and (found.entities, found.suffix) == ({"acq": "a"}, "dwi")
    assert parse_name("Group_A_dwi") is None


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("sub-HC-01_part-phase_dwi.nii.gz", "part", "phase"),
        ("part-mag.nii", "part", "mag"),
        ("sub-01_apart-2_dwi.nii.gz", "part", None),
    ],
)
def test_a_word_of_any_name_is_found(name: str, key: str, value: str | None) -> None:
    assert says(Path(name), key) == value


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("a.nii.gz", "a", ".nii.gz"),
        ("a.b.nii", "a.b", ".nii"),
        ("A.NII.GZ", "A", ".NII.GZ"),
        ("a.tar.gz", "a.tar", ".gz"),
    ],
)
def test_a_stem_and_its_ending_are_the_name(name: str, start: str, end: str) -> None:
    path = Path("folder") / name
    assert (stem(path), ending(path)) == (start, end)


@pytest.mark.parametrize("name", ["._c1", "c1_phase", "c1_ph", "c1_mask", "c1_FA", "T1"])
def test_what_is_no_scan_by_its_name_is_known(name: str) -> None:
    assert not is_scan(Path(f"{name}.nii.gz"))


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("sub-1/dwi/x.nii", "sub-1"),
        ("sub-1/ses-2/dwi/x.nii", "sub-1"),
        ("sub-1/ses-2/x.nii", "sub-1"),
        ("sub-1/x.nii", "sub-1"),
        ("sub-study/P1/x.nii", None),
        ("sub-study/P1/dwi/x.nii", None),
        ("sub-1/dwi/eddy/x.nii", None),
        ("sub-HC_1/dwi/x.nii", None),
    ],
)
def test_a_subjects_folder_lies_where_bids_has_it(
    path: str, folder: str | None, tmp_path: Path
) -> None:
    found = subject_folder(tmp_path / path)
    assert (None if found is None else found.name) == folder


def test_a_dataset_is_where_its_description_lies_or_above_its_subjects(tmp_path: Path) -> None:
    (image,) = touch(tmp_path, "prep/sub-1/dwi/sub-1_dwi.nii.gz")
    assert dataset_root(image) == tmp_path / "prep"
    touch(tmp_path, "dataset_description.json")
    assert dataset_root(image) == tmp_path
    assert dataset_root(tmp_path.parent / "elsewhere" / "x.nii.gz") is None


def test_links_to_folders_are_followed_and_end(tmp_path: Path) -> None:
    touch(tmp_path, "ds/sub-1/a", "elsewhere/b", "ds/.git/c", "ds/derivatives/d", "ds/._e")
    for link, target in {"sub-2": "../elsewhere", "sub-1/up": "..", "self": "self"}.items():
        (tmp_path / "ds" / link).symlink_to(target)
    found = [str(path.relative_to(tmp_path / "ds")) for path in files_below(tmp_path / "ds")]
    assert found == ["self", "sub-1/a", "sub-2/b"]

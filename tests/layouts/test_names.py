from __future__ import annotations

from pathlib import Path

import pytest

from qspace_nd.layouts.names import dataset_root, ending, parse_entities, stem
from tests.layouts.files import only, touch


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


def test_a_dataset_is_where_its_description_lies_or_above_its_subjects(tmp_path: Path) -> None:
    (image,) = touch(tmp_path, "prep/sub-1/dwi/sub-1_dwi.nii.gz")
    assert dataset_root(image) == tmp_path / "prep"
    touch(tmp_path, "dataset_description.json")
    assert dataset_root(image) == tmp_path
    assert dataset_root(tmp_path.parent / "elsewhere" / "x.nii.gz") is None

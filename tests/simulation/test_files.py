from __future__ import annotations

import json

import numpy as np
import pytest

from qspace_nd.imaging.scans import open_scan
from qspace_nd.layouts.scans import find_scans
from qspace_nd.simulation.files import LAYOUTS
from tests.simulation.conftest import TABLE, files_in


def test_a_bids_cohort_has_these_files(bids):
    folder, _ = bids
    scans = {
        f"{name}/dwi/{name}_dwi.{ending}"
        for name in ("sub-control01", "sub-control02", "sub-patient01")
        for ending in ("nii.gz", "bval", "bvec", "json")
    }
    masks = {
        f"derivatives/masks/{name}/dwi/{name}_{kind}_mask.nii.gz"
        for name, kind in (
            ("sub-control01", "desc-brain"),
            ("sub-control02", "desc-brain"),
            ("sub-patient01", "desc-brain"),
            ("sub-patient01", "desc-lesion"),
            ("sub-patient01", "label-WM"),
        )
    }
    assert files_in(folder) == scans | masks | {
        "README",
        "dataset_description.json",
        "participants.json",
        "participants.tsv",
        "derivatives/masks/dataset_description.json",
    }


def test_bids_metadata_say_what_the_cohort_is(bids):
    folder, cohort = bids
    rows = [line.split("\t") for line in (folder / "participants.tsv").read_text().splitlines()]
    assert rows == [
        ["participant_id", "group"],
        ["sub-control01", "control"],
        ["sub-control02", "control"],
        ["sub-patient01", "patient"],
    ]
    described = json.loads((folder / "dataset_description.json").read_text())
    assert described["DatasetType"] == "raw"
    masks = json.loads((folder / "derivatives/masks/dataset_description.json").read_text())
    assert masks["DatasetType"] == "derivative"
    sidecar = json.loads(cohort.patients[0].with_name("sub-patient01_dwi.json").read_text())
    assert sidecar["EchoTime"] == 0.09
    assert sidecar["Simulation"] == {"Lesions": "demyelinating", "SNR": 20.0, "Seed": 0}


def test_a_flat_cohort_has_the_files_of_the_three_lines(flat):
    folder, _ = flat
    scans = {"healthy/control-01", "healthy/control-02", "patient"}
    assert files_in(folder) == {
        *(scan + end for scan in scans for end in (".nii.gz", ".bval", ".bvec", "_mask.nii.gz")),
        "lesions.nii.gz",
        "white_matter.nii.gz",
    }


def test_several_patients_of_a_flat_cohort_are_numbered(tmp_path):
    both = [LAYOUTS["flat"].patient(tmp_path, number, 2) for number in (1, 2)]
    assert [files.scan.name for files in both] == ["patient-01.nii.gz", "patient-02.nii.gz"]
    assert [files.labels.name for files in both] == ["lesions-01.nii.gz", "lesions-02.nii.gz"]


def test_every_layout_names_distinct_files(tmp_path):
    for layout in LAYOUTS.values():
        subjects = [layout.control(tmp_path, 1), layout.control(tmp_path, 2)]
        subjects += [layout.patient(tmp_path, number, 2) for number in (1, 2)]
        paths = [path for subject in subjects for path in subject.paths()]
        assert len(paths) == len(set(paths))


@pytest.mark.parametrize("cohort", ["bids", "flat"])
def test_the_reader_finds_each_scan_with_its_mask_and_gradients(cohort, request):
    _, written = request.getfixturevalue(cohort)
    paths = [*written.controls, *written.patients]
    masks = [*written.control_masks, *written.patient_masks]
    found = find_scans(paths)
    assert [files.mask for files in found] == masks
    for files in found:
        scan = open_scan(files)
        assert scan.warnings == ()
        np.testing.assert_allclose(scan.gradients.bvals, TABLE.bvals)
        np.testing.assert_allclose(scan.gradients.directions, TABLE.directions, atol=2e-6)

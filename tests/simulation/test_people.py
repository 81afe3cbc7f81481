"""Whose anatomy each subject has, and that it is told."""

from __future__ import annotations

import json
import shutil

import pytest

from qspace_nd.errors import InputError
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.simulation.cohort import Simulation, simulate_cohort
from qspace_nd.simulation.people import place_in_order, read_people
from tests.simulation.conftest import SMALL, files_in, made_up_labels, write_labels


def test_people_have_the_names_and_details_of_the_table(labelled):
    people = read_people(labelled)
    assert [person.name for person in people] == ["P1", "P2", "P3_T1_labels"]
    assert [dict(person.details) for person in people] == [
        {"age": "30", "sex": "F"},
        {"age": "41.5", "sex": "M"},
        {"age": "n/a", "sex": "n/a"},
    ]


def test_nobody_has_the_anatomy_of_another_or_depends_on_how_many_there_are():
    controls = [place_in_order(9, 4, patient=False, index=index) for index in range(5)]
    patients = [place_in_order(9, 4, patient=True, index=index) for index in range(4)]
    assert sorted(controls + patients) == [*range(9)]
    with pytest.raises(InputError, match="There are 9 anatomies; ask for fewer"):
        place_in_order(9, 4, patient=True, index=9)


@pytest.mark.parametrize("layout", ["bids", "flat"])
def test_a_cohort_says_whose_anatomy_each_has(layout, labelled, tmp_path):
    cohort = simulate_cohort(
        tmp_path, controls=2, patients=1, layout=layout, anatomies=labelled, **SMALL
    )
    header, *rows = (tmp_path / "participants.tsv").read_text().splitlines()
    assert header.split("\t") == ["participant_id", "group", "anatomy", "age", "sex"]
    told = [row.split("\t") for row in rows]
    assert {row[2] for row in told} == {"P1", "P2", "P3_T1_labels"}
    for scan, row in zip((*cohort.controls, *cohort.patients), told, strict=True):
        sidecar = json.loads(scan.with_name(scan.name.replace(".nii.gz", ".json")).read_text())
        said = sidecar["Simulation"]
        assert [said[key] for key in ("Anatomy", "Age", "Sex")] == row[2:]
    grids = {read_volume(mask)[1].affine[0, 3] for mask in cohort.control_masks}
    assert len(grids) == 2  # each lies in its own space
    truth = [name for name in files_in(tmp_path) if "probseg" in name]
    assert len(truth) == 3 * 3


def test_lesions_lie_in_white_matter_of_the_person(labelled):
    labels = [person.labels for person in read_people(labelled)]
    patient = Simulation(**{**SMALL, "voxel_size": 4.0}, anatomies=labels).patient(0)
    assert patient.labels.sum() > 40
    assert patient.white_matter[patient.labels].mean() > 0.8


def test_lesion_masks_are_carried_to_white_matter_of_the_person(labelled, real_scans, tmp_path):
    masks = [real_scans / "ms" / "lesion_masks_mni" / "patient06.nii.gz"]
    settings = {**SMALL, "voxel_size": 4.0, "anatomies": labelled, "lesion_masks": masks}
    cohort = simulate_cohort(tmp_path, controls=0, patients=1, **settings)
    labels, white = (read_volume(path[0])[0] > 0 for path in (cohort.labels, cohort.white_matter))
    assert (labels & white).sum() > 0.7 * labels.sum() > 0


def _of_nobody(folder):
    shutil.rmtree(folder)


def _twice(folder):
    write_labels(folder / "P1_again.nii.gz", *made_up_labels())


def _without_images(folder):
    for image in folder.glob("*.nii.gz"):
        image.unlink()


def _without_ids(folder):
    (folder / "participants.tsv").write_text("person\tage\nP1\t3\n")


@pytest.mark.parametrize(
    ("change", "people", "message"),
    [
        (_of_nobody, 1, r"is no folder; expected one with images of brain labels"),
        (_without_images, 1, r"holds no NIfTI image; expected one of brain labels"),
        (_twice, 1, r"P1_T1_labels\.nii\.gz and .*P1_again\.nii\.gz|are both of P1"),
        (_without_ids, 1, r"participants\.tsv has no column participant_id"),
        (lambda folder: None, 3, r"holds 3 anatomies, but 3 controls and 1 patient need 4"),
    ],
)
def test_a_folder_that_does_not_do_is_refused_before_anything_is_written(
    change, people, message, labelled, tmp_path
):
    folder = tmp_path / "labels"
    shutil.copytree(labelled, folder)
    change(folder)
    with pytest.raises(InputError, match=message):
        simulate_cohort(tmp_path / "out", controls=people, anatomies=folder, **SMALL)
    assert not (tmp_path / "out").exists()

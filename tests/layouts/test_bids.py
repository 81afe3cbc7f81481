from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from qspace_nd.errors import InputError, LabelError, ScanError
from qspace_nd.layouts.bids import Dataset
from qspace_nd.layouts.maps import read_record
from tests.layouts.files import touch

TABLE = """\
participant_id\tgroup\tage
sub-01\tcontrol\t30
sub-02\tcontrol\tn/a
sub-03\tpatient\t40
sub-04\tpatient
"""
QSIPREP = "derivatives/qsiprep"


def describe(folder: Path, kind: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"Name": "x", "BIDSVersion": "1.10.0", "DatasetType": kind}
    (folder / "dataset_description.json").write_text(json.dumps(facts))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two controls and a patient with scans, one without; QSIPrep's and drawn derivatives."""
    folder = tmp_path / "ds"
    describe(folder, "raw")
    (folder / "participants.tsv").write_text(TABLE)
    touch(
        folder,
        "sub-01/dwi/sub-01_dwi.nii.gz",
        "sub-01/dwi/sub-01_part-phase_dwi.nii.gz",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-02/ses-a/dwi/sub-02_ses-a_dir-AP_run-01_dwi.nii",
        "sub-02/ses-b/dwi/sub-02_ses-b_dir-AP_run-01_dwi.nii",
        "sub-03/dwi/sub-03_acq-multi_dwi.nii.gz",
        "sub-03/dwi/sub-03_acq-multi_sbref.nii.gz",
        "sub-04/anat/sub-04_T1w.nii.gz",
    )
    describe(folder / QSIPREP, "derivative")
    touch(
        folder / QSIPREP,
        "sub-01/dwi/sub-01_space-ACPC_desc-preproc_dwi.nii.gz",
        "sub-01/dwi/sub-01_space-ACPC_desc-brain_mask.nii.gz",
        "sub-01/dwi/sub-01_space-ACPC_dwiref.nii.gz",
        "sub-03/dwi/sub-03_acq-multi_space-ACPC_desc-preproc_dwi.nii.gz",
        "sub-03/dwi/sub-03_acq-multi_space-ACPC_desc-denoised_dwi.nii.gz",
        "sub-03/dwi/sub-03_acq-multi_space-T1w_desc-preproc_dwi.nii.gz",
    )
    describe(folder / "derivatives/drawn", "derivative")
    touch(
        folder / "derivatives/drawn",
        *(f"sub-0{n}/dwi/sub-0{n}_desc-{kind}_mask.nii.gz" for n in (1, 3) for kind in ("brain",)),
        "sub-03/dwi/sub-03_label-lesion_mask.nii.gz",
        "sub-04/dwi/sub-04_label-lesion_mask.nii.gz",
    )
    return folder


def names(dataset: Dataset) -> list[str]:
    return [path.name.split("_dwi")[0] for path in dataset.scans()]


SUB_02 = ["sub-02_ses-a_dir-AP_run-01", "sub-02_ses-b_dir-AP_run-01"]


@pytest.mark.parametrize(
    ("participants", "where", "found"),
    [
        ((), (), ["sub-01", *SUB_02, "sub-03_acq-multi"]),
        (("02",), (), SUB_02),
        (("sub-02", "01"), (), ["sub-01", *SUB_02]),
        ((), ("group=control",), ["sub-01", *SUB_02]),
        ((), ("group=control", "group=patient"), ["sub-01", *SUB_02, "sub-03_acq-multi"]),
        ((), ("group=control", "age=30"), ["sub-01"]),
        ((), ("age=n/a", "group=control"), SUB_02),
        ((), ("ses=b",), SUB_02[1:]),
        ((), ("group=patient", "acq=multi"), ["sub-03_acq-multi"]),
        (("01",), ("part=phase",), ["sub-01_part-phase"]),
    ],
)
def test_scans_are_chosen_by_labels_columns_and_entities(
    participants: tuple[str, ...], where: tuple[str, ...], found: list[str], folder: Path
) -> None:
    assert names(Dataset(folder, participants, where)) == found


def test_paths_are_given_as_the_dataset_was_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert Dataset(Path("ds"), ["01"]).scans() == [Path("ds/sub-01/dwi/sub-01_dwi.nii.gz")]


def test_a_derivative_dataset_gives_its_preprocessed_scans_by_the_table_of_the_raw_one(
    folder: Path,
) -> None:
    patients = Dataset(folder / QSIPREP, where=["group=patient"])
    spaces = ["sub-03_acq-multi_space-ACPC_desc-preproc", "sub-03_acq-multi_space-T1w_desc-preproc"]
    assert names(patients) == spaces
    assert names(Dataset(folder / QSIPREP, ["03"], ["space=T1w"])) == spaces[1:]
    denoised = Dataset(folder / QSIPREP, where=["desc=denoised"])
    assert names(denoised) == ["sub-03_acq-multi_space-ACPC_desc-denoised"]


def test_participants_without_a_scan_are_told(
    folder: Path, heard: pytest.LogCaptureFixture
) -> None:
    Dataset(folder, where=["group=patient"]).scans()
    assert heard.messages == ["Without a diffusion scan where group=patient: sub-04"]


def test_a_dataset_without_a_table_of_participants_is_read(folder: Path) -> None:
    (folder / "participants.tsv").unlink()
    assert names(Dataset(folder, ["03"])) == ["sub-03_acq-multi"]
    with pytest.raises(
        InputError, match=r"ds has no participants.tsv that says who is healthy; a "
    ):
        Dataset(folder).healthy_scans()


@pytest.mark.parametrize("start", ["\ufeff", ""])
def test_labels_and_a_table_by_a_spreadsheet_are_read(start: str, folder: Path) -> None:
    table = start + TABLE.replace("sub-", "").replace("\n", "\r\n")
    (folder / "participants.tsv").write_bytes(table.encode())
    assert names(Dataset(folder, where=["group=patient"])) == ["sub-03_acq-multi"]


def test_healthy_scans_are_of_one_group_or_of_those_that_are_named(folder: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"has participants of several groups: control \(2\), patient \(1\); a model is "
        r"fitted on healthy people: choose them, with --where group=control for instance, or ",
    ):
        Dataset(folder).healthy_scans()
    with pytest.raises(InputError, match="participants of several groups"):
        Dataset(folder / QSIPREP, where=["space=ACPC"]).healthy_scans()  # scans, not people
    assert len(Dataset(folder, where=["group=control"]).healthy_scans()) == 3
    assert len(Dataset(folder, ["01", "03"]).healthy_scans()) == 2


@pytest.mark.parametrize(
    ("where", "subjects"),
    [
        (["GROUP=Control"], {"01", "02"}),
        (["dir=n/a"], {"01", "03"}),
        (["group=control", "dir=AP"], {"02"}),
    ],
)
def test_conditions_are_read_as_they_are_meant(
    where: list[str], subjects: set[str], folder: Path
) -> None:
    assert {name[4:6] for name in names(Dataset(folder, where=where))} == subjects


def test_a_condition_that_is_not_the_group_leaves_who_is_healthy_open(folder: Path) -> None:
    table = TABLE.replace("30", "40")
    (folder / "participants.tsv").write_text(table)
    with pytest.raises(InputError, match=r"several groups: control \(1\), patient \(1\)"):
        Dataset(folder, where=["age=40"]).healthy_scans()


def test_participants_whose_group_is_not_known_are_not_taken_as_healthy(folder: Path) -> None:
    (folder / "participants.tsv").write_text(TABLE.replace("sub-0", "sub-"))
    with pytest.raises(InputError, match=r"ds has no participant with a scan \(sub-01, .* --parti"):
        Dataset(folder).healthy_scans()
    assert len(Dataset(folder, ["01", "02"]).healthy_scans()) == 3


def test_who_is_taken_as_healthy_is_told(folder: Path, heard: pytest.LogCaptureFixture) -> None:
    (folder / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\n")
    assert len(Dataset(folder).healthy_scans()) == 4
    assert heard.messages[-1] == (
        f"Taken as healthy: all 3 participants of {folder}, as none was chosen and no group is "
        f"told."
    )


def test_a_participant_of_two_groups_is_told(folder: Path, heard: pytest.LogCaptureFixture) -> None:
    text = (folder / "participants.tsv").read_text()
    (folder / "participants.tsv").write_text(f"{text}sub-01\tpatient\n")
    found = Dataset(folder, where=["group=patient"]).scans()
    assert not [path for path in found if path.name.startswith("sub-01")]
    assert any("says two things of the group of sub-01" in said for said in heard.messages)


def test_subjects_and_scans_that_are_links_are_found(folder: Path) -> None:
    (folder / "sub-03").rename(folder.parent / "elsewhere")
    (folder / "sub-03").symlink_to("../elsewhere")
    (folder / "sub-01" / "loop").symlink_to("..")
    assert names(Dataset(folder)) == ["sub-01", *SUB_02, "sub-03_acq-multi"]


def test_names_that_no_dataset_has_are_told(folder: Path, heard: pytest.LogCaptureFixture) -> None:
    touch(folder, "sub-HC-05/dwi/sub-HC-05_dwi.nii.gz", "sub-01/dwi/._sub-01_dwi.nii.gz")
    assert len(Dataset(folder).scans()) == 4
    assert any(
        "no BIDS names" in message and message.endswith(": sub-HC-05_dwi.nii.gz.")
        for message in heard.messages
    )


def test_lesions_are_found_in_the_derivatives(folder: Path) -> None:
    masks = folder / "derivatives/drawn"
    both = [masks / f"sub-0{n}/dwi/sub-0{n}_label-lesion_mask.nii.gz" for n in (3, 4)]
    assert Dataset(folder).lesions() == both
    assert Dataset(folder, ["03"]).lesions() == both[:1]
    assert Dataset(masks, ["04"]).lesions() == both[1:]
    with pytest.raises(LabelError, match=r"ds and its derivatives have no lesion mask of the part"):
        Dataset(folder, where=["group=control"]).lesions()


def test_maps_are_chosen_as_their_scans_are(folder: Path, tmp_path: Path) -> None:
    made = [
        tmp_path / f"{name}_model-vae_param-x_dwimap.nii.gz"
        for name in ("sub-01", "sub-02_ses-a", "sub-02_ses-b", "sub-03_acq-multi")
    ]
    records = [read_record(path) for path in made]
    assert Dataset(folder, where=["group=control"]).maps_among(records) == made[:3]
    assert Dataset(folder, where=["ses=b"]).maps_among(records) == made[2:3]
    with pytest.raises(ScanError, match=r"None of the maps is, by its name, of a chosen partic"):
        Dataset(folder, ["04"]).maps_among(records)


@pytest.mark.parametrize(
    ("participants", "where", "says"),
    [
        (["05"], (), r"has no participant sub-05; choose among sub-01, sub-02, sub-03, sub-04\."),
        (["04"], (), r"has no diffusion scan of sub-04; expected sub-\*/\[ses-\*/\]dwi/\*_dwi"),
        (["01", "04"], (), r"has no diffusion scan of sub-04; "),
        ((), ["ses=c"], r"has no diffusion scan where ses=c; expected"),
        ((), ["group"], r"--where 'group' is no condition; give KEY=VALUE, group=control"),
        ((), ["=control"], r"--where '=control' is no condition"),
        ((), ["sex=f"], r"sex=f cannot be told: there is no column sex in .*participants.tsv, and"),
        ((), ["group=contrl"], r"no participant with group=contrl; choose among control, patient"),
        (["01"], ["group=patient"], r"no participant that is both named and has group=patient"),
    ],
)
def test_what_the_dataset_does_not_have_is_refused(
    participants: list[str], where: list[str], says: str, folder: Path
) -> None:
    with pytest.raises(InputError, match=says):
        Dataset(folder, participants, where).scans()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: (f / "participants.tsv").unlink(), "there is no participants.tsv, and group is"),
        (
            lambda f: (f / "participants.tsv").write_text("id\tgroup\n1\tcontrol\n"),
            r"participants.tsv has no column participant_id; expected one",
        ),
        (
            lambda f: (f / "participants.tsv").write_bytes(b"participant_id\n\xff\xfe\n"),
            r"participants.tsv cannot be read .*; expected a table in UTF-8",
        ),
        (
            lambda f: (f / "dataset_description.json").unlink(),
            r"is not a BIDS dataset, as it has no dataset_description.json; name its root",
        ),
        (
            lambda f: (f / "dataset_description.json").write_text("[1]"),
            r"is not a BIDS dataset, as it has a dataset_description.json that is no JSON object",
        ),
        (
            lambda f: (f / "dataset_description.json").write_text("{"),
            r"that is no JSON object \(.*\); name its root, or give the scans",
        ),
        (
            lambda f: (f / "dataset_description.json").write_text("[" * 100_000),
            r"that is no JSON object \(it is nested too deeply\); name its root",
        ),
        (lambda f: f.rename(f.with_name("moved")), r"is not a BIDS dataset, as it is no folder"),
    ],
)
def test_a_dataset_that_is_none_is_refused(change: object, says: str, folder: Path) -> None:
    change(folder)  # type: ignore[operator]
    with pytest.raises(InputError) as refused:
        Dataset(folder, where=["group=control"]).scans()
    assert re.search(says, str(refused.value)), refused.value

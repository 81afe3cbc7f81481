from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.benchmarks.stand_ins import SIMULATION, help_of, write_dwi, write_labels

CONTROLS, PATIENTS = 4, {"PAT01": "Meningioma I", "PAT05": "Oligodendroglioma II"}
TABLE = "participant_id\t sex\t age\ttumor type & grade\ttumor size (cub cm)\tfmri TR\n"
EDDY = "derivatives/eddy"


def names(subject: str, phase: str = "AP") -> str:
    return f"sub-{subject}/ses-preop/dwi/sub-{subject}_ses-preop_acq-{phase}"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset's layout, with what topup and eddy leave."""
    folder = tmp_path_factory.mktemp("ds001226")
    rows = [f"sub-CON{i + 1:02d}\tF\t5{i}\tnone\tn/a\t2400\n" for i in range(CONTROLS)]
    rows += [f"sub-{name}\tM\t61\t{kind}\t20.5\t2100\n" for name, kind in PATIENTS.items()]
    (folder / "participants.tsv").write_text(TABLE + "".join(rows))
    description = {"Name": "BTC_preop", "BIDSVersion": "1.0.1"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    people = {f"CON{i + 1:02d}": SIMULATION.control(i) for i in range(CONTROLS)}
    people |= {name: SIMULATION.patient(i) for i, name in enumerate(PATIENTS)}
    for name, subject in people.items():
        for phase in ("AP", "PA"):
            write_dwi(folder / f"{names(name, phase)}_dwi.nii.gz", subject, None)
            start = folder / EDDY / names(name, phase)
            mask = start.with_name(f"{start.name}_desc-brain_mask.nii.gz")
            write_dwi(start.with_name(f"{start.name}_desc-preproc_dwi.nii.gz"), subject, mask)
        if name in PATIENTS:
            masks = folder / "derivatives/tumor_masks" / f"sub-{name}/anat"
            for space in ("T1", "MNI"):
                write_labels(masks / f"sub-{name}_space_{space}_label-tumor.nii", subject)
    return folder


def test_groups_come_of_the_kind_of_tumour(dataset: Path) -> None:
    from ds001226 import cohort

    healthy, patients, absent = cohort(dataset, "*", None)
    assert [path.name[:9] for path in healthy] == [f"sub-CON0{i + 1}" for i in range(CONTROLS)]
    assert all("acq-AP_desc-preproc" in path.name for path in healthy)
    assert {one.name: one.group for one in patients} == {
        "sub-PAT01": "meningioma",
        "sub-PAT05": "glioma",
    }
    assert all("space_T1" in one.labels.name for one in patients)
    assert absent == []


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda text: text.replace("none", "Astrocytoma III", 1), "sub-CON01 as glioma, but the n"),
        (lambda text: text.replace("tumor type & grade", "kind"), "no column 'tumor type & grade'"),
        (lambda text: text.replace("sub-PAT05", "sub-PAT06"), "no row of sub-PAT05"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(dataset: Path, change, match: str) -> None:  # type: ignore[no-untyped-def]
    from ds001226 import cohort

    from qspace_nd.errors import InputError

    table = dataset / "participants.tsv"
    kept = table.read_text()
    table.write_text(change(kept))
    try:
        with pytest.raises(InputError, match=match):
            cohort(dataset, "*", None)
    finally:
        table.write_text(kept)


def test_masks_on_the_t1_weighted_scan_do_not_fit_scans_that_qsiprep_turned(tmp_path: Path) -> None:
    from ds001226 import labels_of

    from qspace_nd.errors import InputError

    mask = tmp_path / "sub-PAT01_space_T1_label-tumor.nii"
    mask.touch()
    scan = Path("sub-PAT01_ses-preop_space-ACPC_desc-preproc_dwi.nii.gz")
    with pytest.raises(InputError, match="space ACPC, to which QSIPrep turned the head; bring"):
        labels_of("sub-PAT01", tmp_path, scan)
    brought = mask.rename(tmp_path / "sub-PAT01_space-ACPC_label-tumor.nii")
    assert labels_of("sub-PAT01", tmp_path, scan) == brought
    with pytest.raises(InputError, match="has 0 tumour masks of sub-PAT02"):
        labels_of("sub-PAT02", tmp_path, scan)


def test_the_section_says_what_each_method_finds(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unregistered: None,
    undrawn: None,
) -> None:
    import ds001226
    import summary

    monkeypatch.setattr(summary, "RESAMPLES", 50)
    ds001226.main([str(dataset), "--quick", "--cache", str(tmp_path)])
    text = (tmp_path / "RESULTS.md").read_text()
    assert "`python benchmarks/real/ds001226.py DIR --quick --cache DIR`: 4 controls" in text
    assert "### meningioma, 1 patient" in text
    assert "### glioma, 1 patient" in text
    assert "without registration" in text
    for name, knows in (
        ("latent-distance", "nothing"),
        ("latent-placed-distance, 6 mm", "place"),
        ("latent-placed-directed-distance, toward oedema", "place, sign"),
        ("z of MD at the place", "place, sign"),
        ("Mahalanobis distance at the place, 6 mm", "place"),
    ):
        rows = re.findall(rf"^\| {re.escape(name)} \| {knows} \| (.*) \|$", text, re.MULTILINE)
        assert len(rows) == 2
        assert all(0 <= float(cell.split()[0]) <= 1 for row in rows for cell in row.split(" | "))
    assert "| latent-placed-distance | Mahalanobis distance at the place | place |" in text
    assert "| latent-distance | z of MD at the place | " not in text  # which knows more
    figures = json.loads((tmp_path / "ds001226/eval-glioma/eval.json").read_text())
    assert "ml in 48 x 56 x 48 voxels" in figures["resampled_labels"]["sub-PAT05_ses-preop_acq-AP"]


def test_a_folder_that_is_not_the_dataset_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import ds001226

    with pytest.raises(SystemExit) as stopped:
        ds001226.main([str(tmp_path)])
    assert stopped.value.code == 2
    assert "has no preprocessed scan" in " ".join(capsys.readouterr().err.split())


def test_the_help_says_how_to_get_and_preprocess_the_dataset(tmp_path: Path) -> None:
    told = help_of("ds001226.py", tmp_path)
    for wanted in (
        "aws s3 sync",
        "openneuro download",
        "datalad install",
        "qsiprep",
        "dwifslpreproc",
    ):
        assert wanted in told

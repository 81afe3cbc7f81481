"""BIDS in and out: from a dataset by its participants to one that the BIDS validator passes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import PROGRAM, Run, call_here, tree_of

VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")
PATIENTS = ("patient01", "patient02", "patient03")


def errors_of(folder: Path) -> list[dict[str, Any]]:
    """What the BIDS validator finds to be wrong with a dataset and its derivatives."""
    if not VALIDATOR.is_file():
        pytest.skip("the BIDS validator is not installed: pip install bids-validator-deno")
    done = subprocess.run(
        [VALIDATOR, "--recursive", "--format", "json", folder], capture_output=True, text=True
    )
    report = json.loads(done.stdout)
    reports = [report, *report.get("derivativesSummary", {}).values()]
    issues = [issue for one in reports for issue in one["issues"]["issues"]]
    return [issue for issue in issues if issue["severity"] == "error"]


def lines(folder: Path, *commands: str) -> None:
    for line in commands:
        assert call_here(f"{line} -q", folder) == 0


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `simulate`, `fit`, `map` and `eval` make of 3 controls and 3 patients, as BIDS."""
    folder = tmp_path_factory.mktemp("bids")
    lines(
        folder,
        "simulate cohort --controls 3 --patients 3 --voxel-size 8",
        "fit --bids cohort --where group=control --epochs 1",
        "map --bids cohort --where group=patient -o maps",
        "eval maps --bids cohort -o evaluation",
    )
    return folder


def test_participants_side_by_side_write_one_report(place: Path) -> None:
    line = "bids cohort out participant --model qspace-nd-model --report report -q"
    running = [
        subprocess.Popen([PROGRAM, *line.split(), "--participant-label", label], cwd=place)
        for label in PATIENTS[:2]
    ]
    assert [process.wait(timeout=200) for process in running] == [0, 0]
    names = ["index.html", "methods.md", "references.bib"]
    names += [f"sub-{label}.html" for label in PATIENTS[:2]]
    assert sorted(path.name for path in (place / "report").iterdir()) == names
    lines(place, "report out -o alone --model qspace-nd-model")
    assert tree_of(place / "report") == tree_of(place / "alone")


@pytest.fixture
def place(study: Path, tmp_path: Path) -> Path:
    """A copy of it, for a test to change."""
    shutil.copytree(study, tmp_path / "study")
    return tmp_path / "study"


def test_a_bids_cohort_is_learned_mapped_and_evaluated_by_its_participants(study: Path) -> None:
    model = json.loads((study / "qspace-nd-model/model.json").read_text())
    learned = [scan["subject"] for scan in model["acquisition"]["scans"]]
    assert learned == [f"sub-control0{number}" for number in range(1, 4)]
    results = json.loads((study / "evaluation/eval.json").read_text())
    assert {f"sub-{patient}" for patient in PATIENTS} <= set(_strings(results))
    assert sorted(path.name for path in (study / "maps").glob("sub-*")) == [
        f"sub-{patient}" for patient in PATIENTS
    ]


def _strings(value: Any) -> list[str]:
    """Every string in plain data."""
    if isinstance(value, dict):
        return [text for one in value.values() for text in _strings(one)]
    if isinstance(value, list):
        return [text for one in value for text in _strings(one)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("dataset", ["cohort", "maps"])
def test_the_validator_passes_what_simulate_and_map_write(dataset: str, study: Path) -> None:
    assert errors_of(study / dataset) == []


def test_the_validator_would_tell(place: Path) -> None:
    (place / "maps/.bidsignore").unlink()
    assert {error["code"] for error in errors_of(place / "maps")} == {"NOT_INCLUDED"}


def test_maps_name_their_sources_by_bids_uris(study: Path) -> None:
    for sidecar in (study / "maps").rglob("sub-*.json"):
        patient = sidecar.name.split("_")[0]
        sources = json.loads(sidecar.read_text())["Sources"]
        assert sources == [f"bids:cohort:{patient}/dwi/{patient}_dwi.nii.gz"]
    description = json.loads((study / "maps/dataset_description.json").read_text())
    assert description["DatasetLinks"] == {"cohort": "../cohort"}


def test_the_parts_of_a_run_make_what_the_whole_does(place: Path, call: Run) -> None:
    line = "map --bids cohort --where group=patient -o parts -q --part"
    running = [
        subprocess.Popen([PROGRAM, *line.split(), part], cwd=place, stderr=subprocess.PIPE)
        for part in ("2/2", "1/2")
    ]
    said = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert tree_of(place / "parts") == tree_of(place / "maps")
    outcome = call(f"{line.replace(' -q', '')} 5/5", place)
    assert outcome.status == 0
    assert "Part 5 of 5: 0 scans of 3" in outcome.stderr


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_a_part_that_there_is_not_is_refused(part: str, place: Path, call: Run) -> None:
    outcome = call(f"map --bids cohort -o maps --part {part}", place)
    assert outcome.status == 2
    assert f"'{part}' names no part; 1/8 to 8/8 are the parts of eight" in outcome.stderr


def test_qsipreps_derivatives_are_read_and_all_entities_kept(place: Path, call: Run) -> None:
    """Its layout, with the table of participants in the raw dataset around it."""
    prep = place / "cohort/derivatives/qsiprep"
    for raw in sorted((place / "cohort").glob("sub-*/dwi/*_dwi.nii.gz")):
        subject = raw.name.split("_")[0]
        stem = prep / subject / "ses-1/dwi" / f"{subject}_ses-1_acq-hi_run-1_space-ACPC_desc"
        stem.parent.mkdir(parents=True)
        for ending in ("nii.gz", "bval", "bvec"):
            source = raw.with_name(f"{subject}_dwi.{ending}")
            shutil.copy(source, f"{stem}-preproc_dwi.{ending}")
        mask = place / f"cohort/derivatives/masks/{subject}/dwi/{subject}_desc-brain_mask.nii.gz"
        shutil.copy(mask, f"{stem}-brain_mask.nii.gz")
        shutil.copy(mask, f"{stem}-denoised_dwi.nii.gz")  # one that is not to be taken
    facts = {"Name": "QSIPrep", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (prep / "dataset_description.json").write_text(json.dumps(facts))
    named = "--bids cohort/derivatives/qsiprep"
    for line in (
        f"fit {named} --where group=control --where space=ACPC --epochs 1 --model prep",
        f"map {named} --participant-label sub-patient02 --model prep -o out",
        "eval out --bids cohort",
    ):
        outcome = call(f"{line} -q", place)
        assert outcome.status == 0, outcome.stderr
    kept = "sub-patient02_ses-1_acq-hi_run-1_space-ACPC"
    dwi = place / "out/sub-patient02/ses-1/dwi"
    (path,) = dwi.glob("*model-vae*dwimap.nii.gz")
    assert path.name == f"{kept}_model-vae_param-latentDistance_dwimap.nii.gz"
    assert (dwi / f"{kept}_desc-brain_mask.nii.gz").is_file()
    assert errors_of(place / "out") == []
    old = (
        place / "maps/sub-patient02/dwi/sub-patient02_model-vae_param-latentDistance_dwimap.nii.gz"
    )
    np.testing.assert_array_equal(nib.load(path).get_fdata(), nib.load(old).get_fdata())


# --- The BIDS App


def test_the_bids_app_fits_on_the_group_and_maps_participants(place: Path, call: Run) -> None:
    for line in (
        "bids cohort out group --where group=control --epochs 1",
        "bids cohort out participant --participant-label patient01 sub-patient02",
        "bids cohort out participant --participant_label patient03",
    ):
        outcome = call(f"{line} -q", place)
        assert outcome.status == 0, outcome.stderr
    same = {
        name: content
        for name, content in tree_of(place / "out").items()
        if not name.startswith("qspace-nd-model")
    }
    assert same == tree_of(place / "maps")
    assert errors_of(place / "out") == []


def test_a_bids_app_takes_options_first_and_a_model_from_elsewhere(place: Path, call: Run) -> None:
    line = "bids --participant-label patient01 --model qspace-nd-model cohort out participant -q"
    assert call(line, place).status == 0
    assert [path.name for path in (place / "out").glob("sub-*")] == ["sub-patient01"]
    assert not (place / "out/qspace-nd-model").exists()


# --- What is refused


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "fit --bids cohort --model new",
            r"cohort has participants of several groups: control (3)",
        ),
        ("fit cohort --bids cohort --model new", "Name either SCANS or a BIDS dataset, not both."),
        ("fit --model new", "Missing argument 'SCANS...', or --bids in its place."),
        ("map", "Missing argument 'SCANS...', or --bids in its place."),
        ("map cohort --where group=patient", "--where chooses from a BIDS dataset; name it with"),
        ("check cohort --participant-label 1", "--participant-label chooses from a BIDS dataset;"),
        ("check --bids cohort --where group=x", "has no participant with group=x; choose among"),
        ("map --bids cohort --where group=patient", "novelty.nii.gz names one file, but there are"),
        ("map --bids cohort -o cohort", "cohort is a raw BIDS dataset, where maps do not belong;"),
        ("eval maps", "Missing option '--labels', or --bids in its place."),
        ("eval maps --bids cohort --labels cohort", "Name the lesion masks by --labels or by --bi"),
        ("eval maps --bids cohort --where group=control", "None of the maps is, by its name, of a"),
        ("bids cohort cohort group --where group=control", "cohort is a raw BIDS dataset, where"),
        ("bids cohort out group", "cohort has participants of several groups"),
        ("bids cohort out participant", "There is no model in out/qspace-nd-model"),
        (
            "bids cohort out participant --epochs 1",
            "--epochs is no option of the level participant",
        ),
        ("bids cohort out group --score latent-kl", "--score is no option of the level group."),
        ("bids cohort out participant --participant-label", "requires an argument"),
        ("bids cohort out participants", "is not one of 'group', 'participant'"),
    ],
)
def test_wrong_usage_is_refused_and_nothing_is_written(
    line: str, says: str, study: Path, call: Run
) -> None:
    before = tree_of(study)
    outcome = call(line, study)
    assert (outcome.status, tree_of(study)) == (2, before)
    assert says in outcome.stderr


def test_maps_without_lesion_masks_are_refused_with_a_way_out(place: Path, call: Run) -> None:
    (
        place / "cohort/derivatives/masks/sub-patient02/dwi/sub-patient02_desc-lesion_mask.nii.gz"
    ).unlink()
    outcome = call("eval maps --bids cohort -q", place)
    assert outcome.status == 2
    assert "sub-patient02" in outcome.stderr and "found: none" in outcome.stderr
    assert "or choose patients by --bids with --where" in outcome.stderr
    line = "eval maps --bids cohort --participant-label patient01 --participant-label patient03 -q"
    assert call(line, place).status == 0

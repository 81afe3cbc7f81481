"""Options, terminals and surroundings as users have them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from qspace_nd.system.machine import processor
from tests.conftest import PROGRAM, Run, tree_of


def test_a_home_folder_is_found_after_an_equals_sign(
    folder: Path, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "home"
    (home / "maps").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert call("map patient.nii.gz --output='~/maps/n.nii.gz' -q", folder).status == 0
    assert not (folder / "~").exists()
    assert (home / "maps/n.nii.gz").read_bytes() == (folder / "novelty.nii.gz").read_bytes()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("map patient.nii.gz --smooth nan", "--smooth"),
        ("map patient.nii.gz --smooth inf", "--smooth"),
        ("map patient.nii.gz --smooth 1e30", "--smooth"),
        ("map patient.nii.gz --memory nan", "--memory"),
        ("map patient.nii.gz --memory inf", "--memory"),
        ("map patient.nii.gz --max-angle nan", "--max-angle"),
        ("map patient.nii.gz --neighbours 100000", "--neighbours"),
        ("fit healthy --force --kl-weight nan", "--kl-weight"),
        ("fit healthy --force --validation nan", "--validation"),
        ("fit healthy --force --seed 99999999999999999999", "--seed"),
        ("map patient.nii.gz --nthreads 100000", "--nthreads"),
    ],
)
def test_numbers_that_are_none_or_too_large_are_refused(
    line: str, says: str, prepared: Path, call: Run
) -> None:
    before = tree_of(prepared)
    done = call(line, prepared)
    assert (done.status, "Traceback" in done.stderr) == (2, False)
    assert f"Invalid value for '{says}'" in done.stderr
    assert tree_of(prepared) == before


def test_more_neighbours_than_healthy_voxels_are_refused_at_once(folder: Path, call: Run) -> None:
    index = folder / "qspace-nd-model/model.json"
    voxels = sum(scan["voxels"] for scan in json.loads(index.read_text())["acquisition"]["scans"])
    assert voxels > 1000  # the most that the command line takes; from Python more can be asked
    code = (
        "from qspace_nd import MapSettings, map_scans; map_scans(['patient.nii.gz'], "
        f"'qspace-nd-model', 'n.nii.gz', MapSettings(neighbours={voxels + 1}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    says = f"{voxels + 1} neighbours are asked for, and the reference of the model in"
    assert f"InputError: {says} qspace-nd-model holds {voxels:,} voxels" in done.stderr


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("mpa patient.nii.gz", "map"),
        ("map patient.nii.gz --score latent-distanse", "latent-distance"),
    ],
)
def test_what_is_nearly_a_name_is_guessed(line: str, meant: str, prepared: Path, call: Run) -> None:
    done = call(line, prepared)
    assert done.status == 2
    assert f"did you mean {meant}?" in done.stderr


def test_several_participants_may_follow_one_option(bids_cohort: Path, call: Run) -> None:
    both = "--participant-label control01 control02"
    done = call(f"check --bids {bids_cohort} {both}", bids_cohort)
    assert "2 of 2 scans can be used." in done.stdout


def test_a_level_without_a_model_names_the_level_before(
    bids_cohort: Path, tmp_path: Path, call: Run
) -> None:
    done = call(f"bids {bids_cohort} {tmp_path / 'out'} participant", tmp_path)
    assert done.status == 2
    assert f"fit one first (qspace-nd bids {bids_cohort} {tmp_path / 'out'} group)" in done.stderr


def test_check_that_is_quiet_tells_problems_alone(folder: Path, call: Run) -> None:
    (folder / "bad.nii.gz").write_bytes(b"none")
    done = call("check patient.nii.gz bad.nii.gz -q", folder)
    assert done.stdout.splitlines()[0] == "bad.nii.gz: cannot be used"
    assert done.stdout.splitlines()[-1] == "1 of 2 scans can be used."
    assert "patient.nii.gz" not in done.stdout


def test_the_tables_of_two_regions_have_two_titles(folder: Path, call: Run) -> None:
    shutil.copy(folder / "patient_mask.nii.gz", folder / "region.nii.gz")
    done = call("eval --labels lesions.nii.gz --within region.nii.gz", folder)
    assert "(8 latents), in the brain" in done.stdout
    assert "(8 latents), within region" in done.stdout


def test_letters_that_cannot_be_printed_are_replaced(prepared: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([PROGRAM, "scores"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "latent-distance" in done.stdout


def test_nobody_needs_a_home(prepared: Path) -> None:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs setpriv and its rights to run as a user without a name")
    line = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", PROGRAM, "map"]
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    with tempfile.TemporaryDirectory() as name:  # a test's own folder is closed to others
        folder = Path(name) / "study"
        shutil.copytree(prepared, folder)
        for place in (folder.parent, folder):
            place.chmod(0o777)
        done = subprocess.run(
            [*line, "patient.nii.gz", "--force"], cwd=folder, env=environment,
            capture_output=True, text=True,
        )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_a_map_says_on_what_kind_of_processor_it_was_made(prepared: Path) -> None:
    facts = json.loads((prepared / "novelty.json").read_text())
    assert facts["Processor"] == processor("cpu")

"""Cohorts: what is done is skipped, what is wrong is told, and no failure stops the others."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import ScanError
from qspace_nd.layouts.scans import find_scans
from qspace_nd.workflows.jobs import hash_of_files
from tests.conftest import PROGRAM, Run, call_here, call_installed, tiny_cohort, tree_of

PATIENTS = ("sub-patient01", "sub-patient02", "sub-patient03")
MAP = "map --bids cohort --where group=patient -o maps"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BIDS cohort, a model of its two controls and the maps of its three patients."""
    folder = tmp_path_factory.mktemp("study")
    tiny_cohort(folder / "cohort", controls=2, patients=3)
    for line in ("fit --bids cohort --where group=control --epochs 1 -q", f"{MAP} -q"):
        assert call_here(line, folder) == 0
    return folder


@pytest.fixture
def place(study: Path, tmp_path: Path) -> Path:
    """A copy of it, for a test to change."""
    shutil.copytree(study, tmp_path / "study")
    return tmp_path / "study"


def map_of(place: Path, patient: str, score: str = "latentDistance") -> Path:
    name = f"{patient}_model-vae_param-{score}_dwimap.nii.gz"
    return place / "maps" / patient / "dwi" / name


def scan_of(place: Path, patient: str) -> Path:
    return place / "cohort" / patient / "dwi" / f"{patient}_dwi.nii.gz"


def times(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def visible(folder: Path) -> dict[str, tuple[int, str] | None]:
    """What is in a folder but for what a kill leaves under way, which nothing reads."""
    return {name: tree for name, tree in tree_of(folder).items() if "/." not in name}


# --- What is done is skipped


def test_maps_that_are_there_are_skipped_and_others_are_made(place: Path, call: Run) -> None:
    whole = visible(place / "maps")
    shutil.rmtree(place / "maps" / PATIENTS[1])
    before = times(place / "maps")
    outcome = call(MAP, place)
    assert outcome.status == 0
    assert "2 of 3 scans are mapped already, by the same model and settings" in outcome.stderr
    assert re.findall(r"^Wrote .*/(sub-patient\d+)_", outcome.stderr, re.M) == [PATIENTS[1]]
    assert before.items() <= times(place / "maps").items()
    assert visible(place / "maps") == whole


def test_where_all_is_done_nothing_is(place: Path, call: Run) -> None:
    before = times(place)
    outcome = call(f"{MAP} -q", place)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert times(place) == before


def test_force_makes_all_maps_again(place: Path, call: Run) -> None:
    before, whole = times(place / "maps"), visible(place / "maps")
    assert call(f"{MAP} --force -q", place).status == 0
    assert all(
        time > before[name] for name, time in times(place / "maps").items() if "dwi/" in name
    )
    assert visible(place / "maps") == whole


def test_a_score_and_a_smoothed_map_can_be_added(place: Path, call: Run) -> None:
    old = map_of(place, PATIENTS[0]).read_bytes()
    more = "--score input-distance --score latent-distance --smooth 10"
    assert call(f"{MAP} {more} -q", place).status == 0
    assert map_of(place, PATIENTS[0]).read_bytes() == old
    assert map_of(place, PATIENTS[0], "inputDistance").is_file()
    assert map_of(place, PATIENTS[0], "latentDistance_desc-smoothed").is_file()
    outcome = call(f"{MAP} {more}", place)
    assert "3 of 3 scans are mapped already" in outcome.stderr
    outcome = call(f"{MAP} {more.replace('10', '12')} -q", place)
    assert outcome.status == 2
    assert "desc-smoothed_dwimap.nii.gz exists already, and was made not from" in outcome.stderr


def test_plain_scans_are_skipped_in_a_folder_too(folder: Path, call: Run) -> None:
    line = "map patient.nii.gz healthy/control-01.nii.gz -o maps"
    assert call(line, folder).status == 0
    before = times(folder / "maps")
    assert "2 of 2 scans are mapped already" in call(line, folder).stderr
    assert times(folder / "maps") == before


def test_a_single_map_is_skipped_where_it_is_there_and_refused_where_it_is_another(
    folder: Path, call: Run
) -> None:
    before = times(folder)
    outcome = call("map patient.nii.gz -o novelty.nii.gz", folder)
    assert (outcome.status, times(folder)) == (0, before)
    assert "1 of 1 scan is mapped already, by the same model and settings" in outcome.stderr
    outcome = call("map patient.nii.gz -o novelty.nii.gz --neighbours 3", folder)
    assert (outcome.status, times(folder)) == (2, before)
    assert "was made with Neighbours 10 and not 3; name another output" in outcome.stderr


# --- What was made otherwise is refused


def turn_a_vector(place: Path) -> None:
    path = scan_of(place, PATIENTS[2]).with_name(f"{PATIENTS[2]}_dwi.bvec")
    vectors = np.loadtxt(path)
    vectors[:, 3] *= -1
    np.savetxt(path, vectors)


def store_anew(place: Path) -> None:
    path = scan_of(place, PATIENTS[2])
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), path)


def replace_map(place: Path) -> None:
    """As another program would write it."""
    path = map_of(place, PATIENTS[2])
    image = nib.load(path)
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine), path)


def write_text(place: Path) -> None:
    map_of(place, PATIENTS[2]).write_text("mine")


def of_another_version(place: Path) -> None:
    """As another version would have left it."""
    path = map_of(place, PATIENTS[2])
    sidecar = path.with_name(path.name.replace(".nii.gz", ".json"))
    facts = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**facts, "SoftwareVersion": "0.0.9"}))
    path.unlink()


def fit_another(place: Path) -> None:
    shutil.rmtree(place / "qspace-nd-model")
    line = "fit --bids cohort --where group=control --epochs 1 --seed 1 -q"
    assert call_here(line, place) == 0


@pytest.mark.parametrize(
    ("change", "more", "named", "says"),
    [
        (store_anew, "", PATIENTS[2], "when the scan, its mask or its gradients were other files"),
        (turn_a_vector, "", PATIENTS[2], "when the scan, its mask or its gradients were other"),
        (fit_another, "", PATIENTS[0], "with another model"),
        (lambda place: None, "--neighbours 3", PATIENTS[0], "with Neighbours 10 and not 3"),
        (
            lambda place: None,
            "--ignore-nonfinite",
            PATIENTS[0],
            "with IgnoreNonfinite False and not True",
        ),
        (replace_map, "", PATIENTS[2], "not from this scan by this model and these settings"),
        (write_text, "", PATIENTS[2], "not from this scan by this model and these settings"),
        (of_another_version, "", PATIENTS[2], "with SoftwareVersion 0.0.9 and not "),
    ],
)
def test_maps_that_were_made_otherwise_are_refused_and_the_others_made(
    change: Callable[[Path], None], more: str, named: str, says: str, place: Path, call: Run
) -> None:
    shutil.rmtree(place / "maps" / PATIENTS[1])
    change(place)
    others = [place / "maps" / patient for patient in (PATIENTS[0], PATIENTS[2])]
    before = [tree_of(folder) for folder in others]
    outcome = call(f"{MAP} {more} -q", place)
    assert (outcome.status, [tree_of(folder) for folder in others]) == (1, before)
    assert map_of(place, PATIENTS[1]).is_file()
    assert re.search(
        rf"of 3 scans could not be mapped: .*maps/{named}/\S+ exists already, and was made "
        rf"{says}.*; name another output, or map this scan again with --force",
        outcome.stderr,
    )
    assert call(f"{MAP} {more} --force -q", place).status == 0


def test_where_all_maps_were_made_otherwise_nothing_is_done(place: Path, call: Run) -> None:
    fit_another(place)
    before = tree_of(place)
    outcome = call(f"{MAP} -q", place)
    assert (outcome.status, tree_of(place)) == (2, before)
    assert re.search(
        r"^qspace-nd: maps/\S+ exists already, and was made with another model; name another "
        r"output, or map this scan again with --force",
        outcome.stderr,
    )


# --- Failures


def truncate(path: Path) -> bytes:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return content


def test_a_scan_that_cannot_be_read_is_reported_at_the_end_and_the_others_are_mapped(
    place: Path, call: Run
) -> None:
    whole = visible(place / "maps")
    shutil.rmtree(place / "maps")
    content = truncate(scan_of(place, PATIENTS[0]))
    outcome = call(f"{MAP} -q", place)
    assert outcome.status == 1
    warning, report = outcome.stderr.splitlines()
    assert re.match(r"Warning: cohort/sub-patient01/.* is truncated or corrupt", warning)
    assert re.fullmatch(
        r"qspace-nd: 1 of 3 scans could not be mapped: cohort/sub-patient01/\S+ is truncated or "
        r"corrupt .*; the maps of the others are there, and are skipped when the command is run "
        r"again\.",
        report,
    )
    assert not (place / "maps" / PATIENTS[0]).exists()
    scan_of(place, PATIENTS[0]).write_bytes(content)
    outcome = call(MAP, place)
    assert outcome.status == 0
    assert "2 of 3 scans are mapped already" in outcome.stderr
    assert visible(place / "maps") == whole


def test_where_every_scan_fails_nothing_is_written(place: Path, call: Run) -> None:
    shutil.rmtree(place / "maps")
    for patient in PATIENTS:
        truncate(scan_of(place, patient))
    before = tree_of(place)
    outcome = call(f"{MAP} -q", place)
    assert (outcome.status, tree_of(place)) == (1, before)
    assert "3 of 3 scans could not be mapped: " in outcome.stderr
    assert outcome.stderr.endswith("; nothing was written.\n")


def test_what_headers_tell_is_told_before_any_work(place: Path, call: Run) -> None:
    shutil.rmtree(place / "maps")
    image = nib.load(scan_of(place, PATIENTS[2]))
    nib.save(image.slicer[..., 0], scan_of(place, PATIENTS[2]))
    before = tree_of(place)
    outcome = call(f"{MAP} -q", place)
    assert (outcome.status, tree_of(place)) == (2, before)
    assert "sub-patient03_dwi.nii.gz has the shape" in outcome.stderr


def test_a_single_scan_that_cannot_be_read_is_wrong_input(place: Path, call: Run) -> None:
    shutil.rmtree(place / "maps")
    truncate(scan_of(place, PATIENTS[0]))
    before = tree_of(place)
    outcome = call("map --bids cohort --participant-label patient01 -o maps -q", place)
    assert (outcome.status, tree_of(place)) == (2, before)
    assert "is truncated or corrupt" in outcome.stderr


# --- Runs that are killed, and runs side by side


def test_a_run_that_is_killed_goes_on_where_it_was(place: Path, call: Run) -> None:
    line = f"{MAP} --score latent-distance --score recon-likelihood-qhat"
    assert call(f"{line} -q", place).status == 0
    whole = visible(place / "maps")
    shutil.rmtree(place / "maps")
    process = subprocess.Popen(
        [PROGRAM, *line.split()], cwd=place, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for said in process.stderr:
        if said.startswith("Wrote"):
            break
    process.kill()
    process.wait()
    process.stderr.close()
    done = [p for p in PATIENTS if map_of(place, p).exists()]
    done = [p for p in done if map_of(place, p, "reconLikelihoodQhat").exists()]
    assert 0 < len(done) < len(PATIENTS)
    before = {patient: times(place / "maps" / patient) for patient in done}
    outcome = call(line, place)
    assert outcome.status == 0, outcome.stderr
    assert f"{len(done)} of 3 scans are mapped already" in outcome.stderr
    assert {patient: times(place / "maps" / patient) for patient in done} == before
    assert visible(place / "maps") == whole


def test_a_run_that_is_killed_at_any_moment_can_go_on(place: Path) -> None:
    """A child is killed at its n-th write to the disk, for every n until it gets through."""
    shutil.rmtree(place / "maps")
    code = """
        import hashlib, os, shutil, signal, sys
        from pathlib import Path
        # Once: children start with what is imported.
        from qspace_nd.workflows.map import map_scans
        from qspace_nd.workflows.settings import MapSettings

        def mapped(last):
            child = os.fork()
            if not child:
                left, written = last, os.fsync
                def fsync(descriptor):
                    global left
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left -= 1
                    written(descriptor)
                globals().update(left=last)
                os.fsync = fsync
                scans = sorted(Path("cohort").glob("sub-patient0[12]/dwi/*_dwi.nii.gz"))
                map_scans(scans, Path("qspace-nd-model"), Path("maps"), MapSettings("recon-error"))
                os._exit(0)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                assert os.WTERMSIG(status) == signal.SIGKILL
            else:
                assert os.WEXITSTATUS(status) == 0
            return os.WIFEXITED(status)

        def contents():
            files = [p for p in Path("maps").rglob("*") if p.is_file()]
            return {
                str(p): hashlib.sha256(p.read_bytes()).hexdigest()
                for p in files if p.name == ".bidsignore" or p.name[0] != "."
            }

        assert mapped(-1)
        whole, moments = contents(), 0
        while True:
            shutil.rmtree("maps")
            if mapped(moments):
                break
            assert mapped(-1), moments
            assert contents() == whole, moments
            moments += 1
        print(moments, "moments")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # The description and .bidsignore; of each patient a map and a mask with sidecars, a picture.
    assert int(done.stdout.split()[0]) == 2 + 2 * 5


def test_processes_map_patients_side_by_side_into_one_dataset(place: Path) -> None:
    shutil.rmtree(place / "maps" / PATIENTS[2])
    whole = visible(place / "maps")
    shutil.rmtree(place / "maps")
    named = (f"--participant-label {patient}" for patient in PATIENTS[:2])
    lines = [f"map --bids cohort {one} -o maps -q" for one in named]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda line: call_installed(line, place), lines))
    assert [outcome.status for outcome in outcomes] == [0, 0], outcomes
    assert visible(place / "maps") == whole


# --- The hash


def test_the_hash_is_of_all_files_of_a_scan(place: Path) -> None:
    (files,) = find_scans([scan_of(place, PATIENTS[0])])
    hashes = {hash_of_files(files)}
    for path in (files.image, files.bval, files.bvec, files.mask):
        assert path is not None
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        hashes.add(hash_of_files(files))
        path.write_bytes(content)
    assert len(hashes) == 5
    assert hash_of_files(files) in hashes


def test_a_file_that_cannot_be_read_is_told_where_it_is_hashed(place: Path) -> None:
    (scan,) = find_scans([scan_of(place, "sub-patient01")])
    scan.image.unlink()
    with pytest.raises(ScanError, match=re.escape(f"{scan.image} cannot be read (No such file")):
        hash_of_files(scan)

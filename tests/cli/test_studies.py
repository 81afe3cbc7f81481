"""Whole studies, from scans to tables."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.conftest import PROGRAM, Run

CONTROL_CHARACTERS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x80-\x9f]")


PATIENTS = ("sub-patient01", "sub-patient02")


def remove_results(folder: Path) -> None:
    """Leave the scans of the prepared folder alone in it."""
    for path in (folder / "qspace-nd-model", *folder.glob("novelty*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type a line in a shell that finds `qspace-nd`."""
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_three_lines_work_as_they_stand(folder: Path) -> None:
    remove_results(folder)
    for line in (
        "qspace-nd fit healthy/*.nii.gz",
        "qspace-nd map patient.nii.gz -o novelty.nii.gz",
        "qspace-nd eval --labels lesions.nii.gz",
    ):
        done = shell(line, folder)
        assert done.returncode == 0, done.stderr
        assert not CONTROL_CHARACTERS.search(done.stdout + done.stderr)
    evaluation = folder / "qspace-nd-eval"
    assert {path.name for path in evaluation.iterdir()} == {
        "eval.json",
        "eval.tsv",
        "roc.png",
        "precision-recall.png",
        "froc.png",
        "histograms.png",
        "slices_patient.png",
    }
    assert "AUC" in done.stdout
    scan, novelty = (nib.load(folder / f"{name}.nii.gz") for name in ("patient", "novelty"))
    assert novelty.shape == scan.shape[:3]
    assert novelty.get_data_dtype() == np.float32
    np.testing.assert_array_equal(novelty.affine, scan.affine)


def test_a_bids_cohort_goes_through_the_commands_by_its_folders(
    bids_cohort: Path, tmp_path: Path, call: Run
) -> None:
    (tmp_path / "cohort").symlink_to(bids_cohort)
    masks = "cohort/derivatives/masks"
    regions = [f"--within {masks}/{p}/dwi/{p}_label-WM_mask.nii.gz" for p in PATIENTS]
    for line in (
        "fit cohort/sub-control* --epochs 1",
        "map cohort/sub-patient* -o maps --score latent-distance --score input-distance",
        f"eval maps --labels {masks} {' '.join(regions)}",
    ):
        outcome = call(line, tmp_path)
        assert outcome.status == 0, outcome.stderr
    dwi = tmp_path / "maps/sub-patient01/dwi"
    assert {path.name for path in dwi.iterdir()} == {
        *(f"sub-patient01_desc-brain_mask.{ending}" for ending in ("nii.gz", "json")),
        *(
            f"sub-patient01_model-vae_param-{score}_dwimap.{ending}"
            for score in ("latentDistance", "inputDistance")
            for ending in ("nii.gz", "json", "png")
        ),
    }
    assert json.loads((tmp_path / "maps/dataset_description.json").read_text())["DatasetType"] == (
        "derivative"
    )
    table = (tmp_path / "qspace-nd-eval/eval.tsv").read_text().splitlines()
    assert len(table) == 1 + 2 * 2 * 2  # patients, scores, regions

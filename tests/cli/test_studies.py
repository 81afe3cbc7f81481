"""Whole studies, from scans to tables, and the lines of the README."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.network.recipes import IMAGE_PRESETS, PRESETS
from tests.conftest import CONTROLS, PATIENT, PROGRAM, Run, as_stack, register_quickly

README = Path(__file__).parents[2] / "README.md"


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


def console_blocks(text: str) -> list[list[str]]:
    """Give the lines that call `qspace-nd` in each block of the README that shows a shell."""
    blocks = re.findall(r"^```(?:console|bash|sh)\n(.*?)^```", text, re.M | re.S)
    lines = [[line.removeprefix("$ ") for line in block.splitlines()] for block in blocks]
    calls = [[line for line in block if line.startswith("qspace-nd ")] for block in lines]
    return [block for block in calls if block]


SHORTER = {
    "fit": " --epochs 1",
    "group": " --epochs 1",
    "simulate": " --controls 1 --voxel-size 8",
    "demo": None,
}
"""What is added to a line of the README with a word to make it quick; None where it cannot be."""


@pytest.mark.parametrize(
    "block", console_blocks(README.read_text()), ids=lambda block: block[0].replace(" ", "-")
)
def test_the_lines_of_the_readme_work(
    block: list[str],
    folder: Path,
    bids_cohort: Path,
    call: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remove_results(folder)
    if any("stacks/" in line for line in block):
        register_quickly(monkeypatch)
        for scan in CONTROLS[:2]:
            as_stack(folder / scan, folder / "stacks" / scan.name)
        as_stack(folder / PATIENT, folder / "stack.nii.gz")
    if not any(line.startswith("qspace-nd simulate") for line in block):
        (folder / "cohort").symlink_to(bids_cohort)
    for line in block:
        words = line.split()  # --add takes no settings
        found = (more for word, more in SHORTER.items() if word in words and "--add" not in words)
        more = next(found, "")
        if more is None:
            continue
        outcome = call(line.removeprefix("qspace-nd ") + more, folder)
        assert outcome.status == 0, outcome.stderr


def test_the_readme_shows_what_check_prints(prepared: Path, call: Run) -> None:
    """Its last scan, the head of its table and its count; other scans have other numbers."""

    def lines(text: str) -> list[str]:
        return [" ".join(re.sub(r"-?\d[\d.,]*", "0", line).split()) for line in text.splitlines()]

    (shown,) = re.findall(r"^```text\n(.*?)^```", README.read_text(), re.M | re.S)
    told, wanted = (
        lines(call("check healthy/*.nii.gz patient.nii.gz", prepared).stdout),
        lines(shown),
    )
    scan, table = wanted[: wanted.index("Quality")], wanted[wanted.index("Quality") :]
    assert told[told.index("Quality") - len(scan) : told.index("Quality")] == scan
    assert told[told.index("Quality") :][:3] == table[:3]
    assert told[-1] == wanted[-1]


def python_blocks() -> dict[str, str]:
    """What the README shows of pictures, of scans, and of arrays."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.M | re.S)
    return dict(zip(("pictures", "scans", "arrays"), blocks, strict=True))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training be over in a moment."""
    for presets in (PRESETS, IMAGE_PRESETS):
        monkeypatch.setitem(presets, "default", replace(presets["default"], steps=10))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("shape", [(6,), (1, 6, 5)], ids=["vectors", "images"])
def test_the_arrays_of_the_readme_work(
    shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    np.save(tmp_path / "normal.npy", random.random((60, *shape)))
    np.save(tmp_path / "test.npy", random.random((20, *shape)))
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(python_blocks()["arrays"], found)
    assert found["novelty"].shape == found["error"].shape == (20,)
    again = NoveltyModel.load("model").decision_function(found["test"])
    np.testing.assert_array_equal(again, found["novelty"])


@pytest.mark.usefixtures("short")
def test_the_scans_of_the_readme_work(inside: Path) -> None:
    shutil.rmtree(inside / "qspace-nd-model")
    found: dict[str, Any] = {}
    exec(python_blocks()["scans"], found)
    assert {*found["auc"]} == {"latent-distance", "recon-error"} | {
        f"{score}, 6 mm" for score in ("latent-distance", "recon-error")
    }
    assert all(path.is_file() for path in found["evaluation"].files)


def test_the_picture_of_the_readme_works(inside: Path) -> None:
    exec(python_blocks()["pictures"], {})
    assert (inside / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_the_readme_begins_with_a_small_picture() -> None:
    (path,) = re.findall(r"^!\[[^]]+\]\((\S+)\)", README.read_text()[:400], re.M)
    assert (README.parent / path).stat().st_size < 300_000


def test_the_readme_shows_the_three_lines() -> None:
    lines = [line for block in console_blocks(README.read_text()) for line in block]
    for line in (
        "qspace-nd fit healthy/*.nii.gz",
        "qspace-nd map patient.nii.gz -o novelty.nii.gz",
        "qspace-nd eval --labels lesions.nii.gz",
    ):
        assert line in lines

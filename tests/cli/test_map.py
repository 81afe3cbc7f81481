"""`qspace-nd map`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from qspace_nd.scores.catalogue import PAPER
from qspace_nd.workflows import map as mapping
from qspace_nd.workflows.settings import MapSettings
from tests.conftest import Run

TWO, TRIPLE = ["latent-kl", "recon-error"], (3, "approximate", 6.0)


def test_a_healthy_scan_is_recognised_and_its_subject_left_out(folder: Path, call: Run) -> None:
    line = "map healthy/control-02.nii.gz -o control.nii.gz --score input-distance"
    outcome = call(line, folder)
    assert outcome.status == 0
    assert "is one of the healthy scans of the model" in outcome.stderr
    novelty = nib.load(folder / "control.nii.gz").get_fdata()
    mask = nib.load(folder / "control_mask.nii.gz").get_fdata() > 0
    assert (novelty[mask] > 0).all()
    assert json.loads((folder / "control.json").read_text())["LeftOut"] == "control-02"


@pytest.mark.parametrize(
    ("given", "scores", "others"),
    [
        ("", "latent-distance", ()),
        ("--score all", [*PAPER], ()),
        ("--score latent-kl --score recon-error --score latent-kl", TWO, ()),
        ("--neighbours 3 --search approximate --smooth 6", "latent-distance", TRIPLE),
    ],
)
def test_the_options_are_settings(
    given: str,
    scores: str | list[str],
    others: tuple[Any, ...],
    prepared: Path,
    call: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = MapSettings(scores, *others)
    asked = []
    monkeypatch.setattr(mapping, "map_scans", lambda *places, **_: asked.append(places))
    assert call(f"map patient.nii.gz -o maps {given}", prepared).status == 0
    assert asked == [([Path("patient.nii.gz")], Path("qspace-nd-model"), Path("maps"), settings)]


def test_map_reports_too(folder: Path, call: Run) -> None:
    line = "map patient.nii.gz -o again.nii.gz --report report"
    outcome = call(line, folder)
    assert outcome.status == 0, outcome.stderr
    assert sorted(path.name for path in (folder / "report").iterdir()) == [
        *("index.html", "methods.md", "patient.html", "references.bib")
    ]
    (folder / "again.nii.gz").unlink()
    outcome = call(line, folder)
    assert outcome.status == 2
    assert "report/patient.html exists already" in outcome.stderr
    assert not (folder / "again.nii.gz").exists()  # before any work

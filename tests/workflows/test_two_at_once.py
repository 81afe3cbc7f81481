"""Two processes at one model: as one after the other, or refused in a sentence."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from qspace_nd.errors import ModelError, ScanError
from qspace_nd.imaging.scans import open_scan
from qspace_nd.imaging.voxels import read_voxels
from qspace_nd.layouts.scans import find_scans
from qspace_nd.model import store
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.workflows.jobs import ModelFacts
from qspace_nd.workflows.map_one import load_model
from tests.conftest import PROGRAM, Run

MODEL = Path("qspace-nd-model")


def test_of_two_that_add_neither_is_forgotten(folder: Path, call: Run) -> None:
    for name in ("one", "two"):
        (folder / name).mkdir()
        for end in (".nii.gz", ".bval", ".bvec", "_mask.nii.gz"):
            (folder / f"{name}/{name}{end}").write_bytes((folder / f"patient{end}").read_bytes())
    image = folder / "two/two.nii.gz"  # another scan
    image.write_bytes((folder / "healthy/control-01.nii.gz").read_bytes())
    (folder / "two/two_mask.nii.gz").write_bytes(
        (folder / "healthy/control-01_mask.nii.gz").read_bytes()
    )
    assert call("fit one --force --epochs 1 -q", folder).status == 0  # a model of the one alone
    lines = ["fit --add two -q", "fit --add healthy/control-02.nii.gz -q"]
    running = [
        subprocess.Popen([PROGRAM, *line.split()], cwd=folder, stderr=subprocess.PIPE, text=True)
        for line in lines
    ]
    said = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    index = json.loads((folder / MODEL / "model.json").read_text())
    names = {scan["name"] for scan in index["acquisition"]["scans"]}
    assert names == {"one", "two", "control-02"}
    assert {part["subject"] for part in index["reference"]} == names


def test_a_model_that_was_replaced_since_its_index_was_read_is_refused(
    inside: Path, call: Run
) -> None:
    facts = ModelFacts.read(MODEL)
    assert call("fit healthy --force --epochs 1 --seed 4 -q", inside).status == 0
    with pytest.raises(ModelError, match="was replaced by another meanwhile; map the scans again"):
        load_model(facts)


def test_a_reader_sees_one_model_or_the_other(
    inside: Path, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is replaced when its index was read, and its weights were not."""
    assert call("fit healthy --model other --epochs 1 --seed 4 -q", inside).status == 0
    load, calls = store._load, []

    def replaced(folder: Path, index: dict[str, object]) -> store.Contents:
        if not calls:
            calls.append(folder)
            other = NoveltyModel.load("other")
            other.save(folder, force=True)
        return load(folder, index)

    monkeypatch.setattr(store, "_load", replaced)
    found = NoveltyModel.load(MODEL)
    assert found.seed == 4


def test_a_scan_that_changes_while_it_is_read_is_refused(inside: Path) -> None:
    scan = open_scan(find_scans([Path("patient.nii.gz")])[0])
    bvals = Path("patient.bval")
    np.savetxt(bvals, np.loadtxt(bvals)[None] + 1, fmt="%g")
    with pytest.raises(ScanError, match=r"patient\.bval was changed while it was read; run"):
        read_voxels(scan)

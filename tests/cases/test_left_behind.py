"""What a command that was killed, or that failed, leaves behind; and who may read what is written.

Files of a run that was stopped lie there whole or not at all: it goes on by what it was made of.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import WorkError
from qspace_nd.model import store
from qspace_nd.model.masks_folder import take_up_masks, waiting_masks
from qspace_nd.workflows import healthy_scans, map_one
from tests.cases.scans import save_scan
from tests.conftest import Run, tree_of

EVAL = "eval novelty.nii.gz --labels lesions.nii.gz -o figures -q"
MAP = "map patient.nii.gz -o novelty.nii.gz --smooth 12 -q"


@pytest.fixture
def evaluated(folder: Path, call: Run) -> Path:
    """The folder with an evaluation in `figures`."""
    assert call(EVAL, folder).status == 0
    return folder


def modes(folder: Path) -> set[int]:
    """The rights of all files below a folder."""
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}


# --- A single map or evaluation goes on


@pytest.mark.parametrize(
    "lost",
    [
        ["novelty.nii.gz"],
        ["novelty.nii.gz", "novelty_smoothed.nii.gz", "novelty_mask.nii.gz"],
        ["novelty_smoothed.json", "novelty_smoothed.nii.gz"],
    ],
)
def test_a_map_that_was_stopped_goes_on(folder: Path, call: Run, lost: list[str]) -> None:
    assert call(MAP, folder).status == 0
    whole = tree_of(folder)
    for name in lost:
        (folder / name).unlink()
    done = call(MAP, folder)
    assert (done.status, done.stderr) == (0, "")
    assert tree_of(folder) == whole


@pytest.mark.parametrize(
    "lost", [["roc.png"], ["eval.tsv", "roc.png", "histograms.png", "slices_patient.png"]]
)
def test_an_evaluation_that_was_stopped_goes_on(
    evaluated: Path, call: Run, lost: list[str]
) -> None:
    whole = tree_of(evaluated)
    for name in lost:
        (evaluated / "figures" / name).unlink()
    assert call(EVAL, evaluated).status == 0
    assert tree_of(evaluated) == whole


def test_an_evaluation_of_other_labels_is_refused(evaluated: Path, call: Run) -> None:
    labels = evaluated / "lesions.nii.gz"
    image = nib.load(labels)
    values = np.asarray(image.dataobj)
    values[tuple(np.argwhere(values > 0)[0])] = 0
    nib.save(nib.Nifti1Image(values, image.affine, image.header), labels)
    (evaluated / "figures/roc.png").unlink()
    before = tree_of(evaluated)
    done = call(EVAL, evaluated)
    assert done.status == 2
    assert "figures/eval.json exists already; name another output" in " ".join(done.stderr.split())
    assert tree_of(evaluated) == before


# --- Hidden files


def leave(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.write_text("half")
    return paths


def test_the_next_map_removes_what_a_killed_one_left(folder: Path, call: Run) -> None:
    assert call(MAP, folder).status == 0
    whole = tree_of(folder)
    ours = leave(
        folder,
        ".novelty_mask.nii.gz.0123abcd.nii.gz",
        ".novelty.json.89abcdef.json",
        ".novelty.nii.gz.01234567.nii.gz",
        ".novelty_mask.nii.gz.lock",
    )
    strangers = leave(folder, ".novelty.nii.gz.mine.nii.gz", ".other.json.0123abcd.json", ".keep")
    assert call(MAP, folder).status == 0  # although there is nothing to be done
    assert not [path for path in ours if path.exists()]
    assert [path.read_text() for path in strangers] == ["half"] * 3
    for path in strangers:
        path.unlink()
    assert tree_of(folder) == whole


def test_the_next_evaluation_removes_what_a_killed_one_left(evaluated: Path, call: Run) -> None:
    whole = tree_of(evaluated)
    leave(evaluated / "figures", ".eval.json.0123abcd.json", ".roc.png.0123abcd.png")
    assert call(EVAL, evaluated).status == 0
    assert tree_of(evaluated) == whole


def test_what_a_running_process_writes_is_left_alone(evaluated: Path, call: Run) -> None:
    (held,) = leave(evaluated / "figures", ".eval.json.0123abcd.json")
    with held.open("rb+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert call(EVAL, evaluated).status == 0
        assert held.exists()


def test_a_map_that_fails_leaves_nothing(
    folder: Path, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = map_one.write_volume

    def fail(path: Path, *arguments: Any, **more: Any) -> None:
        if path.name == "new.nii.gz":
            raise WorkError("new.nii.gz could not be written (No space left on device).")
        write(path, *arguments, **more)

    monkeypatch.setattr(map_one, "write_volume", fail)
    before = tree_of(folder)
    done = call("map patient.nii.gz -o new.nii.gz --smooth 12", folder)
    assert (done.status, "No space left" in done.stderr) == (1, True)
    assert tree_of(folder) == before


# --- Who may read a model


def test_a_model_has_one_kind_of_rights(folder: Path, call: Run) -> None:
    model = folder / "qspace-nd-model"
    assert modes(model) == {stat.S_IMODE((folder / "novelty.json").stat().st_mode)}
    for path in model.rglob("*.*"):
        path.chmod(0o600)
    assert call("fit --add patient.nii.gz -q", folder).status == 0
    assert modes(model) == {0o600}
    assert call("fit healthy --force --epochs 1 --seed 4 -q", folder).status == 0
    assert modes(model) == {0o600}


# --- Voxels that workers shared


def test_the_next_fit_removes_the_voxels_that_a_killed_one_shared(folder: Path, call: Run) -> None:
    for name in (".scratch", ".scratch-0123456789abcdef"):
        left = folder / "qspace-nd-model" / name
        left.mkdir()
        (left / "0123").write_text("half")
    assert call("fit healthy --force --epochs 1 -q", folder).status == 0
    assert not list((folder / "qspace-nd-model").glob(".*"))


# --- Masks that a fit computed


class Killed(BaseException):
    """What no handler of errors catches."""


def test_masks_are_there_once_the_model_is(
    tmp_path: Path, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*arguments: object) -> None:
        raise Killed

    line = "fit c1.nii.gz c2.nii.gz --epochs 1 -q"
    for seed in (1, 2):
        save_scan(tmp_path / f"c{seed}.nii.gz", seed)
    masks = tmp_path / "qspace-nd-model/masks"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(store, "write_text", kill)  # of model.json
        call(line, tmp_path)
    assert not list((tmp_path / "qspace-nd-model").glob("*mask*"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(healthy_scans, "settle_masks", kill)
        call(line, tmp_path)
    assert not masks.exists()
    assert call(line, tmp_path).status == 2  # there is a model
    assert sorted(path.name for path in masks.iterdir()) == ["c1_mask.nii.gz", "c2_mask.nii.gz"]
    assert not (tmp_path / "qspace-nd-model/.masks").exists()


def test_masks_of_a_model_that_was_not_written_are_dropped(folder: Path) -> None:
    model = folder / "qspace-nd-model"
    waiting_masks(model).mkdir()
    for name, later in (("old_mask.nii.gz", -5), ("new_mask.nii.gz", 5)):
        (waiting_masks(model) / name).write_text(name)
        time = (model / store.INDEX).stat().st_mtime + later
        os.utime(waiting_masks(model) / name, (time, time))
    take_up_masks(model, model / store.INDEX)
    assert [path.name for path in (model / "masks").iterdir()] == ["old_mask.nii.gz"]
    assert not waiting_masks(model).exists()

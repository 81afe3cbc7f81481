"""`fit --add`: more healthy scans for a model that is there."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.model import store
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.workflows.add import add_scans
from tests.conftest import Run, tiny_cohort, tree_of

MODEL = "qspace-nd-model"


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two more controls, of the same protocol as the prepared ones."""
    folder = tmp_path_factory.mktemp("others")
    tiny_cohort(folder, controls=2, patients=0, layout="flat", seed=5)
    return folder / "healthy"


@pytest.fixture
def study(folder: Path, others: Path) -> Path:
    """The prepared folder, and the other controls under names of their own."""
    (folder / "more").mkdir()
    for path in others.iterdir():
        shutil.copy(path, folder / "more" / path.name.replace("control-", "other-"))
    return folder


def index_of(folder: Path) -> dict:
    return json.loads((folder / MODEL / "model.json").read_text())


def test_added_scans_are_in_the_reference_and_all_else_stays(study: Path, call: Run) -> None:
    before, files = index_of(study), tree_of(study / MODEL)
    times = {path: path.stat().st_mtime_ns for path in (study / MODEL).rglob("*-*")}
    outcome = call("fit --add more/*.nii.gz", study)
    assert outcome.status == 0, outcome.stderr
    assert re.search(
        r"Added [\d,]+ voxels of 2 scans: the reference is [\d,]+ voxels of 5 scans now",
        outcome.stderr,
    )
    after = index_of(study)
    assert after["hash"] != before["hash"]
    changing = {"hash", "reference", "files", "acquisition", "grids", "nulls"}
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    assert after["acquisition"]["channel_means"] == before["acquisition"]["channel_means"]
    assert after["reference"][:3] == before["reference"]
    now = tree_of(study / MODEL)
    made_anew = re.compile(r"model\.json|(grids|null)-.*")  # of all scans together
    kept = {name: found for name, found in files.items() if not made_anew.match(name)}
    assert {name: now[name] for name in kept} == kept
    times = {path: time for path, time in times.items() if not made_anew.match(path.name)}
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert {name for name in now if name.endswith(".safetensors")} == set(after["files"])
    model = NoveltyModel.load(study / MODEL)
    assert model.acquisition_ is not None
    assert [scan.name for scan in model.acquisition_.scans[3:]] == ["other-01", "other-02"]
    assert [len(part) for part in model.reference_.parts] == [
        scan.voxels for scan in model.acquisition_.scans
    ]


def test_added_voxels_are_normalised_and_encoded_as_a_map_does(study: Path, call: Run) -> None:
    assert call("fit --add more/other-01.nii.gz", study).status == 0
    model = NoveltyModel.load(study / MODEL)
    part = model.reference_.parts[3]
    volumes = np.asarray(nib.load(study / "more/other-01.nii.gz").dataobj).astype(float)
    mask = np.asarray(nib.load(study / "more/other-01_mask.nii.gz").dataobj) > 0
    signal = volumes[mask]
    signal = signal[signal[:, [0, 7]].mean(axis=1) > 0]
    assert model.acquisition_ is not None
    expected = signal / signal.mean() / model.acquisition_.channel_means
    np.testing.assert_allclose(part.views.x, expected, rtol=1e-5)
    q = model.encode(part.views.x.numpy())
    np.testing.assert_array_equal(part.views.q.mean, q.mean)
    np.testing.assert_array_equal(part.views.q.std, q.std)


def test_more_healthy_voxels_make_no_voxel_more_novel(study: Path, call: Run) -> None:
    for line in ("fit --add more", "map patient.nii.gz -o more.nii.gz"):
        assert call(line, study).status == 0
    before, after = (nib.load(study / f"{name}.nii.gz").get_fdata() for name in ("novelty", "more"))
    assert (after <= before + 1e-6).all()
    assert (after < before - 1e-6).any()


def test_an_added_scan_is_recognised_and_its_subject_left_out(study: Path, call: Run) -> None:
    assert call("fit --add more", study).status == 0
    outcome = call("map more/other-02.nii.gz -o own.nii.gz", study)
    assert "the voxels of its subject, other-02, are left out" in outcome.stderr
    assert json.loads((study / "own.json").read_text())["LeftOut"] == "other-02"


def fewer_volumes(study: Path) -> None:
    image = nib.load(study / "more/other-02.nii.gz")
    nib.save(image.slicer[..., :9], study / "more/other-02.nii.gz")
    for ending in ("bval", "bvec"):
        path = study / f"more/other-02.{ending}"
        np.savetxt(path, np.loadtxt(path, ndmin=2)[:, :9], fmt="%.6f")


def other_shell(study: Path) -> None:
    path = study / "more/other-02.bval"
    np.savetxt(path, 2 * np.loadtxt(path, ndmin=2), fmt="%g")


def one_that_is_there(study: Path) -> None:
    for path in study.glob("healthy/control-02*"):
        shutil.copy(path, study / "more" / path.name.replace("control-02", "other-02"))


def one_twice(study: Path) -> None:
    for path in list(study.glob("more/other-01*")):
        shutil.copy(path, path.with_name(path.name.replace("other-01", "other-02")))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            one_that_is_there,
            r"more/other-02.nii.gz is in the model in qspace-nd-model already, as control-02 of "
            r"the subject control-02; add scans that are not",
        ),
        (one_twice, r"other-02.nii.gz holds the same scan as more/other-01.nii.gz"),
        (other_shell, r"other-02.nii.gz has other b-values than the model"),
        (fewer_volumes, r"other-02.nii.gz has .* 15 or more|other-02.nii.gz .*directions"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_added_is_refused_and_nothing_is(
    spoil, sentence: str, study: Path, call: Run
) -> None:
    spoil(study)
    before = tree_of(study)
    outcome = call("fit --add more -q", study)
    assert outcome.status == 2, outcome.stderr
    assert re.search(sentence, outcome.stderr), outcome.stderr
    assert tree_of(study) == before


@pytest.mark.parametrize(
    ("more", "option"), [("--latents 16", "--latents"), ("--seed 1", "--seed"), ("--tune",) * 2]
)
def test_settings_of_a_new_network_do_not_go_with_add(
    more: str, option: str, study: Path, call: Run
) -> None:
    before = tree_of(study)
    outcome = call(f"fit --add more {more}", study)
    assert (outcome.status, tree_of(study)) == (2, before)
    assert f"{option} does not go with --add, which leaves the network as it is" in outcome.stderr


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("--force", "--force does not go with --add, which replaces nothing"),
        ("--memory 1", "--memory does not go with --add, which holds one scan at a time"),
    ],
)
def test_options_of_no_use_do_not_go_with_add(more: str, says: str, study: Path, call: Run) -> None:
    before = tree_of(study)
    outcome = call(f"fit --add more {more}", study)
    assert (outcome.status, tree_of(study)) == (2, before)
    assert says in outcome.stderr


def test_there_must_be_a_model_to_add_to(study: Path, call: Run) -> None:
    outcome = call("fit --add more --model none", study)
    assert outcome.status == 2
    assert "There is no model in none: it does not exist; fit one first" in outcome.stderr
    assert not (study / "none").exists()


class Killed(BaseException):
    """What no handler of errors catches."""


@pytest.mark.parametrize("last", ["write_part", "_hash_of_index"])
def test_an_addition_that_is_killed_leaves_the_model_as_it_was(
    last: str, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = index_of(study)
    read = store.read_index

    def kill(*arguments: object, **named: object) -> None:
        raise Killed

    def read_then_kill(folder: Path) -> dict:
        index = read(folder)
        monkeypatch.setattr(store, last, kill)
        return index

    with monkeypatch.context() as patch, pytest.raises(Killed):
        model = NoveltyModel.load(study / MODEL)
        patch.setattr(NoveltyModel, "load", lambda *arguments: model)
        patch.setattr(store, "read_index", read_then_kill)
        add_scans([study / "more"], study / MODEL)
    monkeypatch.undo()
    assert index_of(study) == before
    assert len(NoveltyModel.load(study / MODEL).reference_.parts) == 3
    add_scans([study / "more"], study / MODEL)
    assert len(NoveltyModel.load(study / MODEL).reference_.parts) == 5
    assert not [name for name in tree_of(study / MODEL) if "incoming" in name]


def test_scans_that_were_added_already_are_skipped(study: Path, call: Run) -> None:
    """A run may be stopped when all is written, and is repeated as it is."""
    assert call("fit --add more/other-01.nii.gz -q", study).status == 0
    before = tree_of(study)
    outcome = call("fit --add more/other-01.nii.gz", study)
    assert outcome.status == 0
    assert "more/other-01.nii.gz is in the model in qspace-nd-model already" in outcome.stderr
    assert tree_of(study) == before
    assert call("fit --add more", study).status == 0
    index = json.loads((study / "qspace-nd-model/model.json").read_text())
    names = [scan["name"] for scan in index["acquisition"]["scans"]]
    assert names == ["control-01", "control-02", "control-03", "other-01", "other-02"]
    assert [part["subject"] for part in index["reference"]] == names

"""Folders with links, phase images and other things in them: read as a dataset is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cases.scans import ball, save, save_dataset, save_mask, save_scan
from tests.conftest import Run


def images(stdout: str) -> list[str]:
    """The names of the scans that `check` found in order."""
    heads = [line for line in stdout.splitlines() if line.endswith(": OK")]
    return [Path(head.removesuffix(": OK")).name.removesuffix(".nii.gz") for head in heads]


def test_phase_images_are_no_scans(tmp_path: Path, call: Run) -> None:
    for k in (1, 2):
        stem = f"sub-0{k}/dwi/sub-0{k}_part"
        save_scan(tmp_path / f"b/{stem}-mag_dwi.nii.gz", k)
        save_scan(tmp_path / f"b/{stem}-phase_dwi.nii.gz", k)
        save_mask(tmp_path / f"b/{stem}-mag_desc-brain_mask.nii.gz")
    magnitudes = ["sub-01_part-mag_dwi", "sub-02_part-mag_dwi"]
    assert images(call("check b", tmp_path).stdout) == magnitudes
    assert images(call("check b/sub-*/dwi/*_dwi.nii.gz", tmp_path).stdout) == magnitudes


def test_a_subject_that_is_a_link_is_found(tmp_path: Path, call: Run) -> None:
    folder = save_dataset(tmp_path / "ds")
    (folder / "sub-001").rename(tmp_path / "elsewhere")
    (folder / "sub-001").symlink_to("../elsewhere")
    (folder / "sub-002" / "loop").symlink_to("..")
    named = call("check --bids ds", tmp_path).stdout
    assert call("check ds", tmp_path).stdout == named
    assert named.endswith("4 of 4 scans can be used.\n")


@pytest.mark.parametrize(
    "pointer",
    [
        "/annex/objects/MD5E-s4321--0123456789abcdef0123456789abcdef.nii.gz\n",
        "version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 4321\n",
    ],
)
@pytest.mark.parametrize("lost", ["c1_mask.nii.gz", "c1.bvec", "c1.nii.gz"])
def test_a_pointer_in_place_of_a_file_is_told(
    lost: str, pointer: str, tmp_path: Path, call: Run
) -> None:
    save_scan(tmp_path / "c1.nii.gz")
    save_mask(tmp_path / "c1_mask.nii.gz")
    (tmp_path / lost).write_text(pointer)
    done = call("check c1.nii.gz", tmp_path)
    assert done.status == 2
    assert f"{lost} is a pointer to content that is not here; expected the file" in done.stderr
    assert "datalad get" in done.stderr


@pytest.mark.parametrize("lost", ["c1_mask.nii.gz", "c1.bvec", "c1.nii.gz"])
def test_content_that_was_not_fetched_is_asked_for(lost: str, tmp_path: Path, call: Run) -> None:
    save_scan(tmp_path / "c1.nii.gz")
    (tmp_path / lost).unlink(missing_ok=True)
    (tmp_path / lost).symlink_to(".git/annex/objects/none")
    done = call("check c1.nii.gz", tmp_path)
    assert done.status == 2
    assert f"{lost} is a link to content that is not here" in done.stderr
    assert "datalad get" in done.stderr


def test_hidden_files_of_macos_are_passed_over(tmp_path: Path, call: Run) -> None:
    save_scan(tmp_path / "healthy/c1.nii.gz")
    save_mask(tmp_path / "healthy/c1_mask.nii.gz")
    (tmp_path / "healthy/._c1.nii.gz").write_bytes(b"\0\5\x16\7" + bytes(4000))
    assert images(call("check healthy", tmp_path).stdout) == ["c1"]


@pytest.mark.parametrize("volumes", [1, 3])
def test_b0_images_of_the_other_way_serve_the_others(
    volumes: int, tmp_path: Path, call: Run
) -> None:
    folder = save_dataset(tmp_path / "ds")
    path = folder / "sub-001/dwi/sub-001_dir-PA_dwi.nii.gz"
    save(path, np.repeat(ball()[..., None], volumes, axis=3).astype(np.int16))
    path.with_name("sub-001_dir-PA_dwi.bval").write_text("0 " * volumes)
    path.with_name("sub-001_dir-PA_dwi.bvec").write_text(("0 " * volumes + "\n") * 3)
    for named in ("ds", "--bids ds", "--bids ds --where dir=n/a"):
        done = call(f"check {named}", tmp_path)
        assert done.status == 0
        assert len(images(done.stdout)) == 4


def test_b_values_of_0_alone_beside_a_whole_scan_are_refused(tmp_path: Path, call: Run) -> None:
    for seed in (1, 2):
        save_scan(tmp_path / f"healthy/c{seed}.nii.gz", seed)
    (tmp_path / "healthy/c2.bval").write_text("0 0 0\n")
    done = call("check -q healthy", tmp_path)
    assert done.status == 2
    assert "c2.bval has 3 b-values, but its scan has 14 volumes" in done.stdout


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"Patient": "a/../../x"}, "has as Patient 'a/../../x'; expected a name"),
        ({"Sources": 3}, "has as Sources 3; expected a list of paths"),
        ("[" * 100_000, "is not a JSON sidecar (it is nested too deeply)"),
    ],
)
def test_eval_writes_in_its_folder_alone(facts: object, says: str, folder: Path, call: Run) -> None:
    text = facts if isinstance(facts, str) else json.dumps(facts)
    (folder / "novelty.json").write_text(text)
    done = call("eval --labels lesions.nii.gz", folder)
    assert done.status == 2
    assert says in done.stderr
    assert not (folder / "x.png").exists() and not (folder / "qspace-nd-eval").exists()

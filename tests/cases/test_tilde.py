"""A ~ in front of a path: whatever shell leaves it, it is a home, once, or a file's own name."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import WorkError
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.nifti import read_volume, write_volume
from qspace_nd.system.writing import replacing
from tests.conftest import Run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("output", ["--output='~/maps/n.nii.gz'", "-o '~/maps/n.nii.gz'"])
def test_a_map_lies_in_the_home_folder(output: str, home: Path, folder: Path, call: Run) -> None:
    done = call(f"map patient.nii.gz {output}", folder)
    assert done.status == 0
    assert f"Wrote {home}/maps/n.nii.gz" in done.stderr
    assert not (folder / "~").exists()
    new, old = (
        nib.load(path).get_fdata() for path in (home / "maps/n.nii.gz", folder / "novelty.nii.gz")
    )
    np.testing.assert_array_equal(new, old)
    assert [path.name for path in (home / "maps").iterdir() if path.name.startswith(".")] == []


def test_every_path_of_a_command_may_have_one(home: Path, folder: Path, call: Run) -> None:
    (home).symlink_to(folder, target_is_directory=True)
    for line in (
        "check ~/patient.nii.gz --model=~/qspace-nd-model --mask=~/patient_mask.nii.gz",
        "check ~/patient.nii.gz --bval=~/patient.bval --bvec=~/patient.bvec",
        "fit ~/healthy --epochs 1 --model=~/other",
        "eval ~/novelty.nii.gz --labels=~/lesions.nii.gz --mask=~/novelty_mask.nii.gz --output=~/e",
        "simulate ~/more --layout flat --controls 1 --patients 0 --voxel-size 10",
    ):
        done = call(f"{line} -q", folder)
        assert done.status == 0, done.stderr
    assert {"other", "e", "more"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "~").exists()


def test_a_home_of_nobody_is_refused(folder: Path, call: Run) -> None:
    done = call("map patient.nii.gz --output=~nobody-at-all/n.nii.gz", folder)
    assert done.status == 2
    assert "whose home ~nobody-at-all is, the system does not know" in done.stderr
    assert not (folder / "~nobody-at-all").exists()


def test_a_file_may_be_called_so(folder: Path, call: Run) -> None:
    """As `*.nii.gz` gives it, or as a shell is told that it is a name."""
    (folder / "patient.nii.gz").rename(folder / "~patient.nii.gz")
    for image in ("~patient.nii.gz", "./~patient.nii.gz"):
        line = f"check {image} --mask patient_mask.nii.gz --bval patient.bval --bvec patient.bvec"
        assert call(line, folder).status == 0


@pytest.mark.parametrize("option", ["-o ''", "--output=''", "--model ''", "--mask ''"])
def test_an_empty_name_is_refused(option: str, prepared: Path, call: Run) -> None:
    """It is what a variable of the shell gives that is not set, and is no name for "here"."""
    done = call(f"map patient.nii.gz {option}", prepared)
    assert (done.status, "the name is empty" in done.stderr) == (2, True)


@pytest.mark.usefixtures("inside", "home")
def test_in_python_a_name_is_what_it_says() -> None:
    volume = np.ones((3, 4, 5), np.float32)
    grid = Grid((3, 4, 5), np.diag([2.0, 2, 2, 1]), 1, 1)
    write_volume(Path("~/x.nii.gz"), volume, grid)
    assert Path("~").is_dir()
    np.testing.assert_array_equal(read_volume(Path("~/x.nii.gz"))[0], volume)


def test_a_file_that_stayed_empty_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("before")
    with pytest.raises(WorkError, match="the file stayed empty"), replacing(tmp_path / "x"):
        pass  # a library wrote elsewhere
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]

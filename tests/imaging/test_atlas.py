from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import InputError, ScanError
from qspace_nd.imaging.atlas import OUTSIDE, Atlas

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -4], [0, 0, 3, 0], [0, 0, 0, 1]])


def write(folder: Path, labels: np.ndarray, name: str = "atlas.nii.gz") -> Path:
    nib.save(nib.Nifti1Image(labels.astype(np.float32), AFFINE), folder / name)
    return folder / name


def labels() -> np.ndarray:
    some = np.zeros((5, 6, 4))
    some[1:3] = 1
    some[3:] = 17
    return some


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (".tsv", "index\tname\tcolor\n1\tleft side\t#fff\n17\tright side\t#000\n"),
        (".txt", "# No Name R G B A\n0 Unknown 0 0 0 0\n1  left_side 1 2 3 0\n17 right_side\n"),
    ],
)
def test_regions_have_the_names_of_the_table_beside(ending: str, text: str, tmp_path: Path) -> None:
    path = write(tmp_path, labels())
    (tmp_path / f"atlas{ending}").write_text(text)
    atlas = Atlas.read(path)
    points = AFFINE[:3, :3] @ np.array([[1, 2, 3], [4.4, 0, 0], [0, 0, 0], [9, 9, 9]]).T
    found = atlas.at((points + AFFINE[:3, 3:]).T)
    assert found.tolist() == [1, 17, 0, 0]
    names = [atlas.called(number).replace("_", " ") for number in found]
    assert names == ["left side", "right side", OUTSIDE, OUTSIDE]
    assert atlas.called(3) == "3"


def test_another_name_makes_another_atlas(tmp_path: Path) -> None:
    path = write(tmp_path, labels())
    plain = Atlas.read(path)
    assert plain.called(17) == "17"
    (tmp_path / "atlas.tsv").write_text("index\tname\n1\ta\n")
    assert Atlas.read(path).digest != plain.digest


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda some: some + 0.5, "holds values that are no whole numbers"),
        (lambda some: some * 0, "holds numbers from 0 to 0; expected an atlas"),
        (lambda some: some - 2, "holds numbers from -2 to 15"),
        (lambda some: np.where(some > 1, np.nan, some), "no whole numbers"),
    ],
)
def test_what_is_no_atlas_is_refused(spoil, says: str, tmp_path: Path) -> None:  # type: ignore
    with pytest.raises(InputError, match=says):
        Atlas.read(write(tmp_path, spoil(labels())))


@pytest.mark.parametrize("text", ["no\ttable\n1\t2\n", "index\tname\n", "index\tname\nx\ta\n"])
def test_a_table_without_names_is_refused(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, labels())
    (tmp_path / "atlas.tsv").write_text(text)
    with pytest.raises(InputError, match=r"atlas.tsv (is no table of an atlas|names no region)"):
        Atlas.read(path)


def test_an_atlas_that_is_not_there_is_missed(tmp_path: Path) -> None:
    with pytest.raises((InputError, ScanError), match=r"atlas.nii.gz"):
        Atlas.read(tmp_path / "atlas.nii.gz")

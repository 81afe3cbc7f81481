from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import ArrayError, ScanError
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.masks import read_mask
from qspace_nd.imaging.nifti import read_description, read_volume, write_scan, write_volume
from tests.imaging.small_scans import (
    AFFINE,
    SHAPE,
    brain,
    head,
    opened,
    save,
)


@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        (b"hello", "s.nii", r"s\.nii is not a NIfTI file"),
        (b"", "s.nii", r"s\.nii is not a NIfTI file"),
        (b"", "s.nii.gz", r"s\.nii\.gz is (not a NIfTI file|truncated)"),
        (b"hello" * 200, "s.nii.gz", r"s\.nii\.gz is not a NIfTI file"),
        (gzip.compress(b"hello" * 200), "s.nii.gz", r"s\.nii\.gz is not a NIfTI file"),
        (b"\x5c\x01\0\0" + b"\xff" * 500, "s.nii", r"s\.nii is not a NIfTI file"),
    ],
)
def test_a_file_that_is_no_nifti_is_refused(
    tmp_path: Path, content: bytes, name: str, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ScanError, match=sentence):
        opened(tmp_path / name)


def test_colours_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"stores complex64 .*; expected integers or floats"):
        save(tmp_path, head().astype(np.complex64))
    with pytest.raises(ScanError, match=r"stores .*; expected integers or floats"):
        save(tmp_path, np.zeros((5, 6, 4, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])))


def test_an_affine_that_places_no_voxels_is_refused(tmp_path: Path) -> None:
    save(tmp_path, head(), mask=brain(), name="s.nii")
    raw = bytearray((tmp_path / "s.nii").read_bytes())
    raw[280:328] = bytes(48)  # srow_x, srow_y and srow_z
    (tmp_path / "s.nii").write_bytes(raw)
    with pytest.raises(ScanError, match="an affine that places no voxels"):
        opened(tmp_path / "s.nii")


def test_a_volume_that_is_none_is_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "s.nii.gz", head(), Grid(SHAPE, AFFINE))
    with pytest.raises(ScanError, match=r"s\.nii\.gz has the shape 5 x 6 x 4 x 5; expected a 3-D"):
        read_volume(tmp_path / "s.nii.gz")
    with pytest.raises(ScanError, match=r"gone\.nii does not exist"):
        read_volume(tmp_path / "gone.nii")


@pytest.mark.parametrize("codes", [*itertools.product([0, 1, 4], [0, 2])])
def test_a_map_has_its_scans_affine_codes_and_shape(tmp_path: Path, codes: tuple[int, int]) -> None:
    turn = nib.eulerangles.euler2mat(0.3, -0.2, 0.1)
    affine = nib.affines.from_matvec(turn @ np.diag([-2.0, 2.5, 3.0]), [9, -7, 5])
    image = nib.Nifti1Image(head(), affine)
    image.header.set_qform(affine, codes[0])
    image.header.set_sform(affine, codes[1])
    image = nib.Nifti1Image(head(), None, image.header)
    nib.save(image, tmp_path / "s.nii.gz")
    source = nib.load(tmp_path / "s.nii.gz")
    grid = opened(tmp_path / "s.nii.gz").grid
    values = np.random.default_rng(0).normal(size=SHAPE)
    write_volume(tmp_path / "map.nii.gz", values, grid, "a novelty map")
    written = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-5)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == codes
    assert written.get_data_dtype() == np.float32
    assert written.shape == SHAPE
    assert written.header.get_xyzt_units()[0] == "mm"
    assert bytes(written.header["descrip"]).startswith(b"a novelty map")
    np.testing.assert_array_equal(written.get_fdata(), values.astype(np.float32))
    again, found = read_volume(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(again, values.astype(np.float32))
    assert again.flags.c_contiguous
    assert found.same_as(grid)


def test_a_mask_is_written_as_uint8_and_a_scan_as_int16_or_float32(tmp_path: Path) -> None:
    grid = Grid(SHAPE, AFFINE)
    write_volume(tmp_path / "m.nii.gz", brain(), grid)
    write_scan(tmp_path / "i.nii.gz", head(), grid)
    write_scan(tmp_path / "f.nii", head() / 7, grid)
    types = [nib.load(tmp_path / n).get_data_dtype() for n in ("m.nii.gz", "i.nii.gz", "f.nii")]
    assert types == [np.uint8, np.int16, np.float32]
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz", grid).marked, brain())
    np.testing.assert_array_equal(nib.load(tmp_path / "i.nii.gz").get_fdata(), head())
    with pytest.raises(ArrayError, match=r"shape \(5, 6, 3\); expected \(5, 6, 4\)"):
        write_volume(tmp_path / "x.nii.gz", np.zeros((5, 6, 3)), grid)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.nii", "i.nii.gz", "m.nii.gz"]


def test_the_same_map_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    grid = Grid(SHAPE, AFFINE)
    for name in "ab":
        write_volume(tmp_path / f"{name}.nii.gz", brain(), grid)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_description_is_read_back_from_the_header(tmp_path: Path) -> None:
    grid = Grid((2, 3, 4), np.eye(4))
    path = tmp_path / "map.nii.gz"
    for text in ("qspace-nd 3f2a", ""):
        write_volume(path, np.zeros(grid.shape, np.float32), grid, text)
        assert read_description(path) == text
    path.write_text("mine" * 99)
    with pytest.raises(ScanError, match=r"map\.nii\.gz is not a NIfTI file"):
        read_description(path)

from __future__ import annotations

import gzip
import importlib.util
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.errors import ScanError
from qspace_nd.imaging import streams, voxels
from qspace_nd.imaging.scans import open_scan
from qspace_nd.imaging.streams import Stored, ahead, gather
from qspace_nd.imaging.voxels import read_voxels
from qspace_nd.imaging.zero_one import ZeroOne
from tests.imaging.small_scans import (
    AFFINE,
    brain,
    head,
    save,
    table,
)


def gathered(
    volumes: np.ndarray, mask: np.ndarray, order: np.ndarray, b0: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`gather` of volumes (X, Y, Z, C), stored with a slope of 1/2."""
    stored = Stored(Path("s.nii"), 0, volumes.shape, volumes.dtype, slope=0.5)
    stream = (volumes[..., i].ravel(order="F") for i in range(volumes.shape[3]))
    return gather(stored, stream, mask, order, b0)


@pytest.mark.parametrize("tile", [1, 7, 27, 64])
def test_voxels_are_gathered_as_by_an_index(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_TILE", tile)
    data, order = head(), np.array([3, 1, 4, 0, 2])
    data[1, 1, 1] = 0
    for b0 in (np.array([True, False, False, True, False]), np.zeros(5, np.bool_)):
        values, finite, signal = gathered(data, brain(), order, b0)
        np.testing.assert_array_equal(values, data[brain()][:, order] / 2)
        assert finite.all()
        np.testing.assert_array_equal(signal, data[brain()].any(axis=1))


def test_stored_numbers_are_scaled_in_double_precision() -> None:
    stored = Stored(Path("s.nii"), 0, (3,), np.dtype(">i2"), slope=0.1, intercept=-1e-3)
    numbers = np.array([1, -32768, 32767], ">i2")
    values = stored.scaled(numbers)
    np.testing.assert_array_equal(values, (numbers * np.float64(0.1) - 1e-3).astype(np.float32))
    assert values.dtype == np.dtype("=f4")
    assert numbers.tolist() == [1, -32768, 32767]


def test_volumes_are_unpacked_ahead_in_their_order_and_errors_reach_who_takes_them() -> None:
    def volumes() -> Iterator[np.ndarray]:
        for number in range(9):
            yield np.full(2, number)
        raise ScanError("s.nii is truncated")

    with ahead(volumes()) as unpacked:
        taken = [int(next(unpacked)[0]) for _ in range(9)]
        with pytest.raises(ScanError, match="truncated"):
            next(unpacked)
    assert taken == list(range(9))


@pytest.mark.parametrize("gradients", [table(), None])
def test_voxels_of_several_tiles_are_gathered_ordered_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gradients: GradientTable | None
) -> None:
    monkeypatch.setattr(streams, "_TILE", 10)
    data, mask, order = head().astype(np.float32), brain(), np.array([3, 1, 4, 0, 2])
    rows = np.argwhere(mask)
    data[(*rows[9], table().b0 if gradients else slice(None))] = 0
    data[(*rows[10], 3)] = np.nan
    data[(*rows[26], 2)] = -np.inf
    keep = np.ones(len(rows), np.bool_)
    keep[[9, 10, 26]] = False
    scan = save(tmp_path, data, mask=mask, gradients=gradients)
    found = read_voxels(scan, order=order, ignore_nonfinite=True)
    np.testing.assert_array_equal(found.values, data[mask][keep][:, order])
    np.testing.assert_array_equal(found.mask[mask], keep)


def test_copies_of_a_scan_in_other_types_and_wrappings_give_the_same_values_and_digest(
    tmp_path: Path,
) -> None:
    slope, intercept = 0.0371, -1.25
    stored = head()
    scan = save(
        tmp_path / "int16",
        stored.astype(np.float64) * np.float32(slope) + np.float32(intercept),
        mask=brain(),
    )
    original = tmp_path / "int16" / "scaled.nii.gz"
    image = nib.Nifti1Image(stored, AFFINE)
    nib.save(image, original)
    raw = bytearray(gzip.decompress(original.read_bytes()))
    raw[112:120] = np.array([slope, intercept], "<f4").tobytes()  # scl_slope and scl_inter
    original.write_bytes(gzip.compress(bytes(raw)))
    (tmp_path / "int16" / "plain.nii").write_bytes(raw)
    values = nib.load(original).get_fdata()
    assert nib.load(original).get_data_dtype() == np.int16
    assert nib.load(original).dataobj.slope == pytest.approx(slope)
    nib.save(nib.Nifti1Image(values.astype(np.float32), AFFINE), tmp_path / "int16" / "float.nii")
    swapped = nib.Nifti1Image(values.astype(">f4"), AFFINE, nib.Nifti1Header(endianness=">"))
    swapped.set_data_dtype(">f4")
    nib.save(swapped, tmp_path / "int16" / "swapped.nii.gz")
    nib.save(nib.Nifti2Image(values.astype(np.float32), AFFINE), tmp_path / "int16" / "n2.nii")
    names = ("scaled.nii.gz", "plain.nii", "float.nii", "swapped.nii.gz", "n2.nii")
    read = [
        read_voxels(
            open_scan(replace(scan.files, image=tmp_path / "int16" / name, bval=None, bvec=None))
        )
        for name in names
    ]
    for found in read:
        np.testing.assert_array_equal(found.values, values[brain()].astype(np.float32))
        assert found.values.dtype == np.dtype("=f4")
        assert found.digest == read[0].digest


def test_the_digest_tells_other_values_and_another_shape_apart(tmp_path: Path) -> None:
    data, changed = head(), head()
    changed[0, 0, 0, 0] += 1  # outside the mask
    one = read_voxels(save(tmp_path / "a", data, mask=brain())).digest
    other = read_voxels(save(tmp_path / "b", changed, mask=brain())).digest
    turned = data.reshape((6, 5, 4, 5), order="F")
    reshaped = read_voxels(save(tmp_path / "c", turned, mask=brain((6, 5, 4)))).digest
    assert len({one, other, reshaped}) == 3
    assert len(one) == 32


def test_the_digest_is_the_same_by_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = save(tmp_path, head(), mask=brain())
    expected = read_voxels(scan).digest
    monkeypatch.setattr(streams, "_crc32", zlib.crc32)
    assert read_voxels(scan).digest == expected


@pytest.mark.parametrize("with_mask", [True, False])
def test_the_voxels_are_streamed_once_from_start_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_mask: bool
) -> None:
    data = head(shape=(16, 16, 10, 5))
    data[4:12, 4:12, 2:8] += 3000
    mask = data[..., 0] > 2000
    scan = save(tmp_path, data, mask=mask if with_mask else None)
    read: list[int] = []

    class Counted:
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.close()

        def read(self, count: int) -> bytes:
            chunk: bytes = self.stream.read(count)
            read.append(len(chunk))
            return chunk

    opened: list[Path] = []
    open_stream = streams._open_stream

    def counted(path: Path) -> Counted:
        opened.append(path)
        return Counted(open_stream(path))

    monkeypatch.setattr(streams, "_open_stream", counted)
    if with_mask:
        monkeypatch.setattr(voxels, "read_mask", lambda path, grid: ZeroOne(mask))
    read_voxels(scan)
    assert opened == [scan.files.image]
    assert sum(read) == len(gzip.decompress(scan.files.image.read_bytes()))


def test_the_standard_librarys_gzip_serves_where_isal_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = save(tmp_path, head(), mask=brain())
    fast = read_voxels(scan)
    monkeypatch.setitem(sys.modules, "isal", None)
    specification = importlib.util.spec_from_file_location("streams_without_isal", streams.__file__)
    assert specification is not None
    assert specification.loader is not None
    without = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "streams_without_isal", without)
    specification.loader.exec_module(without)
    assert without._open_gzip is gzip.open
    monkeypatch.setattr(streams, "_open_gzip", without._open_gzip)
    slow = read_voxels(scan)
    np.testing.assert_array_equal(slow.values, fast.values)
    assert slow.digest == fast.digest


def test_rows_are_dropped_in_place_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_ROWS_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    values, keep = rng.normal(size=(50, 3)).astype(np.float32), rng.random(50) < 0.6
    expected = values[keep]
    kept = streams.keep_rows(values, keep)
    np.testing.assert_array_equal(kept, expected)
    assert kept.base is values


@pytest.mark.parametrize("name", ["s.nii.gz", "s.nii"])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    scan = save(tmp_path, head(), mask=brain(), name=name)
    whole = scan.files.image.read_bytes()
    for kept in (len(whole) - 1, len(whole) - 9, len(whole) // 2):
        scan.files.image.write_bytes(whole[:kept])
        with pytest.raises(
            ScanError, match=r"s\.nii(\.gz)? is truncated or corrupt .* download it"
        ):
            read_voxels(open_scan(scan.files))
    scan.files.image.write_bytes(whole[:200])
    with pytest.raises(ScanError, match=r"truncated or corrupt|is not a NIfTI file"):
        open_scan(scan.files)


@pytest.mark.parametrize("standard", [False, True])
def test_a_gzip_file_with_a_flipped_bit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, standard: bool
) -> None:
    if standard:
        monkeypatch.setattr(streams, "_open_gzip", gzip.open)
    scan = save(tmp_path, head(), mask=brain())
    whole = bytearray(scan.files.image.read_bytes())
    for place in (len(whole) - 6, len(whole) // 2):  # the checksum; the voxels
        broken = whole.copy()
        broken[place] ^= 0x10
        scan.files.image.write_bytes(broken)
        with pytest.raises(ScanError, match=r"s\.nii\.gz is truncated or corrupt"):
            read_voxels(scan)

from __future__ import annotations

import gzip
import importlib.util
import itertools
import os
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.diffusion.gradients import GradientTable, channel_order
from qspace_nd.errors import ArrayError, GradientError, GridError, ScanError
from qspace_nd.imaging import scans, streams
from qspace_nd.imaging.scans import (
    Grid,
    Scan,
    Voxels,
    open_scan,
    read_description,
    read_mask,
    read_volume,
    read_voxels,
    write_gradients,
    write_scan,
    write_volume,
)
from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.layouts.scans import find_scans

DATA = os.environ.get("QSPACE_ND_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="QSPACE_ND_DATA names no folder of real scans")

AFFINE = np.array([[-2.0, 0, 0, 9], [0, 2, 0, -7], [0, 0, 3, 5], [0, 0, 0, 1]])
SHAPE = (5, 6, 4)
BVALS = np.array([0.0, 1000, 1000, 5, 2000])


def head(seed: int = 0, shape: tuple[int, ...] = (*SHAPE, 5)) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1000, shape).astype(np.int16)


def brain(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[1:-1, 1:-2, 1:] = True
    return mask


def table(seed: int = 0) -> GradientTable:
    vectors = np.random.default_rng(seed).normal(size=(5, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return GradientTable(BVALS, vectors * (BVALS > 50)[:, None])


def save(
    folder: Path,
    data: np.ndarray,
    affine: np.ndarray = AFFINE,
    *,
    mask: np.ndarray | None = None,
    gradients: GradientTable | None = None,
    name: str = "s.nii.gz",
    slope: tuple[float, float] | None = None,
) -> Scan:
    """Write a scan as other programs do, and open it."""
    folder.mkdir(exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    nib.save(image, folder / name)
    if mask is not None:
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), folder / "s_mask.nii.gz")
    if gradients is not None:
        write_gradients(folder / "s.bval", folder / "s.bvec", gradients, affine)
    return opened(folder / name)


def opened(path: Path) -> Scan:
    return open_scan(find_scans([path])[0])


def in_storage(data: np.ndarray, affine: np.ndarray, axes: str) -> tuple[np.ndarray, np.ndarray]:
    """Store the same voxels at the same places along other axes."""
    image = nib.Nifti1Image(data, affine)
    wanted = nib.orientations.axcodes2ornt(axes)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(affine), wanted)
    )
    return np.asarray(turned.dataobj), turned.affine


def by_position(voxels: Voxels) -> dict[tuple[float, ...], np.ndarray]:
    """Give each voxel's values by its place in the world."""
    places = nib.affines.apply_affine(voxels.scan.grid.affine, np.argwhere(voxels.mask))
    return dict(zip(map(tuple, places.round(2).tolist()), voxels.values, strict=True))


# --- Reading the voxels


def test_the_voxels_of_the_mask_are_gathered_in_c_order(tmp_path: Path) -> None:
    data, mask = head(), brain()
    voxels = read_voxels(save(tmp_path, data, mask=mask, gradients=table()))
    np.testing.assert_array_equal(voxels.values, data[mask].astype(np.float32))
    np.testing.assert_array_equal(voxels.mask, mask)
    assert voxels.values.dtype == np.float32
    assert voxels.values.flags.c_contiguous
    assert not voxels.computed_mask
    assert voxels.warnings == ()


def test_scores_are_scattered_back_to_their_voxels(tmp_path: Path) -> None:
    data, mask = head(), brain()
    voxels = read_voxels(save(tmp_path, data, mask=mask))
    np.testing.assert_array_equal(voxels.fill(voxels.values[:, 2]), np.where(mask, data[..., 2], 0))
    assert voxels.fill(voxels.values[:, 2]).dtype == np.float32
    with pytest.raises(ArrayError, match=r"have the shape \(3,\); expected \(27,\)"):
        voxels.fill(np.zeros(3))


def test_channels_come_in_the_order_asked_for(tmp_path: Path) -> None:
    scan = save(tmp_path, head(), mask=brain(), gradients=table())
    order = np.array([3, 1, 4, 0, 2])
    plain, ordered = read_voxels(scan), read_voxels(scan, order=order)
    np.testing.assert_array_equal(ordered.values, plain.values[:, order])
    assert ordered.digest == plain.digest
    with pytest.raises(ArrayError, match=r"must hold each of 0 to 4 once; found \[0, 0"):
        read_voxels(scan, order=[0, 0, 1, 2, 3])


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
    voxels = read_voxels(scan, order=order, ignore_nonfinite=True)
    np.testing.assert_array_equal(voxels.values, data[mask][keep][:, order])
    np.testing.assert_array_equal(voxels.mask[mask], keep)


def test_one_head_stored_las_lps_and_ras_gives_the_same_voxels_and_directions(
    tmp_path: Path,
) -> None:
    data, mask = head(), brain()
    stored = {}
    for axes in ("LAS", "LPS", "RAS", "PSR"):
        turned, affine = in_storage(data, AFFINE, axes)
        turned_mask, _ = in_storage(mask.astype(np.uint8), AFFINE, axes)
        stored[axes] = read_voxels(
            save(tmp_path / axes, turned, affine, mask=turned_mask, gradients=table())
        )
    reference = by_position(stored["LAS"])
    bvecs = {axes: (tmp_path / axes / "s.bvec").read_text() for axes in stored}
    assert bvecs["LAS"] != bvecs["LPS"]
    assert bvecs["LAS"] == bvecs["RAS"]  # the flip of x in the image and in the convention cancel
    for axes, voxels in stored.items():
        assert "".join(nib.aff2axcodes(voxels.scan.grid.affine)) == axes
        gradients = voxels.scan.gradients
        assert gradients is not None
        np.testing.assert_allclose(gradients.directions, table().directions, atol=2e-6)
        found = by_position(voxels)
        assert found.keys() == reference.keys()
        for place, values in found.items():
            np.testing.assert_array_equal(values, reference[place])


def test_permuted_volumes_are_read_in_the_models_order(tmp_path: Path) -> None:
    data, order = head(), np.array([4, 2, 0, 1, 3])
    model = save(tmp_path / "model", data, mask=brain(), gradients=table())
    shuffled = GradientTable(table().bvals[order], table().directions[order])
    scan = save(tmp_path / "scan", data[..., order], mask=brain(), gradients=shuffled)
    assert model.gradients is not None
    assert scan.gradients is not None
    found = read_voxels(scan, order=channel_order(model.gradients, scan.gradients, "s"))
    np.testing.assert_array_equal(found.values, read_voxels(model).values)


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
    for voxels in read:
        np.testing.assert_array_equal(voxels.values, values[brain()].astype(np.float32))
        assert voxels.values.dtype == np.dtype("=f4")
        assert voxels.digest == read[0].digest


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


def test_numbers_too_large_to_add_are_finite(tmp_path: Path) -> None:
    data = head().astype(np.float32)
    data[2, 2, 2] = [3e38, 2e38, 3e38, 1e38, 3e38]
    voxels = read_voxels(save(tmp_path, data, mask=brain()))
    np.testing.assert_array_equal(voxels.values, data[brain()])


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
        monkeypatch.setattr(scans, "read_mask", lambda path, grid: mask)
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


def test_progress_is_told_of_every_volume(tmp_path: Path) -> None:
    steps: list[object] = []

    class Heard:
        def task(self, name: str, total: int) -> Heard:
            steps.append((name, total))
            return self

        def __enter__(self) -> Heard:
            return self

        def __exit__(self, *_: object) -> None:
            steps.append("done")

        def advance(self, count: int = 1, note: str = "") -> None:
            steps.append(count)

        def say(self, message: str) -> None: ...

        def warn(self, message: str) -> None: ...

    read_voxels(save(tmp_path, head(), mask=brain()), progress=Heard())
    assert steps == [("Reading s", 5), 1, 1, 1, 1, 1, "done"]


# --- What is left out, and what is refused


def test_voxels_without_signal_at_b0_are_left_out_and_counted(tmp_path: Path) -> None:
    data, mask = head().astype(np.float32), brain()
    data[1, 1, 1, [0, 3]] = 0
    data[2, 2, 2, [0, 3]] = -4, 3
    data[3, 3, 3, 0] = 0  # the other b=0 volume shows signal
    voxels = read_voxels(save(tmp_path, data, mask=mask, gradients=table()))
    mask[1, 1, 1] = mask[2, 2, 2] = False
    np.testing.assert_array_equal(voxels.mask, mask)
    np.testing.assert_array_equal(voxels.values, data[mask])
    assert (
        "2 of the 27 voxels of its mask are left out, as they have no signal" in voxels.warnings[0]
    )


def test_without_b_values_voxels_of_zeros_are_left_out(tmp_path: Path) -> None:
    data, mask = head(), brain()
    data[1, 1, 1] = 0
    data[2, 2, 2, :4] = 0
    voxels = read_voxels(save(tmp_path, data, mask=mask))
    assert len(voxels.values) == 26


def test_rows_are_dropped_in_place_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_ROWS_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    values, keep = rng.normal(size=(50, 3)).astype(np.float32), rng.random(50) < 0.6
    expected = values[keep]
    kept = streams.keep_rows(values, keep)
    np.testing.assert_array_equal(kept, expected)
    assert kept.base is values


def test_values_that_are_not_finite_are_counted_and_can_be_left_out(tmp_path: Path) -> None:
    data, mask = head().astype(np.float32), brain()
    data[0, 0, 0] = np.nan  # outside the mask
    data[1, 1, 1, 2:4] = np.nan, np.inf
    data[2, 2, 2, 0] = -np.inf
    scan = save(tmp_path, data, mask=mask, gradients=table())
    with pytest.raises(
        ScanError, match=r"3 NaN or infinite values in 2 of the 27 vo.*--ignore-non"
    ):
        read_voxels(scan)
    voxels = read_voxels(scan, ignore_nonfinite=True)
    mask[1, 1, 1] = mask[2, 2, 2] = False
    np.testing.assert_array_equal(voxels.mask, mask)
    np.testing.assert_array_equal(voxels.values, data[mask])
    assert len(voxels.warnings) == 1
    assert "2 of the 27 voxels of its mask are left out, as they hold NaN" in voxels.warnings[0]


def test_negative_values_are_kept_and_counted(tmp_path: Path) -> None:
    data, mask = head(), brain()
    data[1, 1, 1, 1:3] = -5
    voxels = read_voxels(save(tmp_path, data, mask=mask, gradients=table()))
    np.testing.assert_array_equal(voxels.values, data[mask])
    assert "2 values inside its mask (1.5 %) are negative" in voxels.warnings[0]


def change(**channels: float) -> np.ndarray:
    data = head().astype(np.float32)
    for name, value in channels.items():
        data[..., int(name[1:])] = value
    return data


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (change(v2=0), r"constant over its mask: 2 \(always 0\) \(counted from 0\)"),
        (change(v1=7, v4=-1.5), r"constant over its mask: 1 \(always 7\), 4 \(always -1.5\)"),
        (change(v0=0, v3=0), r"no voxel with signal inside its mask"),
        (head() * 0, r"no voxel with signal inside its mask"),
        (
            head() - np.float32([0, 9999, 9999, 0, 9999]),
            r"a mean of -\d+ over its mask; expected a pos",
        ),
    ],
)
def test_a_scan_without_usable_signal_is_refused(
    tmp_path: Path, data: np.ndarray, sentence: str
) -> None:
    scan = save(tmp_path, data, mask=brain(), gradients=table())
    with pytest.raises(ScanError, match=sentence):
        read_voxels(scan)


def test_a_constant_channel_is_named_by_its_volume_in_the_file(tmp_path: Path) -> None:
    scan = save(tmp_path, change(v2=0), mask=brain(), gradients=table())
    with pytest.raises(ScanError, match=r"mask: 2 \(always 0\)"):
        read_voxels(scan, order=[3, 2, 1, 0, 4])


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


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((5, 6), r"has the shape 5 x 6, a single volume; expected a 4-D scan"),
        ((5, 6, 4), r"has the shape 5 x 6 x 4, a single volume; expected a 4-D scan"),
        ((5, 6, 4, 1), r"has the shape 5 x 6 x 4(?: x 1)?, a single volume"),
        ((5, 6, 4, 1, 3), r"has the shape 5 x 6 x 4 x 1 x 3, 5 dimensions; expected 4 .*mrconvert"),
        ((5, 6, 4, 2, 3), r"5 dimensions; expected 4"),
    ],
)
def test_a_scan_of_other_than_four_dimensions_is_refused(
    tmp_path: Path, shape: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(ScanError, match=sentence):
        save(tmp_path, head(shape=shape))


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


def test_a_scan_with_one_of_two_gradient_files_is_refused(tmp_path: Path) -> None:
    scan = save(tmp_path, head(), mask=brain(), gradients=table())
    (tmp_path / "s.bvec").unlink()
    with pytest.raises(GradientError, match=r"s\.bval has no b-vectors that belong to it"):
        opened(scan.files.image)


def test_a_scan_without_b_values_is_taken_with_a_loud_warning(tmp_path: Path) -> None:
    scan = save(tmp_path, head(), mask=brain())
    assert scan.gradients is None
    assert len(scan.warnings) == 1
    assert "s.nii.gz HAS NO B-VALUES: " in scan.warnings[0]


# --- Masks and grids


def test_a_mask_is_what_lies_above_one_half(tmp_path: Path) -> None:
    grid = Grid((2, 2, 2), AFFINE)
    values = np.array([0, 0.5, 0.51, 1, 2, 255, -1, np.nan], np.float32).reshape(2, 2, 2)
    write_volume(tmp_path / "m.nii.gz", values, grid)
    mask = read_mask(tmp_path / "m.nii.gz", grid)
    assert mask.ravel().tolist() == [False, False, True, True, True, True, False, False]


def test_an_empty_mask_is_refused(tmp_path: Path) -> None:
    scan = save(tmp_path, head(), mask=brain() & False)
    with pytest.raises(ScanError, match=r"s_mask\.nii\.gz is an empty mask"):
        read_voxels(scan)


def test_a_mask_with_an_axis_of_one_behind_is_taken(tmp_path: Path) -> None:
    voxels = read_voxels(save(tmp_path, head(), mask=brain()[..., None]))
    np.testing.assert_array_equal(voxels.mask, brain())


def test_a_mask_of_several_volumes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ScanError, match=r"s_mask\.nii\.gz has the shape 5 x 6 x 4 x 5; expected a 3-D"
    ):
        save(tmp_path, head(), mask=head())


@pytest.mark.parametrize("moved", [(0.2, False), (0.05, True)])
def test_a_mask_on_another_grid_is_refused_with_both_grids(
    tmp_path: Path, moved: tuple[float, bool]
) -> None:
    shift, accepted = moved
    scan = save(tmp_path, head(), mask=brain())
    affine = AFFINE.copy()
    affine[0, 3] += shift
    nib.save(nib.Nifti1Image(brain().astype(np.uint8), affine), tmp_path / "s_mask.nii.gz")
    if accepted:
        assert read_voxels(open_scan(scan.files)).mask.sum() == 27
        return
    sentence = (
        r"s_mask\.nii\.gz lies on another grid than the scan: found 5 x 6 x 4 voxels of "
        r"2 x 2 x 3 mm, axes LAS, origin \(9\.20, -7\.00, 5\.00\); expected 5 x 6 x 4 voxels of "
        r"2 x 2 x 3 mm, axes LAS, origin \(9\.00, "
    )
    with pytest.raises(GridError, match=sentence):
        open_scan(scan.files)


def test_a_mask_of_another_shape_is_refused_with_both_grids(tmp_path: Path) -> None:
    with pytest.raises(GridError, match=r"found 6 x 6 x 4 voxels .* expected 5 x 6 x 4 voxels"):
        save(tmp_path, head(), mask=brain((6, 6, 4)))


def test_a_grid_names_its_axes_as_nibabel_does(tmp_path: Path) -> None:
    for axes in map("".join, itertools.product("LR", "PA", "IS")):
        for turned in map("".join, itertools.permutations(axes)):
            _, affine = in_storage(brain().astype(np.uint8), AFFINE, turned)
            assert f"axes {turned}," in Grid(SHAPE, affine).describe()


def test_a_qform_unlike_the_sform_is_told_with_the_one_used(tmp_path: Path) -> None:
    image = nib.Nifti1Image(head(), AFFINE)
    other = AFFINE.copy()
    other[0, 3] += 10
    image.set_sform(AFFINE, 2)
    image.set_qform(other, 1)
    nib.save(image, tmp_path / "s.nii.gz")
    scan = opened(tmp_path / "s.nii.gz")
    assert "s.nii.gz has a qform unlike its sform; the sform is used" in scan.warnings[0]
    np.testing.assert_array_equal(scan.grid.affine, AFFINE)
    write_volume(tmp_path / "map.nii.gz", np.zeros(SHAPE), scan.grid)
    header = nib.load(tmp_path / "map.nii.gz").header
    np.testing.assert_allclose(header.get_qform(), other, atol=1e-5)
    np.testing.assert_allclose(header.get_sform(), AFFINE)


def test_a_scan_without_orientation_is_taken_with_a_warning(tmp_path: Path) -> None:
    image = nib.Nifti1Image(head(), None)
    image.header.set_zooms((2, 2, 3, 1))
    nib.save(image, tmp_path / "s.nii.gz")
    assert "has neither a qform nor an sform" in opened(tmp_path / "s.nii.gz").warnings[0]


# --- Writing


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
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz", grid), brain())
    np.testing.assert_array_equal(nib.load(tmp_path / "i.nii.gz").get_fdata(), head())
    with pytest.raises(ArrayError, match=r"shape \(5, 6, 3\); expected \(5, 6, 4\)"):
        write_volume(tmp_path / "x.nii.gz", np.zeros((5, 6, 3)), grid)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.nii", "i.nii.gz", "m.nii.gz"]


def test_the_same_map_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    grid = Grid(SHAPE, AFFINE)
    for name in "ab":
        write_volume(tmp_path / f"{name}.nii.gz", brain(), grid)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("axes", ["LAS", "RAS", "LPS", "SRA"])
def test_gradients_written_for_an_image_are_read_back(tmp_path: Path, axes: str) -> None:
    _, affine = in_storage(head(), AFFINE, axes)
    scan = save(tmp_path, head(), affine, gradients=table())
    assert scan.gradients is not None
    np.testing.assert_allclose(scan.gradients.directions, table().directions, atol=2e-6)
    np.testing.assert_array_equal(scan.gradients.bvals, BVALS)
    assert "-0.000000" not in (tmp_path / "s.bvec").read_text()


def test_a_volume_that_is_none_is_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "s.nii.gz", head(), Grid(SHAPE, AFFINE))
    with pytest.raises(ScanError, match=r"s\.nii\.gz has the shape 5 x 6 x 4 x 5; expected a 3-D"):
        read_volume(tmp_path / "s.nii.gz")
    with pytest.raises(ScanError, match=r"gone\.nii does not exist"):
        read_volume(tmp_path / "gone.nii")


def test_an_image_removed_after_it_was_found_is_named(tmp_path: Path) -> None:
    files = ScanFiles(tmp_path / "gone.nii", None, None, None, "gone", "gone")
    with pytest.raises(ScanError, match=r"gone\.nii does not exist"):
        open_scan(files)


# --- Masks that are computed


def phantom() -> np.ndarray:
    """A bright ball in noise, with a bright eye beside it: two b=0 and three weighted volumes."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.arange(n) for n in (30, 32, 20)], indexing="ij")
    ball = ((x - 15) / 10) ** 2 + ((y - 15) / 11) ** 2 + ((z - 10) / 7) ** 2 <= 1
    eye = (x - 3) ** 2 + (y - 28) ** 2 + (z - 4) ** 2 <= 4
    signal = np.where(ball | eye, 800.0, 0.0)[..., None] * [1, 0.5, 0.5, 1, 0.3]
    return np.asarray(np.abs(signal + rng.normal(scale=20, size=signal.shape)), np.float32)


@pytest.mark.parametrize("gradients", [table(), None], ids=["b=0 volumes", "all volumes"])
def test_a_missing_mask_is_computed_and_told(
    tmp_path: Path, gradients: GradientTable | None
) -> None:
    data = phantom()
    data[0, 0, 0, 0] = np.nan
    coarse = np.diag([-6.0, 6, 6, 1])  # mm, as the ball is a head
    voxels = read_voxels(save(tmp_path, data, coarse, gradients=gradients))
    truth = data[..., 0] > 400
    assert voxels.computed_mask
    assert "has no brain mask beside it: one of" in voxels.warnings[0]
    overlap = 2 * (voxels.mask & truth).sum() / (voxels.mask.sum() + truth.sum())
    assert overlap > 0.95
    assert not voxels.mask[3, 28, 4]  # islands are no brain
    np.testing.assert_array_equal(voxels.values, data[voxels.mask])


def test_where_no_brain_is_found_a_mask_is_asked_for(tmp_path: Path) -> None:
    scan = save(tmp_path, np.full((*SHAPE, 5), 7, np.int16))
    with pytest.raises(ScanError, match=r"median_otsu finds no brain in it; .* --mask"):
        read_voxels(scan)


@needs_data
@pytest.mark.parametrize(
    ("name", "litres"),
    [
        ("uih/sub-A/dwi/sub-A_acq-PArot_dwi.nii.gz", (1.0, 1.4)),  # the slab ends above the eyes
        ("uih/sub-B/dwi/sub-B_acq-AP_dwi.nii.gz", (0.8, 1.2)),
        ("galan/sub-01/dwi/sub-01_acq-cor20_dwi.nii.gz", (1.3, 1.7)),
    ],
)
def test_a_computed_mask_of_a_real_head_holds_a_brain(
    name: str, litres: tuple[float, float]
) -> None:
    from scipy.ndimage import label

    voxels = read_voxels(opened(Path(str(DATA)) / name))
    volume = voxels.mask.sum() * voxels.scan.grid.voxel_sizes.prod() / 1e6
    assert litres[0] < volume < litres[1]
    assert label(voxels.mask)[1] == 1
    inside = voxels.values[:, 0].mean()
    assert inside > 100


@needs_data
def test_a_real_oblique_scan_is_read_as_nibabel_reads_it() -> None:
    path = Path(str(DATA)) / "uih/sub-A/dwi/sub-A_acq-PArot_dwi.nii.gz"
    voxels = read_voxels(opened(path))
    whole = np.asanyarray(nib.load(path).dataobj)
    np.testing.assert_array_equal(voxels.values, whole[voxels.mask].astype(np.float32))
    assert "tilted by 25" in voxels.scan.grid.describe()


@needs_data
def test_a_real_multi_contrast_volume_is_read_without_gradients() -> None:
    scan = opened(Path(str(DATA)) / "ms" / "patient07_multicontrast.nii.gz")
    assert scan.files.mask is not None
    assert scan.files.mask.name == "patient07_desc-brain_mask.nii.gz"
    voxels = read_voxels(scan)
    assert voxels.values.shape[1] == 4
    assert voxels.scan.grid.sform_code == 2


def test_a_description_is_read_back_from_the_header(tmp_path: Path) -> None:
    grid = Grid((2, 3, 4), np.eye(4))
    path = tmp_path / "map.nii.gz"
    for text in ("qspace-nd 3f2a", ""):
        write_volume(path, np.zeros(grid.shape, np.float32), grid, text)
        assert read_description(path) == text
    path.write_text("mine" * 99)
    with pytest.raises(ScanError, match=r"map\.nii\.gz is not a NIfTI file"):
        read_description(path)

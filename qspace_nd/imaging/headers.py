"""The header of a NIfTI file: read by itself, checked, and mended where other programs err.

Only the header's own bytes are unpacked: what extensions hold is of no use here, and may be huge.
"""

from __future__ import annotations

import gzip
import math
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from qspace_nd.arrays import Float64
from qspace_nd.errors import ScanError
from qspace_nd.imaging.streams import Stored, damaged
from qspace_nd.layouts.names import require_here

_KINDS: dict[int, tuple[Any, bytes, bytes]] = {  # by size: class, magic of one file, and of a pair
    348: (nib.Nifti1Header, b"n+1\0", b"ni1\0"),
    540: (nib.Nifti2Header, b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n"),
}
_EXTENDER = 4  # bytes behind the header, which say whether extensions follow
_EXTENSIONS = 64 << 20  # bytes: real ones, a DICOM header or a history, take up to a few megabytes
_PACKED = 1032  # times smaller at most: what a bit of deflate can stand for
_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by xyzt_units: not said, metre, mm, micron
_UNITS = {1: "metres", 3: "microns"}
_TOO_LONG = 0.01  # of a quaternion whose length rounding can no longer explain


@dataclass(frozen=True, eq=False)
class Header:
    """What a NIfTI file says of its voxels.

    Attributes
    ----------
    fields : nibabel.Nifti1Header
    shape : tuple of int
        Without axes of length 1 behind the fourth.
    stored : Stored
    affine : (4, 4) ndarray
        Voxel to world, mm.
    qform, sform : (4, 4) ndarray or None
        Those that the header has, mm.
    notes : tuple of str
        What a user should know of it.
    """

    fields: Any
    shape: tuple[int, ...]
    stored: Stored
    affine: Float64
    qform: Float64 | None
    sform: Float64 | None
    notes: tuple[str, ...]


def read_header(path: Path) -> Header:
    """Read and check the header of a NIfTI file.

    Raises
    ------
    ScanError
        There is no such file, it is no NIfTI file, or what its header says cannot be.
    """
    raw = _first_bytes(path)
    fields, offset, notes = _parse(path, raw)
    shape = _shape(path, fields)
    qform, of_qform = _qform(path, fields)
    sform = fields.get_sform(coded=True)[0]
    affine = fields.get_best_affine()
    mm, unit = _unit(path, fields)
    if mm != 1.0:
        affine, qform, sform = (_scaled(one, mm) for one in (affine, qform, sform))
    slope, intercept = fields.get_slope_inter()
    stored = Stored(
        path,
        offset,
        shape,
        fields.get_data_dtype(),
        1.0 if slope is None else slope,
        0.0 if intercept is None else intercept,
    )
    _require_room(stored)
    return Header(
        fields,
        shape,
        stored,
        np.asarray(affine, np.float64),
        qform,
        sform,
        (*notes, *of_qform, *unit),
    )


def _first_bytes(path: Path) -> bytes:
    """The bytes of a header, and of the extender behind it, as far as there are so many."""
    require_here([path])
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, without end
            raise _not_nifti(path, "it is no regular file")
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            _require_ending(path, packed, file.read(_EXTENDER))
            file.seek(0)
            stream: IO[bytes] = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
            return stream.read(max(_KINDS) + _EXTENDER)
    except FileNotFoundError as error:
        raise ScanError(f"{path} does not exist; name a file that does.") from error
    except PermissionError as error:
        raise ScanError(f"{path} may not be read; check its permissions.") from error
    except (EOFError, zlib.error) as error:
        raise damaged(path, EOFError("it ends inside its header")) from error
    except OSError as error:
        raise _not_nifti(path, str(error)) from error


def _require_ending(path: Path, packed: bool, start: bytes) -> None:
    """Check that a file is packed where its name says so."""
    named = path.name.lower().endswith(".gz")
    if packed and not named:
        raise _not_nifti(path, "it is packed by gzip, as its name does not say: add .gz to it")
    if named and not packed and start:
        raise _not_nifti(path, "it is not packed by gzip, as its name says: take .gz off it")


def _parse(path: Path, raw: bytes) -> tuple[Any, int, tuple[str, ...]]:
    """Give the fields of a header, where its voxels begin, and what is said of it."""
    size, order = _size(path, raw)
    kind, single, pair = _KINDS[size]
    magic = raw[344:348] if size == 348 else raw[4:12]
    if magic == pair:
        raise _not_nifti(path, "it is the header of a pair, whose voxels lie in an .img file")
    if magic != single:
        raise _not_nifti(path, "it has the header of an ANALYZE file, or an altered one")
    fields = kind(raw[:size], order, check=False)
    offset, notes = _offset(path, fields, raw[size : size + 1] not in (b"", b"\0"))
    fields["vox_offset"] = offset
    try:
        fields = kind(fields.binaryblock, order, check=True)
        fields.get_slope_inter()
    except Exception as error:  # whatever a header that is none makes the parser raise
        raise _not_nifti(path, str(error)) from error
    return fields, offset, notes


def _size(path: Path, raw: bytes) -> tuple[int, str]:
    """Tell what kind a header is of, by its size, and the order of its bytes."""
    for order, name in (("<", "little"), (">", "big")):
        size = int.from_bytes(raw[:4], name)  # type: ignore[arg-type]
        if size in _KINDS:
            if len(raw) < size:
                raise damaged(path, EOFError("it ends inside its header"))
            return size, order
    raise _not_nifti(path, "it does not begin with the size of a header")


def _offset(path: Path, fields: Any, extended: bool) -> tuple[int, tuple[str, ...]]:
    """Where the voxels begin, behind a header and, where it is `extended`, its extensions."""
    least = fields.sizeof_hdr + _EXTENDER
    said = float(fields["vox_offset"])
    if said == 0 and not extended:  # as some programs leave it; the file's length tells if not
        return least, (
            f"{path} says that its voxels begin at byte 0, inside its header; they are read from "
            f"byte {least}, where they lie in a file without extensions.",
        )
    if not math.isfinite(said) or said < least:
        raise ScanError(
            f"{path} says that its voxels begin at byte {said:g} (vox_offset), inside its header; "
            f"expected {least} or more: correct its header."
        )
    if said > least + _EXTENSIONS:
        raise ScanError(
            f"{path} says that {said - least:.3g} bytes of header extensions lie before its "
            f"voxels (vox_offset); expected at most {_EXTENSIONS:,}: write it without them."
        )
    return int(said), ()


def _shape(path: Path, fields: Any) -> tuple[int, ...]:
    number, *sizes = map(int, fields["dim"])
    if not 1 <= number <= 7 or any(size < 0 for size in sizes[:number]):
        raise ScanError(
            f"{path} says that it has {number} dimensions of {sizes} voxels (dim); expected 3 or "
            "4, each of 1 voxel or more: it is corrupt, or its header is to be corrected."
        )
    shape = tuple(sizes[:number])
    while len(shape) > 4 and shape[-1] == 1:  # does no harm, and some programs write it
        shape = shape[:-1]
    return shape


def _require_room(stored: Stored) -> None:
    """Check that the file can hold as many voxels as its header says, before any is read."""
    needed = stored.offset + math.prod(stored.shape) * stored.dtype.itemsize
    size = stored.path.stat().st_size
    if stored.path.name.lower().endswith(".gz"):
        if needed > _PACKED * size:
            reason = f"its {size:,} bytes cannot hold the {needed:.3g} that its header needs"
            raise damaged(stored.path, EOFError(reason))
    elif size < needed:
        reason = f"it has {size} bytes where its header needs {needed}"
        raise damaged(stored.path, EOFError(reason))


def _unit(path: Path, fields: Any) -> tuple[float, tuple[str, ...]]:
    """How many mm are one unit of the affines, and what is said where it is not 1."""
    code = int(fields["xyzt_units"]) & 7
    if code not in _MM:
        raise ScanError(
            f"{path} has {code} as its unit of length (xyzt_units), which stands for none; "
            "expected 2, mm: correct its header."
        )
    if code not in _UNITS:
        return 1.0, ()
    return _MM[code], (f"{path} is in {_UNITS[code]} by its header; its affines are taken to mm.",)


def _scaled(affine: Float64 | None, mm: float) -> Float64 | None:
    return None if affine is None else np.diag([mm, mm, mm, 1.0]) @ affine


def _qform(path: Path, fields: Any) -> tuple[Float64 | None, tuple[str, ...]]:
    """The qform, which `fields` are left without where it is useless, and what is said then.

    A quaternion that rounding made longer than 1 is taken as of length 1, as by nifti_clib.
    """
    if int(fields["qform_code"]) <= 0:
        return None, ()
    names = ("quatern_b", "quatern_c", "quatern_d")
    vector = np.array([fields[name] for name in names], np.float64)
    length = np.linalg.norm(vector)
    qform = None
    with suppress(ValueError, HeaderDataError):
        qform = fields.get_qform(coded=True)[0]
    if qform is None and 1 < length <= 1 + _TOO_LONG:
        for name, part in zip(names, vector / length, strict=True):
            fields[name] = part
        qform = fields.get_qform(coded=True)[0]
    if qform is not None and np.isfinite(qform).all() and np.linalg.det(qform[:3, :3]) != 0:
        return qform, ()
    found = f"{path} has a qform that places no voxels (its quaternion has the length {length:.4g})"
    if int(fields["sform_code"]) <= 0:
        raise ScanError(f"{found}, and no sform; expected one of them: correct its header.")
    fields["qform_code"] = 0
    return None, (f"{found}; its sform is used.",)


def _not_nifti(path: Path, reason: str) -> ScanError:
    return ScanError(
        f"{path} is not a NIfTI file ({reason.rstrip('.')}); expected NIfTI-1 or NIfTI-2: convert "
        "it, with dcm2niix for instance."
    )

"""Read the voxels of a file once, from its start to its end, one volume at a time.

A scan is never held twice: what is gathered from a volume is kept, and the volume let go.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from qspace_nd.errors import ScanError
from qspace_nd.progress import Task

try:
    from isal import igzip, isal_zlib
except ImportError:  # the standard library serves, at half the speed
    _open_gzip: Any = gzip.open
    _UNPACK_ERROR: Any = zlib.error
    _crc32: Any = zlib.crc32
else:
    _open_gzip = igzip.open
    _UNPACK_ERROR = isal_zlib.error
    _crc32 = isal_zlib.crc32

Bools = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

_SKIPPED_AT_ONCE = 1 << 20  # bytes
_ROWS_AT_ONCE = 1 << 16
_VOLUMES_AT_ONCE = 16
_VOLUMES_AHEAD = 3


@dataclass(frozen=True)
class Stored:
    """Where and how a file stores its voxels, the first axis fastest.

    Attributes
    ----------
    path : Path
        Unpacked on the way where the name ends in `.gz`.
    offset : int
        Bytes before the first voxel, once unpacked.
    shape : tuple of int
        (X, Y, Z) or (X, Y, Z, C).
    dtype : dtype
    slope, intercept : float
        A voxel's value is `stored * slope + intercept`.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    slope: float = 1.0
    intercept: float = 0.0

    def scaled(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Give the values of stored numbers, scaled in double precision, as float32.

        Copies of one scan that store it in other types thus give the same values.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            if (self.slope, self.intercept) != (1.0, 0.0):
                stored = stored.astype(np.float64)
                stored *= self.slope
                stored += self.intercept
            return stored.astype("<f4", copy=False)

    def volumes(self) -> Iterator[npt.NDArray[Any]]:
        """Give each volume as stored, flat (X*Y*Z,), reading to the end of the file.

        Raises
        ------
        ScanError
            The file ends early or is corrupt: a checksum at its end is checked too.
        """
        voxels = math.prod(self.shape[:3])
        try:
            with _open_stream(self.path) as stream:
                _skip(stream, self.offset)
                for _ in range(math.prod(self.shape[3:])):
                    volume = np.empty(voxels, self.dtype)
                    _fill(stream, memoryview(volume.view(np.uint8).data))
                    yield volume
                while stream.read(_SKIPPED_AT_ONCE):
                    pass
        except (EOFError, OSError, zlib.error, _UNPACK_ERROR) as error:
            raise damaged(self.path, error) from error


def ahead(volumes: Iterator[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    """Pass volumes on while a thread unpacks the next ones."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = deque(thread.submit(next, volumes, None) for _ in range(_VOLUMES_AHEAD))
        while (volume := coming.popleft().result()) is not None:
            coming.append(thread.submit(next, volumes, None))
            yield volume


def hashed(
    stored: Stored, volumes: Iterable[npt.NDArray[Any]], hasher: Any, task: Task
) -> Iterator[npt.NDArray[Any]]:
    """Pass volumes on and hash the checksum of each one's values, however they are stored.

    To know a scan again no more is needed, and checksums take a tenth of a hash's time.
    """
    for volume in volumes:
        checksum = 0
        for start in range(0, len(volume), _ROWS_AT_ONCE):  # what fits the cache
            values = stored.scaled(volume[start : start + _ROWS_AT_ONCE])
            checksum = _crc32(values.data, checksum)
        hasher.update(checksum.to_bytes(4, "little"))
        yield volume
        task.advance()


def drain(volumes: list[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    """Give each volume and let go of it, so that the scan shrinks as its voxels are gathered."""
    volumes.reverse()
    while volumes:
        yield volumes.pop()


def gather(
    stored: Stored, stream: Iterable[npt.NDArray[Any]], mask: Bools
) -> tuple[Float32, Bools]:
    """Collect the mask's voxels, (n, C), and tell which are finite, (n,)."""
    # Where each voxel, in C order of the mask, lies in a flat volume stored in Fortran order.
    index = np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")
    channels = math.prod(stored.shape[3:])
    values = np.empty((len(index), channels), np.float32)
    finite = np.ones(len(index), np.bool_)
    # Several volumes are put in together: a voxel's channels lie side by side, and every line of
    # the cache that is written to would be so once for each volume.
    sixth = 4 * channels // (6 * stored.dtype.itemsize)  # of the memory that `values` take
    together = min(max(sixth, 1), _VOLUMES_AT_ONCE)
    columns = np.empty((together, len(index)), stored.dtype)
    volumes = iter(stream)
    for first in range(0, channels, together):
        last = min(first + together, channels)
        for column, volume in zip(columns, islice(volumes, last - first), strict=False):
            np.take(volume, index, out=column, mode="clip")  # none is clipped, but it is quicker
        for start in range(0, len(index), _ROWS_AT_ONCE // 16):
            rows = slice(start, start + _ROWS_AT_ONCE // 16)
            some = stored.scaled(columns[: last - first, rows])
            with np.errstate(over="ignore", invalid="ignore"):
                total = some.sum()
            if not np.isfinite(total):  # nor is one of them, but for numbers too large to add
                finite[rows] &= np.isfinite(some).all(axis=0)
            values[rows, first:last] = some.T
    next(volumes, None)  # goes on to the end of the file, which is checked
    return values, finite


def reorder(values: Float32, order: Ints) -> None:
    """Put the channels of voxels (n, C) in `order` (C,), in place."""
    if (order == np.arange(len(order))).all():
        return
    for start in range(0, len(values), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        values[rows] = values[rows][:, order]


def keep_rows(values: Float32, keep: Bools) -> Float32:
    """Move the kept rows to the front in place: the voxels are not held twice."""
    if keep.all():
        return values
    end = 0
    for start in range(0, len(values), _ROWS_AT_ONCE):
        rows = values[start : start + _ROWS_AT_ONCE][keep[start : start + _ROWS_AT_ONCE]]
        values[end : end + len(rows)] = rows
        end += len(rows)
    return values[:end]


def is_cut_short(path: Path) -> bool:
    """Tell whether a packed file ends before its first bytes are out."""
    try:
        with _open_stream(path) as stream:
            stream.read(_SKIPPED_AT_ONCE)
    except EOFError:
        return True
    except (OSError, zlib.error, _UNPACK_ERROR):
        pass
    return False


def damaged(path: Path, error: Exception) -> ScanError:
    """Give the error for a file that ends early or cannot be unpacked."""
    return ScanError(
        f"{path} is truncated or corrupt ({str(error).rstrip('.')}); expected a whole NIfTI file: "
        "copy or download it again."
    )


def _open_stream(path: Path) -> IO[bytes]:
    stream: IO[bytes] = _open_gzip(path) if path.name.lower().endswith(".gz") else path.open("rb")
    return stream


def _skip(stream: IO[bytes], count: int) -> None:
    while count > 0:
        skipped = len(stream.read(min(count, _SKIPPED_AT_ONCE)))
        if not skipped:
            raise EOFError("the file ends before its first voxel")
        count -= skipped


def _fill(stream: Any, buffer: memoryview) -> None:
    while len(buffer):
        count = stream.readinto(buffer)
        if not count:
            raise EOFError("the file ends before its last voxel")
        buffer = buffer[count:]

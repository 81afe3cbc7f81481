"""Read the voxels of a file once, from its start to its end, one volume at a time.

A scan is never held twice: what is gathered from a volume is kept, and the volume let go.
"""

from __future__ import annotations

import gzip
import math
import zlib
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
else:
    _open_gzip = igzip.open
    _UNPACK_ERROR = isal_zlib.error

Bools = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

_SKIPPED_AT_ONCE = 1 << 20  # bytes
_ROWS_AT_ONCE = 1 << 16
_VOLUMES_AT_ONCE = 16


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


def hashed(stored: Stored, hasher: Any, task: Task) -> Iterator[npt.NDArray[Any]]:
    """Pass volumes on while a thread hashes their values: hashing and unpacking overlap."""

    def update(volume: npt.NDArray[Any]) -> None:
        for start in range(0, len(volume), _ROWS_AT_ONCE):  # what fits the cache
            hasher.update(stored.scaled(volume[start : start + _ROWS_AT_ONCE]))

    with ThreadPoolExecutor(max_workers=1) as thread:
        hashing = thread.submit(hasher.update, b"")
        for volume in stored.volumes():
            hashing.result()  # at most one volume waits
            hashing = thread.submit(update, volume)
            yield volume
            task.advance()
        hashing.result()


def drain(volumes: list[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    """Give each volume and let go of it, so that the scan shrinks as its voxels are gathered."""
    volumes.reverse()
    while volumes:
        yield volumes.pop()


def gather(
    stored: Stored, stream: Iterable[npt.NDArray[Any]], mask: Bools, channel_of: Ints
) -> tuple[Float32, Bools]:
    """Collect the mask's voxels, (n, C), and tell which are finite, (n,)."""
    # Where each voxel, in C order of the mask, lies in a flat volume stored in Fortran order.
    index = np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")
    values = np.empty((len(index), len(channel_of)), np.float32)
    finite = np.ones(len(index), np.bool_)
    # Several volumes are put in together: a voxel's channels lie side by side, and every line of
    # the cache that is written to would be so once for each volume.
    sixth = 4 * len(channel_of) // (6 * stored.dtype.itemsize)  # of the memory that `values` take
    together = min(max(sixth, 1), _VOLUMES_AT_ONCE)
    columns = np.empty((together, len(index)), stored.dtype)
    volumes = iter(stream)
    for first in range(0, len(channel_of), together):
        channels = channel_of[first : first + together]
        for column, volume in zip(columns, islice(volumes, len(channels)), strict=False):
            np.take(volume, index, out=column, mode="clip")  # none is clipped, but it is quicker
        for start in range(0, len(index), _ROWS_AT_ONCE // 16):
            rows = slice(start, start + _ROWS_AT_ONCE // 16)
            some = stored.scaled(columns[: len(channels), rows])
            finite[rows] &= np.isfinite(some).all(axis=0)
            values[rows, channels] = some.T
    next(volumes, None)  # goes on to the end of the file, which is checked
    return values, finite


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

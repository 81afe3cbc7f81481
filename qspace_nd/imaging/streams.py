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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from qspace_nd.arrays import Bools, Float32, Ints
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


_SKIPPED_AT_ONCE = 1 << 20  # bytes
_ROWS_AT_ONCE = 1 << 16
# Rows: an odd number of the cache's lines, so that a voxel's numbers, one in each channel of a
# tile, do not compete for one set of it. With up to 300 channels, a tile fits the second level.
_TILE = 63 * 16
_VOLUMES_AHEAD = 3  # to unpack while the mask is read; each waits in memory


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

    def scaled(self, stored: npt.NDArray[Any]) -> Float32:
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
        size = math.prod(self.shape[:3]) * self.dtype.itemsize
        try:
            with _open_stream(self.path) as stream:
                _skip(stream, self.offset)
                for _ in range(math.prod(self.shape[3:])):
                    volume = stream.read(size)  # `readinto` of a packed file reads and copies
                    if len(volume) < size:
                        raise EOFError("the file ends before its last voxel")
                    yield np.frombuffer(volume, self.dtype)
                while stream.read(_SKIPPED_AT_ONCE):
                    pass
        except (EOFError, OSError, zlib.error, _UNPACK_ERROR) as error:
            raise damaged(self.path, error) from error


@contextmanager
def ahead(volumes: Iterator[npt.NDArray[Any]]) -> Iterator[Iterator[npt.NDArray[Any]]]:
    """Give volumes in turn, which a thread unpacks from now on, a few ahead of their use."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = deque(thread.submit(next, volumes, None) for _ in range(_VOLUMES_AHEAD))

        def unpacked() -> Iterator[npt.NDArray[Any]]:
            while (volume := coming.popleft().result()) is not None:
                coming.append(thread.submit(next, volumes, None))
                yield volume

        try:
            yield unpacked()
        finally:
            thread.shutdown(cancel_futures=True)


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
    stored: Stored, stream: Iterable[npt.NDArray[Any]], mask: Bools, order: Ints, b0: Bools
) -> tuple[Float32, Bools, Bools]:
    """Collect the mask's n >= 1 voxels, (n, C), and tell which are finite and have signal, (n,).

    Volume `order[c]` of the stream serves channel c. Those voxels have signal whose mean over the
    volumes of b=0, `b0` (C,), is positive, or where there are none, that are not 0 in all volumes.
    """
    # Where each voxel, in C order of the mask, lies in a flat volume stored in Fortran order.
    index = np.arange(mask.size).reshape(mask.shape, order="F")[mask]
    count, channels = len(index), len(order)
    # The channels of a voxel lie side by side, so that each volume put there would touch every line
    # of the cache. Tiles of some rows are kept channel by channel instead, and turned at the end.
    tiles = np.empty((-(-count // _TILE), channels, _TILE), np.float32)
    index = np.resize(index, len(tiles) * _TILE)  # some voxels once more fill the last tile
    column = np.empty(len(index), stored.dtype)
    finite = np.ones(len(index), np.bool_)
    signal = np.zeros(len(index), np.float64)
    for volume, channel, of_b0 in zip(stream, np.argsort(order), b0, strict=True):
        np.take(volume, index, out=column, mode="clip")  # none is clipped, but it is quicker
        values = stored.scaled(column)
        if not np.isfinite([values.min(), values.max()]).all():
            finite &= np.isfinite(values)
        if of_b0:
            with np.errstate(invalid="ignore"):
                signal += values
        elif not b0.any():
            signal += values != 0
        tiles[:, channel] = values.reshape(len(tiles), _TILE)
    for tile in tiles:
        tile.reshape(_TILE, channels)[:] = tile.T.copy()
    return tiles.reshape(-1, channels)[:count], finite[:count], signal[:count] > 0


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

"""Arrays on the disk, in a scratch file that is gone when its process is."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qspace_nd.errors import WorkError

ROWS = 65_536
"""Rows that are looked at together where an array is gone through."""

_ALIGNED = 64  # bytes that an array in a scratch file begins at a multiple of
_ZEROS = 2**24  # bytes that are written at a time
_SHARED = ".scratch"  # the folder of arrays that processes share


class Room(Protocol):
    """Gives arrays to be filled, as `numpy.zeros` does."""

    def __call__(self, shape: tuple[int, ...], dtype: type[np.generic], /) -> NDArray[Any]:
        """One of this shape and type."""


class Rows(Protocol):
    """Rows (n, ...) that can be sliced: an array, in memory or on the disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, whose first number is that of the rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class ScratchArray:
    """An array in a scratch file, mapped into memory anew whenever rows of it are looked at.

    What was looked at through a mapping counts as memory in use until the mapping is let go of:
    one for the whole array would count it all in the end.

    Attributes
    ----------
    file : file or Path
        A path can be sent to another process, which maps the same file.
    shape : tuple of int
    dtype : dtype
    offset : int
        Bytes before the first number.
    """

    file: IO[bytes] | Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        """The rows, of their own: what is written to them does not reach the file."""
        start, stop, _ = slice(rows.start, rows.stop).indices(len(self))
        shape = (max(stop - start, 0), *self.shape[1:])
        if 0 in shape:
            return np.empty(shape, self.dtype)
        before = start * self.dtype.itemsize * math.prod(self.shape[1:])
        # Copy on write rather than read-only, of which PyTorch warns.
        mapped = np.memmap(self.file, self.dtype, "c", self.offset + before, shape)
        return mapped.view(np.ndarray)


class Scratch:
    """Arrays kept on the disk for as long as this object, in a file without a name.

    The system removes the file when the process ends, however it ends.

    Parameters
    ----------
    near : Path
        The disk of this path is used, which may not exist yet; it is to hold the results, so that
        there is more room than where temporary files usually lie, which may be memory.
    """

    def __init__(self, near: Path) -> None:
        self._near = near
        there = next(p for p in [near, *near.absolute().parents] if p.is_dir())
        with self._writing():
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=there)  # noqa: SIM115  see __exit__

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def keep(self, array: NDArray[Any]) -> ScratchArray:
        """Write an array; give it as it lies on the disk.

        Raises
        ------
        WorkError
            There is no room.
        """
        with self._writing():
            start = -(-self._file.seek(0, 2) // _ALIGNED) * _ALIGNED
            _write(self._file, start, array)
        return ScratchArray(self._file, array.shape, array.dtype, start)

    def room(self, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """Give an array of zeros that lies on the disk; what is written to it goes there.

        The system takes the memory of what was looked at back as it needs it.

        Raises
        ------
        WorkError
            There is no room.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if not size:
            return np.zeros(shape, dtype)
        with self._writing():
            start = -(-self._file.seek(0, 2) // _ALIGNED) * _ALIGNED
            _reserve(self._file, start, size)
        return np.memmap(self._file, dtype, "r+", start, shape).view(np.ndarray)

    def change(self, kept: ScratchArray, change: Callable[[NDArray[Any]], None]) -> None:
        """Let `change` work on the rows of an array that was kept, in place, some at a time."""
        for start in range(0, len(kept), ROWS):
            rows = kept[start : start + ROWS].copy()
            change(rows)
            with self._writing(), _opened(kept.file) as file:
                _write(file, kept.offset + start * (rows.nbytes // len(rows)), rows)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise WorkError(
                f"What {self._near} is made of could not be written ({reason}); what was there "
                f"before is unchanged."
            ) from error


class SharedScratch(Scratch):
    """Arrays kept on the disk for processes side by side, on whichever machines see the folder.

    It can be sent to them. What they write is removed at the end of the block of who made it; what
    is left where this one was killed, the next that is made there removes, and so does
    `remove_scratch`.

    Parameters
    ----------
    folder : Path
        What the arrays are of, which is there and which no other process is writing to.
    """

    def __init__(self, folder: Path) -> None:
        self._near, self._folder = folder, folder.absolute() / _SHARED

    def __enter__(self) -> SharedScratch:
        remove_scratch(self._near)
        with self._writing():
            self._folder.mkdir(mode=0o700)  # scans are nobody else's business
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        remove_scratch(self._near)

    def keep(self, array: NDArray[Any]) -> ScratchArray:
        """Write an array; give it as it lies on the disk, which can be sent too.

        Raises
        ------
        WorkError
            There is no room, or the folder is not seen from here.
        """
        if not self._folder.is_dir():
            raise WorkError(
                f"{socket.gethostname()} does not see the folder {self._folder}; workers need "
                f"the scans and the folder of the model under the same paths as here."
            )
        path = self._folder / secrets.token_hex(8)
        with self._writing(), path.open("xb") as file:
            _write(file, 0, array)
        return ScratchArray(path, array.shape, array.dtype, 0)


def remove_scratch(folder: Path) -> None:
    """Remove what a process has left that shared arrays in `folder` (`SharedScratch`)."""
    shared = folder / _SHARED
    with suppress(OSError):
        # A worker that has not heard of the end may be writing: from here on it finds no folder.
        shared.rename(shared.with_name(f"{_SHARED}-{secrets.token_hex(8)}"))
    for gone in folder.glob(f"{_SHARED}-*"):
        with suppress(OSError):
            shutil.rmtree(gone)


def _write(file: IO[bytes], start: int, array: NDArray[Any]) -> None:
    file.seek(start)
    file.write(np.ascontiguousarray(array).data)
    file.flush()


def _opened(file: IO[bytes] | Path) -> AbstractContextManager[IO[bytes]]:
    return file.open("rb+") if isinstance(file, Path) else nullcontext(file)


def _reserve(file: IO[bytes], start: int, size: int) -> None:
    """Make a file longer by zeros, of which there is room for all.

    Where a file was only said to be longer, a full disk would end the process as the array is
    written to.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), start, size)
        return
    file.seek(start)  # macOS
    for done in range(0, size, _ZEROS):
        file.write(bytes(min(_ZEROS, size - done)))
    file.flush()

"""A scan's part of the healthy reference in a file: arrays of as many rows as it has voxels.

    x               signals (n, C)
    q_mean, q_std   posteriors, each (n, d)

The file is a safetensors file. Its arrays are looked at in pieces, and each is checked against its
hash when it is looked at first; what is never looked at is never read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from qspace_nd.errors import ModelError
from qspace_nd.gaussian import Gaussian
from qspace_nd.network.vae import VAE
from qspace_nd.scores.reference import Part
from qspace_nd.scores.views import View, Views
from qspace_nd.system.hashing import hash_of
from qspace_nd.system.scratch import ROWS
from qspace_nd.system.writing import replacing


def write_part(folder: Path, part: Part) -> dict[str, Any]:
    """Write a part's arrays to a file in `folder`, named by its content.

    Returns
    -------
    dict
        The part's record, for `read_part`: of what JSON can hold.

    Raises
    ------
    WorkError
        There is no room.
    """
    views = part.views
    tensors = {"x": views.x, "q_mean": views.q.mean, "q_std": views.q.std}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    hashes = {name: _hash_of([tensor], len(tensor)) for name, tensor in tensors.items()}
    name = hash_of([json.dumps(hashes, sort_keys=True).encode()]) + ".safetensors"
    with replacing(folder / name) as path:
        try:
            save_file({name: tensor.numpy() for name, tensor in tensors.items()}, path)
        except SafetensorError as error:  # a full disk, for one
            raise OSError(str(error)) from error
    return {"subject": part.subject, "file": name, "rows": len(views), "arrays": hashes}


def read_part(folder: Path, record: Mapping[str, Any], network: VAE) -> Part:
    """Return the part of the reference that was written to `folder`; read nothing yet."""
    arrays = _Arrays(folder / record["file"], record["rows"], record["arrays"])
    return Part(record["subject"], partial(_StoredViews, network, arrays, range(record["rows"])))


class _StoredViews(Views):
    """Views of a part in a file, some of its `rows`: what it holds is read when it is looked at."""

    def __init__(self, network: VAE, arrays: _Arrays, rows: range, seed: int = 0) -> None:
        self.network = network
        self.seed = seed
        self._arrays = arrays
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> _StoredViews:
        return _StoredViews(self.network, self._arrays, self._rows[rows], self.seed)

    @cached_property
    def x(self) -> Tensor:  # type: ignore[override]
        """The signals: (n, C)."""
        return self._arrays.rows("x", self._rows)

    @cached_property
    def q(self) -> Gaussian[Tensor]:
        """Their posteriors: (n, d)."""
        return Gaussian(*(self._arrays.rows(name, self._rows) for name in ("q_mean", "q_std")))

    def check(self, view: View) -> None:
        """Compare with its hash what a view is made of, in the whole file.

        Raises
        ------
        ModelError
            The file is gone, or was altered.
        """
        for name in ("x",) if view == "x" else ("q_mean", "q_std"):
            self._arrays.check(name)


class _Arrays:
    """Arrays of equally many rows in a file.

    Parameters
    ----------
    path : Path
        The file.
    number : int
        How many rows each has.
    hashes : mapping of str to str
        The hash of each, by its name.
    """

    def __init__(self, path: Path, number: int, hashes: Mapping[str, str]) -> None:
        self._path = path
        self._number = number
        self._hashes = hashes
        self._whole: set[str] = set()  # the names of those that were checked

    def rows(self, name: str, rows: range) -> Tensor:
        """Rows of an array (n, ...); what is written to them does not reach the file.

        The file is mapped into memory anew each time: what was looked at through a mapping counts
        as memory in use until the mapping is let go of.

        Raises
        ------
        ModelError
            The file is gone, or the array was altered.
        """
        self.check(name)
        with self._opened(name) as array:
            some: Tensor = array[rows.start : rows.stop]
        return some

    def check(self, name: str) -> None:
        """Compare an array with its hash, unless that was done before.

        Raises
        ------
        ModelError
            See `rows`.
        """
        if name in self._whole:
            return
        with self._opened(name) as array:
            same = array.get_shape()[:1] == [self._number]
        if not same or _hash_of(self._pieces(name), self._number) != self._hashes[name]:
            raise ModelError(f"{self._path} was altered after it was written; fit the model again.")
        self._whole.add(name)

    def _pieces(self, name: str) -> Iterator[Tensor]:
        for start in range(0, self._number, ROWS):
            with self._opened(name) as array:
                yield array[start : start + ROWS]

    @contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        try:
            with safe_open(self._path, "pt") as arrays:
                yield arrays.get_slice(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{self._path} cannot be read ({error}): it was altered, or another fit has "
                f"replaced the model since it was opened; fit the model again, or try again."
            ) from error


def _hash_of(pieces: Iterable[Tensor], number: int) -> str:
    """Hash an array of `number` rows that comes in pieces of some: type, shape and content."""

    def parts() -> Iterator[bytes | memoryview]:
        for piece in pieces:
            yield piece.view(torch.uint8).numpy().reshape(-1).data
        yield f"{piece.dtype} {(number, *piece.shape[1:])}".encode()

    return hash_of(parts())

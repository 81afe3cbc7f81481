"""A scan's part of the healthy reference in a file: arrays of as many rows as it has voxels.

    x                  signals (n, C), unless they were left out
    q_mean, q_std      posteriors, each (n, d)
    points, features   places in the template (n, 3) and what tissue is like (n, K), where known

The file is a safetensors file. Its arrays are looked at in pieces, and each is checked against its
hash when it is looked at first; what is never looked at is never read. It is held open, so that
a model that is replaced stays whole for whoever works with it.
"""

from __future__ import annotations

import json
import os
import resource
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qspace_nd.errors import InputError, ModelError
from qspace_nd.gaussian import Gaussian
from qspace_nd.model.arrays_file import write_tensors
from qspace_nd.network.vae import VAE
from qspace_nd.scores.reference import Part
from qspace_nd.scores.views import Located, View, Views
from qspace_nd.system.hashing import hash_of
from qspace_nd.system.scratch import ROWS
from qspace_nd.system.writing import replacing


def write_part(
    folder: Path, part: Part, like: Path | None = None, *, signals: bool = True
) -> dict[str, Any]:
    """Write a part's arrays, or all but its signals, to a file in `folder`, named by its content.

    Who may read it is as for the file `like`, where that is there.

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
    tensors = {"q_mean": views.q.mean, "q_std": views.q.std}
    if signals and views.has_signals:
        tensors["x"] = views.x
    if views.is_located:
        tensors |= {"points": views.located.points, "features": views.located.features}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    hashes = {name: _hash_of([tensor], len(tensor)) for name, tensor in tensors.items()}
    name = hash_of([json.dumps(hashes, sort_keys=True).encode()]) + ".safetensors"
    with replacing(folder / name, like) as path:
        write_tensors(tensors, path)
    record = {"subject": part.subject, "file": name, "rows": len(views), "arrays": hashes}
    return record | ({"features": views.features.shape[1]} if views.is_located else {})


def read_part(folder: Path, record: Mapping[str, Any], network: VAE) -> Part:
    """Return the part of the reference that was written to `folder`; read nothing yet."""
    widths = {"q_mean": network.latents, "q_std": network.latents}
    if "x" in record["arrays"]:
        widths["x"] = network.channels
    if "features" in record:
        widths |= {"points": 3, "features": record["features"]}
    arrays = _Arrays(folder / record["file"], record["rows"], widths, record["arrays"])
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

    def __getitem__(self, rows: slice) -> Views:
        some = _StoredViews(self.network, self._arrays, self._rows[rows], self.seed)
        return some.less(self.backgrounds)

    @property
    def has_signals(self) -> bool:
        """Whether the file holds them."""
        return "x" in self._arrays.widths

    @property
    def is_located(self) -> bool:
        """Whether the file holds where the voxels lie."""
        return "points" in self._arrays.widths

    @cached_property
    def located(self) -> Located:  # type: ignore[override]
        """Where they lie: (n, 3), and what their tissue is like (n, K)."""
        return Located(*(self._arrays.rows(name, self._rows) for name in ("points", "features")))

    @cached_property
    def x(self) -> Tensor:  # type: ignore[override]
        """The signals: (n, C).

        Raises
        ------
        InputError
            The model was saved without them.
        """
        if not self.has_signals:
            raise InputError(
                "The model was saved without the healthy voxels' signals, which are wanted here; "
                "fit it again with them (without --no-signals)."
            )
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
        for name in _MADE_OF.get(view, ("q_mean", "q_std")):
            if name in self._arrays.widths:  # signals and places are not in every file
                self._arrays.check(name)


_MADE_OF: dict[View, tuple[str, ...]] = {
    "x": ("x",),
    "features": ("features",),
    "placed": ("points", "features"),
}


class _Arrays:
    """Arrays of equally many rows in a file.

    Parameters
    ----------
    path : Path
        The file.
    number : int
        How many rows each has.
    widths : mapping of str to int
        How many numbers a row of each has, by its name.
    hashes : mapping of str to str
        The hash of each, by its name.
    """

    def __init__(
        self, path: Path, number: int, widths: Mapping[str, int], hashes: Mapping[str, str]
    ) -> None:
        self._path = path
        self._number = number
        self.widths = widths
        self._hashes = hashes
        self._whole: set[str] = set()  # the names of those that were checked
        self._place = path
        descriptor = _open(path)
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor)
            self._place = Path(f"/dev/fd/{descriptor}")

    def __getstate__(self) -> dict[str, Any]:
        """Go by the file's name in another process, or a copy."""
        return {**vars(self), "_place": self._path}

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
            found = array.get_dtype(), array.get_shape()
        same = found == ("F32", [self._number, self.widths[name]])
        if not same or _hash_of(self._pieces(name), self._number) != self._hashes[name]:
            raise ModelError(f"{self._path} was altered after it was written; fit the model again.")
        self._whole.add(name)

    def _pieces(self, name: str) -> Iterator[Tensor]:
        for start in range(0, self._number, ROWS):
            with self._opened(name) as array:
                piece = array[start : start + ROWS]
            if not piece.isfinite().all() or (name == "q_std" and not (piece > 0).all()):
                raise ModelError(
                    f"{self._path} holds values that no network gives (NaN, infinity, or a "
                    f"standard deviation of 0); fit the model again."
                )
            yield piece

    @contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        try:
            with safe_open(self._place, "pt") as arrays:
                yield arrays.get_slice(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{self._path} cannot be read ({error}): it was altered, or another fit has "
                f"replaced the model since it was opened; fit the model again, or try again."
            ) from error


def _open(path: Path) -> int | None:
    """Open a file, that it stays what it is though it be removed; None where that cannot be.

    Raises
    ------
    ModelError
        It is not there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; fit the model again.") from error
    except OSError:  # it is told when the file is looked at
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Half of the descriptors that a process may have are left to others.
    if descriptor < most // 2 and Path(f"/dev/fd/{descriptor}").exists():
        return descriptor
    os.close(descriptor)
    return None


def _hash_of(pieces: Iterable[Tensor], number: int) -> str:
    """Hash an array of `number` rows that comes in pieces of some: type, shape and content."""

    def parts() -> Iterator[bytes | memoryview]:
        for piece in pieces:
            yield piece.view(torch.uint8).numpy().reshape(-1).data
        yield f"{piece.dtype} {(number, *piece.shape[1:])}".encode()

    return hash_of(parts())

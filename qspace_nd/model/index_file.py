"""The search tree of a model's reference, kept so that no `map` must build it.

It is derived of the parts of the reference, belongs to no hash of the model, and may be missing:
then it is built in memory. It says of which parts it was built, and holds the hash of its arrays; a
file of other parts, or that was altered, does not serve. Its arrays are mapped into memory, so that
what is never looked at is never read, and several processes share what is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qspace_nd.model.arrays_file import write_tensors
from qspace_nd.scores.reference import Reference
from qspace_nd.system.hashing import hash_of
from qspace_nd.system.memory import remaining
from qspace_nd.system.scratch import Room, Scratch
from qspace_nd.system.writing import replacing

if TYPE_CHECKING:
    from qspace_nd.searching.tree import PointTree

NAME = "index.safetensors"
LEAST = 500_000
"""Voxels from which a tree is kept: with fewer it is built at once."""

_FORMAT = 1
_BYTES = 20  # of memory, of each dimension of each voxel, while a tree is built
_ROWS = 2**20  # of an array, that are hashed at a time

_log = logging.getLogger(__name__)


def source_of(parts: Sequence[Mapping[str, Any]]) -> str:
    """What a tree is built of: a hash of the latents of a model's parts, as its index has them."""
    latents = [(part["rows"], part["arrays"]["q_mean"]) for part in parts]
    return hash_of([json.dumps([_FORMAT, latents]).encode()])


def keep_tree(folder: Path, reference: Reference, source: str, memory: int | None) -> None:
    """Keep the tree of the latents of a reference, if it is large.

    Where memory does not hold it, it is built on the disk: the same tree.

    Raises
    ------
    WorkError
        There is no room.
    """
    path, voxels = folder / NAME, len(reference)
    path.unlink(missing_ok=True)
    if voxels < LEAST:
        return
    # What is compiled takes its time to import: only who searches waits for it.
    from qspace_nd.searching.tree import PointTree

    with Scratch(folder) as scratch:
        room: Room = np.zeros
        if _BYTES * reference.dimensions("q_bar") * voxels > remaining(memory):
            room = scratch.room
        arrays = PointTree(reference.points("q_bar", room), room).to_arrays()
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        lengths = {name: len(tensor) for name, tensor in tensors.items()}
        found = _hash_of(lengths, lambda name, rows: tensors[name][rows])
        with replacing(path, folder / "model.json") as temporary:
            write_tensors(tensors, temporary, {"source": source, "hash": found})


def take_tree(folder: Path, source: str, voxels: int, dimensions: int) -> PointTree | None:
    """Give the tree that was kept of so many voxels, if it is of the `source` and whole."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            if told.get("source") != source:
                return None
            lengths = {name: file.get_slice(name).get_shape()[0] for name in file.keys()}  # noqa: SIM118  it is no mapping

        def read(name: str, rows: slice) -> Tensor:
            with safe_open(path, "pt") as file:  # anew: what was looked at counts until then
                some: Tensor = file.get_slice(name)[rows]
            return some

        if _hash_of(lengths, read) == told.get("hash"):
            # What is compiled takes its time to import: only who searches waits for it.
            from qspace_nd.searching.tree import PointTree

            with safe_open(path, "pt") as file:
                arrays = {name: file.get_tensor(name).numpy() for name in lengths}
            return PointTree.from_arrays(arrays, voxels, dimensions)
    except (SafetensorError, OSError, ValueError, KeyError, IndexError) as error:
        _log.debug(f"{path}: {error}")
    _log.warning(f"{path} was altered after it was written: a search tree is built in its place.")
    return None


def _hash_of(lengths: Mapping[str, int], read: Callable[[str, slice], Tensor]) -> str:
    """Hash arrays of so many rows, by their names, of which `read` gives some."""
    pieces = [
        (name, slice(start, start + _ROWS))
        for name, length in sorted(lengths.items())
        for start in range(0, length, _ROWS)
    ]

    def of(piece: tuple[str, slice]) -> bytes:
        some = read(*piece).contiguous()
        about = f"{piece[0]} {some.dtype} {tuple(some.shape)}".encode()
        return hash_of([some.view(torch.uint8).numpy().reshape(-1).data, about]).encode()

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # hashing leaves Python to others
        return hash_of(pool.map(of, pieces))

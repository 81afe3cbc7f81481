"""Arrays of a model in a file, by their names: checked against the file's own name."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from qspace_nd.errors import ModelError
from qspace_nd.system.hashing import hash_of
from qspace_nd.system.writing import replacing


def write_arrays(
    folder: Path, kind: str, arrays: Mapping[str, NDArray[Any]], like: Path | None = None
) -> str:
    """Write arrays to a file in `folder`, named by their kind and its content; return its name.

    Raises
    ------
    WorkError
        There is no room.
    """
    # As bytes: safetensors reports a full disk by an error that is no OSError.
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    name = f"{kind}-{hash_of([content])}.safetensors"
    with replacing(folder / name, like) as path:
        path.write_bytes(content)
    return name


def write_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors does, one after another, without a copy of all.

    Its own `save_file` writes to a temporary file of its own, which a kill leaves behind and which
    nobody else may read whatever the umask; its `save` holds all twice.
    """
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    # The widest numbers first, so that all are aligned where they are mapped into memory.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    end = 0
    for name, tensor in ordered:
        place, end = end, end + tensor.element_size() * tensor.numel()
        kind = _KINDS[tensor.dtype][0]
        header[name] = {"dtype": kind, "shape": [*tensor.shape], "data_offsets": [place, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in ordered:
            stream.write(tensor.numpy().astype(_KINDS[tensor.dtype][1], copy=False).data)


_KINDS = {torch.float32: ("F32", "<f4"), torch.float64: ("F64", "<f8"), torch.int64: ("I64", "<i8")}


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays that were written to a file.

    Raises
    ------
    ModelError
        The file was altered, or holds what no fit gives.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check the file.") from error
    if hash_of([content]) not in path.name:
        raise ModelError(f"{path} was altered after it was written; fit the model again.")
    try:
        arrays: dict[str, NDArray[Any]] = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} holds no arrays ({error}); fit the model again.") from error
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ModelError(f"{path} holds values that no fit gives; fit the model again.")
    return arrays

"""Arrays of a model in a file, by their names: checked against the file's own name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

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

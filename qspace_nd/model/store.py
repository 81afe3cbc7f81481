"""The model folder: complete or absent, checked against its hashes, nothing in it is run.

    model.json                     what the model is, and every other file with its size
    weights-<hash>.safetensors     the network's weights
    reference/<hash>.safetensors   a scan's voxels and their posteriors (`part_file`)

Files are named by their content, so that a model is replaced without touching the one that is
there; `model.json` is replaced last, and what it no longer names is removed after that. The index
has its own hash; the weights are checked when the model is loaded, the reference when it is looked
at.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as weights_to_bytes

from qspace_nd._version import __version__
from qspace_nd.errors import InputError, ModelError, OutputError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.model.part_file import read_part, write_part
from qspace_nd.network.history import History
from qspace_nd.network.image_vae import network_again
from qspace_nd.network.vae import VAE
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.reference import Part, Reference
from qspace_nd.system.hashing import hash_of, hash_of_file
from qspace_nd.system.writing import replacing, require_writable, write_text

SCHEMA = 2
_INDEX = "model.json"
_PARTS = "reference"

_CONTENT = (
    r"weights-[0-9a-f]{32}\.safetensors"
    r"|reference/[0-9a-f]{32}\.safetensors"
    r"|reference/(x|q_mean|q_std)-[0-9a-f]{32}\.npy"  # of schema 1
)
# What a save that was killed leaves: a temporary file (`replacing`).
_TEMPORARY = r"(reference/)?\.(weights-|model\.json|[0-9a-f]{32}\.safetensors|incoming)\S*"
_OURS = re.compile(rf"{_PARTS}|{_CONTENT}|{_TEMPORARY}")


@dataclass(frozen=True)
class Contents:
    """What a model folder holds."""

    settings: dict[str, Any]
    network: VAE
    history: History
    acquisition: Acquisition | None
    reference: Reference


def require_new(folder: Path, *, force: bool) -> None:
    """Check, before any work, that a model can be saved to `folder`.

    Raises
    ------
    OutputError
        The folder holds a model and `force` is not set, holds anything else, or cannot be written.
    """
    index = folder / _INDEX
    if index.exists() and not force:
        raise OutputError(
            f"{folder} holds a model already; name another folder with --model, or overwrite it "
            f"with --force."
        )
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; name a folder for the model.")
    if folder.is_dir() and not index.exists():
        # Hidden files are the system's, .DS_Store for one.
        strangers = [n for n in _names(folder) if not (_is_ours(n) or n.startswith("."))]
        if strangers:
            raise OutputError(
                f"{folder} holds other files, {strangers[0]} for one; name a new folder for the "
                f"model."
            )
    require_writable([index], force=True)


def save(
    folder: Path, contents: Contents, *, force: bool = False, progress: Progress = SILENT
) -> str:
    """Write a model to `folder`; return its hash.

    Raises
    ------
    OutputError
        The folder holds a model and `force` is not set, or cannot be written.
    """
    require_new(folder, force=force)
    index: dict[str, Any] = {
        "schema": SCHEMA,
        "software": _versions(),
        "settings": contents.settings,
        "network": contents.network.settings,
        "weights": _write_weights(folder, contents.network),
        "training": contents.history.to_json(),
        "acquisition": None if contents.acquisition is None else contents.acquisition.to_json(),
        "reference": _write_parts(folder, contents.reference.parts, progress),
    }
    return _write_index(folder, index)


def add(
    folder: Path, parts: Sequence[Part], acquisition: Acquisition, progress: Progress = SILENT
) -> str:
    """Add parts to the reference of the model in `folder`; return its new hash.

    What is there is not written again but for `model.json`.

    Parameters
    ----------
    folder : Path
        Of the model.
    parts : sequence of Part
        What is added.
    acquisition : Acquisition
        Of all scans, those that are added too.
    """
    index = read_index(folder)
    index["reference"] += _write_parts(folder, parts, progress)
    index["acquisition"] = acquisition.to_json()
    return _write_index(folder, index)


def _write_weights(folder: Path, network: VAE) -> str:
    state = {name: weight.cpu().contiguous() for name, weight in network.state_dict().items()}
    # As bytes: safetensors reports a full disk by an error that is no OSError.
    content = weights_to_bytes(state)
    name = f"weights-{hash_of([content])}.safetensors"
    with replacing(folder / name) as path:
        path.write_bytes(content)
    return name


def _write_parts(folder: Path, parts: Sequence[Part], progress: Progress) -> list[dict[str, Any]]:
    """Write parts, one after the other, as they may not fit the memory."""
    records = []
    with progress.task("Writing the healthy reference", len(parts)) as task:
        for part in parts:
            records.append(write_part(folder / _PARTS, part))
            task.advance()
    return records


def _write_index(folder: Path, index: dict[str, Any]) -> str:
    """Write `model.json`, which makes the model that it describes; return the model's hash."""
    names = [index["weights"], *(f"{_PARTS}/{part['file']}" for part in index["reference"])]
    index["files"] = {name: (folder / name).stat().st_size for name in names}
    index = json.loads(json.dumps(index, default=_as_plain))
    index["hash"] = _hash_of_index(index)
    write_text(folder / _INDEX, json.dumps(index, indent=1, ensure_ascii=False) + "\n")
    _remove_unlisted(folder, set(index["files"]))
    return str(index["hash"])


def load(folder: Path) -> Contents:
    """Read a model from `folder`; its reference is read and checked when it is looked at.

    Raises
    ------
    ModelError
        The folder is absent, incomplete, altered or of another schema.
    """
    index = read_index(folder)
    for name, size in index["files"].items():
        _require_size(folder, name, size)
    network = _read_weights(folder / index["weights"], index["network"])
    acquisition = index["acquisition"]
    return Contents(
        settings=index["settings"],
        network=network,
        history=History.from_json(index["training"]),
        acquisition=None if acquisition is None else Acquisition.from_json(acquisition),
        reference=map_reference(folder, network),
    )


def map_reference(folder: Path, network: VAE) -> Reference:
    """Return the reference of the model in `folder`, which is read when it is looked at.

    Raises
    ------
    ModelError
        See `read_index`.
    """
    parts = read_index(folder)["reference"]
    return Reference([read_part(folder / _PARTS, part, network) for part in parts])


def _read_weights(path: Path, settings: dict[str, Any]) -> VAE:
    if hash_of_file(path) not in path.name:
        raise ModelError(f"{path} was altered after it was written; fit the model again.")
    network = network_again(settings)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ModelError(f"{path} holds no weights ({error}).") from error
    return network


def read_index(folder: Path) -> dict[str, Any]:
    """Read `model.json` and check its hash and its schema.

    Raises
    ------
    ModelError
        The folder is absent, incomplete, altered or of another schema.
    """
    path = folder / _INDEX
    if not path.is_file():
        found = "has no model.json" if folder.is_dir() else "does not exist"
        raise ModelError(
            f"There is no model in {folder}: it {found}; fit one first (qspace-nd fit), or name "
            f"its folder with --model."
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        schema, written = int(index["schema"]), str(index["hash"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ModelError(f"{path} is not a model's index; fit the model again.") from error
    if schema > SCHEMA:
        raise ModelError(
            f"{path} has schema {schema}, this version of qspace-nd reads up to {SCHEMA}; "
            f"upgrade qspace-nd."
        )
    if schema < SCHEMA:
        raise ModelError(
            f"{path} has schema {schema}, of an older qspace-nd; this version reads schema "
            f"{SCHEMA} alone: fit the model again."
        )
    if _hash_of_index(index) != written:
        raise ModelError(f"{path} was altered after it was written; fit the model again.")
    return dict(index)


def read_acquisition(folder: Path) -> Acquisition:
    """What the scans were that the model in `folder` was fitted on; reads its index alone.

    Raises
    ------
    InputError
        There is no model, or it was fitted on arrays.
    """
    acquisition = read_index(folder)["acquisition"]
    if acquisition is None:
        raise InputError(
            f"The model in {folder} was fitted on arrays, not on scans; fit one on scans."
        )
    return Acquisition.from_json(acquisition)


def _names(folder: Path) -> list[str]:
    """What lies in a folder and in its `reference/`, sorted."""
    paths = [*folder.iterdir(), *(folder / _PARTS).glob("*")]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _is_ours(name: str) -> bool:
    """Whether a save wrote the file: nothing else may ever be removed."""
    return bool(_OURS.fullmatch(name))


def _require_size(folder: Path, name: str, size: int) -> None:
    path = folder / name
    if not path.is_file():
        raise ModelError(f"{folder} is incomplete: {name} is missing; fit the model again.")
    if path.stat().st_size != size:
        raise ModelError(f"{path} was altered after it was written; fit the model again.")


def _remove_unlisted(folder: Path, listed: set[str]) -> None:
    for name in _names(folder):
        if name != _PARTS and _is_ours(name) and name not in listed:
            (folder / name).unlink(missing_ok=True)


def _hash_of_index(index: dict[str, Any]) -> str:
    rest = {key: value for key, value in index.items() if key != "hash"}
    return hash_of([json.dumps(rest, sort_keys=True).encode()])


def _as_plain(value: Any) -> Any:
    """NumPy's numbers and arrays, which settings may hold, for JSON."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be stored in {_INDEX}")


def _versions() -> dict[str, str]:
    packages = ["torch", "numpy", "scipy", "faiss-cpu", "nibabel", "dipy"]
    own = {"python": platform.python_version(), "qspace-nd": __version__}
    return own | {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # FAISS has other names on conda
        return "unknown"

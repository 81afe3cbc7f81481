"""The model folder: complete or absent, checked against its hashes, nothing in it is run.

    model.json                          what the model is, and every other file with its hash
    weights-<hash>.safetensors          the network's weights
    reference/x-<hash>.npy              a scan's voxels (n, C), a plain array
    reference/q_mean-<hash>.npy, q_std-<hash>.npy   their posteriors, each (n, d)

Files are named by their content, so that a model is replaced without touching the one that is
there; `model.json` is replaced last, and what it no longer names is removed after that.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as weights_to_bytes

from qspace_nd._version import __version__
from qspace_nd.errors import InputError, ModelError, OutputError
from qspace_nd.gaussian import Gaussian
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.network.history import History
from qspace_nd.network.image_vae import network_again
from qspace_nd.network.vae import VAE
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.reference import Part, Reference
from qspace_nd.scores.views import Views
from qspace_nd.system.scratch import Mapped
from qspace_nd.system.writing import replacing, require_writable

SCHEMA = 1
_INDEX = "model.json"
_ARRAYS = ("x", "q_mean", "q_std")

_CONTENT = re.compile(
    r"weights-[0-9a-f]{32}\.safetensors|reference/(x|q_mean|q_std)-[0-9a-f]{32}\.npy"
)
# What a save that was killed leaves: a file under way, or its temporary one.
_LEFT_OVER = re.compile(r"(reference/)?\.{1,2}(incoming|model\.json)\..*")


@dataclass(frozen=True)
class Stored:
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


def save(folder: Path, stored: Stored, *, force: bool = False, progress: Progress = SILENT) -> str:
    """Write a model to `folder`; return its hash.

    Raises
    ------
    OutputError
        The folder holds a model and `force` is not set, or cannot be written.
    """
    require_new(folder, force=force)
    state = {name: w.cpu().contiguous() for name, w in stored.network.state_dict().items()}
    # As bytes: safetensors reports a full disk by an error that is no OSError.
    plain_weights = weights_to_bytes(state)
    weights = _write_by_content(
        folder / "weights-.safetensors", lambda path: path.write_bytes(plain_weights)
    )
    index: dict[str, Any] = {
        "schema": SCHEMA,
        "software": _versions(),
        "settings": stored.settings,
        "network": stored.network.settings,
        "weights": weights.name,
        "training": stored.history.to_json(),
        "acquisition": None if stored.acquisition is None else stored.acquisition.to_json(),
        "reference": _write_parts(folder, stored.reference.parts, progress),
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


def _write_parts(folder: Path, parts: Sequence[Part], progress: Progress) -> list[dict[str, str]]:
    """Write the arrays of parts, one part after the other, as they may not fit the memory."""
    written = []
    with progress.task("Writing the healthy reference", len(parts)) as task:
        for part in parts:
            views = part.views
            written.append(
                {
                    "subject": part.subject,
                    "x": _write_array(folder, "x", views.x),
                    "q_mean": _write_array(folder, "q_mean", views.q.mean),
                    "q_std": _write_array(folder, "q_std", views.q.std),
                }
            )
            del views  # before the next part is looked at
            task.advance()
    return written


def _write_array(folder: Path, name: str, array: torch.Tensor) -> str:
    plain = np.ascontiguousarray(array.numpy())
    template = folder / "reference" / f"{name}-.npy"
    path = _write_by_content(template, lambda path: _save_array(path, plain))
    return path.relative_to(folder).as_posix()


def _write_index(folder: Path, index: dict[str, Any]) -> str:
    """Write `model.json`, which makes the model that it describes; return the model's hash."""
    arrays = [part[name] for part in index["reference"] for name in _ARRAYS]
    index["files"] = {name: (folder / name).stat().st_size for name in [index["weights"], *arrays]}
    index = json.loads(json.dumps(index, default=_as_plain))
    index["hash"] = _hash_of_index(index)
    with replacing(folder / _INDEX) as path:
        path.write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _remove_unlisted(folder, set(index["files"]))
    return str(index["hash"])


def load(folder: Path) -> Stored:
    """Read a model from `folder`, its reference memory-mapped.

    Raises
    ------
    ModelError
        The folder is absent, incomplete, altered or of a newer schema.
    """
    index = read_index(folder)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # hashing leaves Python to others
        checks = pool.map(lambda file: _check_file(folder, *file), index["files"].items())
        list(checks)  # so that what a thread raises is raised here
    network = network_again(index["network"])
    try:
        network.load_state_dict(load_file(folder / index["weights"]))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ModelError(f"{folder / index['weights']} holds no weights ({error}).") from error
    acquisition = index["acquisition"]
    return Stored(
        settings=index["settings"],
        network=network,
        history=History.from_json(index["training"]),
        acquisition=None if acquisition is None else Acquisition.from_json(acquisition),
        reference=map_reference(folder, network),
    )


def map_reference(folder: Path, network: VAE) -> Reference:
    """The reference of the model in `folder`, memory-mapped; its files' hashes are not checked.

    Raises
    ------
    ModelError
        See `load`.
    """
    parts = read_index(folder)["reference"]
    return Reference([_map_part(folder, part, network) for part in parts])


def _map_part(folder: Path, part: dict[str, str], network: VAE) -> Part:
    x, q_mean, q_std = (_map_array(folder / part[name]) for name in _ARRAYS)

    def views() -> Views:
        arrays = (torch.from_numpy(array[:]) for array in (x, q_mean, q_std))
        return Views(network, next(arrays), Gaussian(*arrays))

    return Part(part["subject"], views)


def read_index(folder: Path) -> dict[str, Any]:
    """Read `model.json` and check its hash and its schema.

    Raises
    ------
    ModelError
        The folder is absent, incomplete, altered or of a newer schema.
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
    paths = [*folder.iterdir(), *(folder / "reference").glob("*")]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _is_ours(name: str) -> bool:
    """Whether a save wrote the file: nothing else may ever be removed."""
    known = name == "reference" or _CONTENT.fullmatch(name) or _LEFT_OVER.fullmatch(name)
    return bool(known)


def _write_by_content(template: Path, write: Callable[[Path], object]) -> Path:
    """Write a file beside `template` and insert its content's hash into its name."""
    incoming = template.with_name(f".incoming{template.suffix}")
    with replacing(incoming) as temporary:
        write(temporary)
    path = template.with_name(template.stem + _hash_of_file(incoming) + template.suffix)
    return incoming.replace(path)


def _save_array(path: Path, array: NDArray[Any]) -> None:
    header = np.lib.format.header_data_from_array_1_0(array)
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(array.data)  # np.save does not notice that the last bytes found no room


def _map_array(path: Path) -> Mapped:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} holds no array ({error}); fit the model again.") from error
    return Mapped(path, array.shape, array.dtype, array.offset)


def _check_file(folder: Path, name: str, size: int) -> None:
    path = folder / name
    if not path.is_file():
        raise ModelError(f"{folder} is incomplete: {name} is missing; fit the model again.")
    if path.stat().st_size != size or _hash_of_file(path) not in path.name:
        raise ModelError(f"{path} was altered after it was written; fit the model again.")


def _remove_unlisted(folder: Path, listed: set[str]) -> None:
    for name in _names(folder):
        if name != "reference" and _is_ours(name) and name not in listed:
            (folder / name).unlink(missing_ok=True)


def _hash_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, _digest).hexdigest()


def _hash_of_index(index: dict[str, Any]) -> str:
    rest = {key: value for key, value in index.items() if key != "hash"}
    return str(_digest(json.dumps(rest, sort_keys=True).encode()).hexdigest())


def _digest(data: bytes = b"") -> Any:
    return hashlib.blake2b(data, digest_size=16)


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

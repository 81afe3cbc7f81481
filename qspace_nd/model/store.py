"""The model folder: complete or absent, checked against its hashes, nothing in it is run.

    model.json                     what the model is, and every other file with its size
    weights-<hash>.safetensors     the network's weights
    template-<hash>.safetensors    the healthy people's common space, where there is one
    template.nii.gz                the same as an image, which nothing reads
    grids-<hash>.safetensors       where the healthy voxels lie in their scans
    null-<hash>.safetensors        the healthy people's own novelty by a score (`nulls`)
    reference/<hash>.safetensors   a scan's voxels and their posteriors (`part_file`)
    index.safetensors              the search tree of these, where it is large (`index_file`)

Files are named by their content, so that a model is replaced without touching the one that is
there; `model.json` is replaced last, and what it no longer names is removed after that. The index
has its own hash; the weights are checked when the model is loaded, the reference when it is looked
at.
"""

from __future__ import annotations

import json
import logging
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save as weights_to_bytes

from qspace_nd._version import __version__
from qspace_nd.errors import InputError, ModelError, OutputError, WorkError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.layouts.facts import read_facts
from qspace_nd.model.arrays_file import read_arrays, write_arrays
from qspace_nd.model.index_file import NAME as TREE
from qspace_nd.model.index_file import keep_tree, source_of, take_tree
from qspace_nd.model.index_kinds import ARRAYS, PART, WEIGHTS, names_in, require_kinds
from qspace_nd.model.knowledge import Features
from qspace_nd.model.masks_folder import take_up_masks
from qspace_nd.model.nulls import Arrays, Measured, OnDemand
from qspace_nd.model.part_file import read_part, write_part
from qspace_nd.model.weights_file import read_weights
from qspace_nd.network.history import History
from qspace_nd.network.vae import VAE
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.reference import Part, Reference
from qspace_nd.system.hashing import hash_of
from qspace_nd.system.locking import alone, remove_unheld
from qspace_nd.system.writing import replacing, require_writable, write_text

_log = logging.getLogger(__name__)

SCHEMA = 3
"""What a model holds, and what its scores are made of: what is kept of them is of no others."""
INDEX = "model.json"
"""The file that makes the model, last."""
TEMPLATE = "template.nii.gz"
"""The template as an image, for who looks at it or brings an atlas there; nothing reads it."""
_PARTS = "reference"
_LOCK = ".model.lock"

_CONTENT = (
    rf"{WEIGHTS}|{ARRAYS}"
    rf"|reference/{PART}"
    r"|reference/(x|q_mean|q_std)-[0-9a-f]{32}\.npy"  # of schema 1
)
# What a save that was killed leaves: a temporary file (`replacing`).
_TEMPORARY = re.compile(
    rf"\.({WEIGHTS}|{ARRAYS}|{re.escape(TREE)}|model\.json)\.[0-9a-f]{{8}}\.\w+"
    rf"|reference/\.{PART}\.[0-9a-f]{{8}}\.\w+"
)
_OURS = re.compile(
    rf"{_PARTS}|{_CONTENT}|{re.escape(TEMPLATE)}|{re.escape(TREE)}|{_TEMPORARY.pattern}"
)


@dataclass(frozen=True)
class Contents:
    """What a model folder holds.

    Attributes
    ----------
    settings : dict
        Of the model.
    network : VAE
    history : History
    acquisition : Acquisition or None
    reference : Reference
    template : mapping of str to array, or None
        The common space in which the reference's voxels have places.
    grids : mapping of str to array, or None
        Where the reference's voxels lie in their scans (`nulls.grid_arrays`).
    nulls, summaries : mapping of Measured to mapping of str to array
        The healthy people's own novelty (`nulls`), and what is kept to compare with it
        (`calibration.summary`).
    signals : bool
        Whether the healthy voxels' signals are written.
    digest : str
        The hash of the model that was read; empty for one that is to be written.
    """

    settings: dict[str, Any]
    network: VAE
    history: History
    acquisition: Acquisition | None
    reference: Reference
    template: Arrays | None = None
    grids: Arrays | None = None
    nulls: Mapping[Measured, Arrays] = field(default_factory=OnDemand)
    summaries: Mapping[Measured, Arrays] = field(default_factory=OnDemand)
    signals: bool = True
    digest: str = ""


def writing(folder: Path) -> AbstractContextManager[None]:
    """Let no other process write to the model in `folder` meanwhile; wait for one that does.

    Raises
    ------
    OutputError
        Nothing can be written there.
    """
    return alone(folder / _LOCK, folder)


def require_new(folder: Path, *, force: bool) -> None:
    """Check, before any work, that a model can be saved to `folder`.

    Raises
    ------
    OutputError
        The folder holds a model and `force` is not set, holds anything else, or cannot be written.
    """
    index = folder / INDEX
    if index.exists() and not force:
        remove_unheld(folder / _LOCK)  # of a fit that was killed when all was written
        if not (folder / _LOCK).exists():
            take_up_masks(folder, index)
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
    acquisition = contents.acquisition
    with writing(folder):
        require_new(folder, force=force)  # another may have been written while this one waited
        index: dict[str, Any] = {
            "schema": SCHEMA,
            "software": _versions(),
            "settings": contents.settings,
            "network": contents.network.settings,
            "weights": _write_weights(folder, contents.network),
            "training": contents.history.to_json(),
            "acquisition": None if acquisition is None else acquisition.to_json(),
            "template": _write_arrays(folder, "template", contents.template),
            "grids": _write_arrays(folder, "grids", contents.grids),
            "nulls": _write_nulls(folder, contents.nulls, contents.summaries),
            "reference": _write_parts(
                folder, contents.reference.parts, progress, signals=contents.signals
            ),
        }
        (folder / TREE).unlink(missing_ok=True)  # of the model that was there
        return _write_index(folder, index)


def add(
    folder: Path,
    digest: str,
    parts: Sequence[Part],
    acquisition: Acquisition,
    grids: Arrays | None,
    progress: Progress = SILENT,
) -> str:
    """Add parts to the reference of the model in `folder`; return its new hash.

    What is there is not written again but for `model.json`. What was measured of the healthy
    people is dropped: it was so by the reference of before.

    Parameters
    ----------
    folder : Path
        Of the model.
    digest : str
        The hash of the model that parts are added to.
    parts : sequence of Part
        What is added.
    acquisition : Acquisition
        Of all scans, those that are added too.
    grids : mapping of str to array, or None
        Likewise.

    Raises
    ------
    ModelError
        The folder holds another model.
    """
    with writing(folder):
        signals = "x" in read_index(folder)["reference"][0]["arrays"]
        records = _write_parts(folder, parts, progress, signals=signals)
        index = read_index(folder)
        if index["hash"] != digest:  # the file system may have no locks
            raise ModelError(
                f"The model in {folder} was changed by another process meanwhile; add the scans "
                f"again."
            )
        index["reference"] += records
        index["acquisition"] = acquisition.to_json()
        index["grids"], index["nulls"] = _write_arrays(folder, "grids", grids), []
        (folder / TREE).unlink(missing_ok=True)  # of the reference that was there
        return _write_index(folder, index)


def add_nulls(
    folder: Path,
    digest: str,
    nulls: Mapping[Measured, Arrays],
    summaries: Mapping[Measured, Arrays],
) -> str:
    """Add what was measured of the healthy people to the model in `folder`; return its new hash.

    Raises
    ------
    ModelError
        The folder holds another model.
    """
    with writing(folder):
        index = read_index(folder)
        if index["hash"] != digest:
            raise ModelError(
                f"The model in {folder} was changed by another process meanwhile; calibrate it "
                f"again."
            )
        kept = [null for null in index.get("nulls", []) if _measured(null) not in nulls]
        index["nulls"] = kept + _write_nulls(folder, nulls, summaries)
        return _write_index(folder, index)


def _write_weights(folder: Path, network: VAE) -> str:
    state = {name: weight.cpu().contiguous() for name, weight in network.state_dict().items()}
    # As bytes: safetensors reports a full disk by an error that is no OSError.
    content = weights_to_bytes(state)
    name = f"weights-{hash_of([content])}.safetensors"
    with replacing(folder / name, folder / INDEX) as path:
        path.write_bytes(content)
    return name


def _write_arrays(folder: Path, kind: str, arrays: Arrays | None) -> str | None:
    return None if arrays is None else write_arrays(folder, kind, arrays, folder / INDEX)


def _write_nulls(
    folder: Path, nulls: Mapping[Measured, Arrays], summaries: Mapping[Measured, Arrays]
) -> list[dict[str, Any]]:
    return [
        {
            **asdict(measured),
            "file": _write_arrays(folder, "null", arrays),
            "summary": _write_arrays(folder, "summary", summaries.get(measured)),
        }
        for measured, arrays in nulls.items()
    ]


def _write_parts(
    folder: Path, parts: Sequence[Part], progress: Progress, *, signals: bool
) -> list[dict[str, Any]]:
    """Write parts, one after the other, as they may not fit the memory."""
    records = []
    with progress.task("Writing the healthy reference", len(parts)) as task:
        for part in parts:
            records.append(write_part(folder / _PARTS, part, folder / INDEX, signals=signals))
            task.advance()
    return records


def _write_index(folder: Path, index: dict[str, Any]) -> str:
    """Write `model.json`, which makes the model that it describes; return the model's hash."""
    index["files"] = {name: (folder / name).stat().st_size for name in names_in(index)}
    index = json.loads(json.dumps(index, default=_as_plain))
    index["hash"] = _hash_of_index(index)
    text = json.dumps(index, indent=1, ensure_ascii=False)
    write_text(folder / INDEX, text + "\n")
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
    while True:
        try:
            return _load(folder, index)
        except ModelError:
            before, index = index, read_index(folder)
            if index["hash"] == before["hash"]:
                raise
            # It was replaced while it was read.


def _load(folder: Path, index: dict[str, Any]) -> Contents:
    for name, size in index["files"].items():
        _require_size(folder, name, size)
    network = read_weights(folder / index["weights"], index["network"])
    template, grids = index.get("template"), index.get("grids")
    return Contents(
        settings=index["settings"],
        network=network,
        history=History.from_json(index["training"]),
        acquisition=acquisition_in(index),
        reference=_reference(folder, index, network),
        template=None if template is None else read_arrays(folder / template),
        grids=None if grids is None else read_arrays(folder / grids),
        nulls=_on_demand(folder, index, "file"),
        summaries=_on_demand(folder, index, "summary"),
        digest=index["hash"],
    )


def map_reference(folder: Path, network: VAE) -> Reference:
    """Return the reference of the model in `folder`, which is read when it is looked at.

    Raises
    ------
    ModelError
        See `read_index`.
    """
    return _reference(folder, read_index(folder), network)


def _reference(folder: Path, index: dict[str, Any], network: VAE) -> Reference:
    records = index["reference"]
    parts = [read_part(folder / _PARTS, part, network) for part in records]
    voxels = sum(part["rows"] for part in records)
    kept = partial(take_tree, folder, source_of(records), voxels, network.latents)
    return Reference(parts, Features.of(acquisition_in(index)).weights, kept=kept)


def keep_index(folder: Path, digest: str, reference: Reference, memory: int | None) -> None:
    """Keep the search tree of the reference of the model in `folder`, where it is worth it.

    None is kept where another model took the place of that of the hash `digest`, or without room:
    the model is whole without it.
    """
    with writing(folder):
        index = read_index(folder)
        if index["hash"] != digest:
            return
        try:
            keep_tree(folder, reference, source_of(index["reference"]), memory)
        except WorkError as error:
            _log.warning(f"The search tree is not kept, and each map builds it anew: {error}")


def read_index(folder: Path) -> dict[str, Any]:
    """Read `model.json` and check its hash, its schema and all that is made use of.

    Raises
    ------
    ModelError
        The folder is absent, incomplete, altered or of another schema.
    """
    path = folder / INDEX
    if not path.is_file():
        found = "has no model.json" if folder.is_dir() else "does not exist"
        raise ModelError(
            f"There is no model in {folder}: it {found}; fit one first (qspace-nd fit), or name "
            f"its folder with --model."
        )
    try:
        index = read_facts(path)
    except ValueError as error:
        reason = f"{path} is not a model's index ({error})"
        raise ModelError(f"{reason}; check the file, or fit the model again.") from error
    try:
        schema, written = int(index["schema"]), str(index["hash"])
        found = _hash_of_index(index)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
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
    if found != written:
        raise ModelError(f"{path} was altered after it was written; fit the model again.")
    try:
        require_kinds(index)
        acquisition_in(index)
        History.from_json(index["training"])
    except (ValueError, TypeError, KeyError) as error:  # a key that another version knows, for one
        reason = str(error).rstrip(".")
        raise ModelError(
            f"{path} {reason}: no qspace-nd of this version wrote it; fit the model again."
        ) from error
    return index


def acquisition_in(index: dict[str, Any]) -> Acquisition | None:
    """What an index says of the scans that its model was fitted on; None where it was on arrays."""
    acquisition = index["acquisition"]
    return None if acquisition is None else Acquisition.from_json(acquisition)


def measured_in(index: dict[str, Any]) -> tuple[Measured, ...]:
    """What of the healthy people an index says was measured."""
    return tuple(map(_measured, index.get("nulls", [])))


def _measured(null: dict[str, Any]) -> Measured:
    return Measured(null["score"], null["neighbours"], null["toward"])


def _on_demand(folder: Path, index: dict[str, Any], key: str) -> OnDemand:
    """The files that an index has under a key for what was measured, where it has one."""
    files = {_measured(null): null.get(key) for null in index.get("nulls", [])}
    return OnDemand(
        {
            measured: partial(read_arrays, folder / file)
            for measured, file in files.items()
            if file is not None
        }
    )


def read_acquisition(folder: Path) -> Acquisition:
    """What the scans were that the model in `folder` was fitted on; reads its index alone.

    Raises
    ------
    InputError
        There is no model, or it was fitted on arrays.
    """
    return require_acquisition(acquisition_in(read_index(folder)), folder)


def require_acquisition(acquisition: Acquisition | None, folder: Path) -> Acquisition:
    """Give the acquisition of the model in `folder`.

    Raises
    ------
    InputError
        It has none: it was fitted on arrays.
    """
    if acquisition is None:
        raise InputError(
            f"The model in {folder} was fitted on arrays, not on scans; fit one on scans."
        )
    return acquisition


def _names(folder: Path) -> list[str]:
    """What lies in a folder and in its `reference/`, sorted."""
    paths = [*folder.iterdir(), *(folder / _PARTS).glob("*")]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _is_ours(name: str) -> bool:
    """Whether a save wrote the file: nothing else may ever be removed."""
    return bool(_OURS.fullmatch(name))


def _require_size(folder: Path, name: str, size: int) -> None:
    path = folder / name
    try:
        found = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}); check its permissions."
        ) from error
    if found is None:
        raise ModelError(f"{folder} is incomplete: {name} is missing; fit the model again.")
    if found != size:
        raise ModelError(f"{path} was altered after it was written; fit the model again.")


def _remove_unlisted(folder: Path, listed: set[str]) -> None:
    for name in _names(folder):
        if _TEMPORARY.fullmatch(name):
            remove_unheld(folder / name)
        elif name not in (_PARTS, TEMPLATE, TREE) and _is_ours(name) and name not in listed:
            (folder / name).unlink(missing_ok=True)


def _hash_of_index(index: dict[str, Any]) -> str:
    rest = {key: value for key, value in index.items() if key != "hash"}
    return hash_of([json.dumps(rest, sort_keys=True).encode()])


def _as_plain(value: Any) -> Any:
    """NumPy's numbers and arrays, which settings may hold, for JSON."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be stored in {INDEX}")


def _versions() -> dict[str, str]:
    packages = ["torch", "numpy", "scipy", "faiss-cpu", "nibabel", "dipy"]
    own = {"python": platform.python_version(), "qspace-nd": __version__}
    return own | {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # FAISS has other names on conda
        return "unknown"

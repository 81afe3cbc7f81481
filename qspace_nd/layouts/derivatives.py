"""What makes a folder of maps a BIDS derivatives dataset, and where its sources lie.

Several processes may describe one dataset at once, as jobs of a cluster do, one for each patient.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from qspace_nd._version import __version__
from qspace_nd.errors import OutputError
from qspace_nd.layouts.facts import read_facts
from qspace_nd.layouts.names import DESCRIPTION, dataset_root
from qspace_nd.system.locking import alone, lock_of
from qspace_nd.system.writing import replacing

BIDS_VERSION = "1.10.0"
MODEL = "qspace-nd-model"
"""Where the BIDS App keeps its model, within the dataset."""

_NAME = "qspace-nd"
# Maps of diffusion models are a draft of the standard (BEP016), whose clusters are no segmentation
# of tissue with names; a model is none of its files, nor a table of all scans.
_IGNORED = ("*_dwimap.*", "*_desc-clusters_dseg.*", "novelty.tsv", MODEL)
_URI = re.compile(r"bids:(?P<name>[A-Za-z0-9-]*):(?P<path>.+)")


def require_own(dataset: Path) -> None:
    """Check that a folder for maps is no dataset of scans.

    Raises
    ------
    OutputError
        It is a raw BIDS dataset.
    """
    description = _read(dataset / DESCRIPTION)
    if description is not None and description.get("DatasetType", "raw") != "derivative":
        raise OutputError(
            f"{dataset} is a raw BIDS dataset, where maps do not belong; name a folder of their "
            f"own, {dataset / 'derivatives' / _NAME} for instance."
        )


def describe(dataset: Path, sources: Iterable[Path] = ()) -> None:
    """Describe a folder as a BIDS derivatives dataset, linked to the datasets `sources`.

    A description by another program stays as it is.

    Raises
    ------
    WorkError
        A file could not be written.
    """
    path, ignored = dataset / DESCRIPTION, dataset / ".bidsignore"
    with alone(lock_of(path), dataset):
        there = _read(path)
        if there is not None and not _is_ours(there):
            return
        facts = there or {
            "Name": "qspace-nd novelty maps",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": _NAME, "Version": __version__}],
        }
        links = _links_of(facts)
        for root in dict.fromkeys(sources):
            place = _relative(root, dataset)
            if place not in links.values() and place != ".":
                links[_free_name(root, links)] = place
        if links:
            facts["DatasetLinks"] = links
            facts["SourceDatasets"] = [{"URL": place} for place in links.values()]
        if facts != _read(path):
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        if not ignored.exists():
            with replacing(ignored) as temporary:
                temporary.write_text("\n".join(_IGNORED) + "\n")


def uri_of(source: Path, image: Path) -> str:
    """Name a file in the sidecar of an image made of it.

    By its BIDS URI where the image's dataset links to the file's, else by its path from there.
    """
    dataset, root = dataset_root(image), dataset_root(source)
    if dataset is not None and root is not None:
        place = _relative(root, dataset)
        names = {link: name for name, link in _links(dataset).items()} | {".": ""}
        if place in names:
            return f"bids:{names[place]}:{_relative(source, root)}"
    return _relative(source, image.parent)


def locate(source: str, image: Path) -> Path | None:
    """Give the path of what `uri_of` named, None where its dataset is not linked."""
    uri = _URI.fullmatch(source)
    if uri is None:
        return image.parent / source
    dataset = dataset_root(image)
    if dataset is None:
        return None
    links = _links(dataset) | {"": "."}
    return dataset / links[uri["name"]] / uri["path"] if uri["name"] in links else None


def _links(dataset: Path) -> dict[str, str]:
    return _links_of(_read(dataset / DESCRIPTION) or {})


def _links_of(description: dict[str, Any]) -> dict[str, str]:
    """Give the links that are some: a name and a place, both text."""
    links = description.get("DatasetLinks")
    items = links.items() if isinstance(links, dict) else ()
    return {name: place for name, place in items if isinstance(place, str) and "\0" not in place}


def _is_ours(description: dict[str, Any]) -> bool:
    with suppress(KeyError, TypeError, IndexError):
        return bool(description["GeneratedBy"][0]["Name"] == _NAME)
    return False


def _free_name(root: Path, links: dict[str, str]) -> str:
    plain = re.sub(r"[^A-Za-z0-9]", "", root.name) or "source"
    names = [plain, *(f"{plain}{number}" for number in range(2, len(links) + 2))]
    return next(name for name in names if name not in links)


def _relative(path: Path, start: Path) -> str:
    return Path(os.path.relpath(path, start)).as_posix()


def _read(path: Path) -> dict[str, Any] | None:
    """A description; empty, and so not ours, where it cannot be read, None where there is none."""
    if not path.is_file():
        return None
    try:
        return read_facts(path)
    except ValueError:
        return {}

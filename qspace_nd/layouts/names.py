"""What files are called: BIDS names and their entities, parsed here and nowhere else."""

from __future__ import annotations

import os
import re
from itertools import chain
from pathlib import Path

IMAGE_SUFFIXES = (".nii.gz", ".nii")
IDENTITY = ("sub", "ses", "acq", "dir", "run")
"""BIDS entities that tell one scan from another."""
DESCRIPTION = "dataset_description.json"
"""What lies in the root of a BIDS dataset."""

SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
"""What a subject's folder, and the start of a subject's files, is called."""
_ENTITY = re.compile(r"([A-Za-z]+)-([A-Za-z0-9+]+)")


def stem(path: Path) -> str:
    """Give a file's name without `.nii.gz` or `.nii`."""
    for suffix in IMAGE_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def ending(path: Path) -> str:
    """Give what `stem` leaves away: `.nii.gz` or `.nii`, as it is written."""
    return path.name[len(stem(path)) :]


def parse_entities(path: Path) -> dict[str, str]:
    """Give the BIDS entities in a file's name, in its order; none where it is no BIDS name."""
    return pairs(stem(path)) if SUBJECT.match(path.name) else {}


def dataset_root(image: Path) -> Path | None:
    """Give the BIDS dataset that holds an image: where its description lies, or its subjects."""
    parents = list(absolute(image).parents)
    described = (folder for folder in parents if (folder / DESCRIPTION).is_file())
    above_subject = (folder.parent for folder in parents if SUBJECT.fullmatch(folder.name))
    return next(chain(described, above_subject), None)


def pairs(name: str) -> dict[str, str]:
    """Give the key-value pairs between the underscores of a name, whosever it is."""
    parts = (_ENTITY.fullmatch(part) for part in name.split("_"))
    return {part[1]: part[2] for part in parts if part}


def absolute(path: Path) -> Path:
    """Give the absolute path, no link resolved: files may be links to one stored content."""
    return Path(os.path.normpath(path.absolute()))

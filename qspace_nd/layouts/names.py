"""What files are called: BIDS names and their entities, parsed here and nowhere else.

A name is parsed whole or not at all: what is left of half a name would be shared by several people.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from qspace_nd.errors import ScanError, counted

_log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".nii.gz", ".nii")
DESCRIPTION = "dataset_description.json"
"""What lies in the root of a BIDS dataset."""
PARTICIPANTS = "participants.tsv"
"""The table of a dataset's participants."""
NOT_SOURCES = ("derivatives", "sourcedata")
"""Folders of a dataset in which other files than its scans lie."""
DESCRIBING = frozenset(
    ("desc", "label", "space", "res", "den", "hemi", "atlas", "seg", "model", "param")
)
"""Entities that say what was made of a scan; all others tell one scan from another."""

_SUBJECT = re.compile(r"sub-[A-Za-z0-9+]+")
_ENTITY = re.compile(r"([A-Za-z]+)-([A-Za-z0-9+]+)")
_SUFFIX = re.compile(r"[A-Za-z][A-Za-z0-9]*")  # no number alone: `sub-HC_01` is no subject `HC`
_SESSION = re.compile(r"ses-[A-Za-z0-9+]+")
_POINTERS = (b"/annex/objects/", b"version https://git-lfs.github.com/")
_LONGEST_POINTER = 32 << 10  # bytes, as git-annex has it
_DATATYPES = ("dwi", "anat", "fmap", "func", "perf")
_MASK = re.compile(r"(^|.*[_.-])mask", re.IGNORECASE)
_NOT_A_SCAN = re.compile(
    # Maps and references that QSIPrep, FSL, MRtrix and this program write, anatomical images, and
    # what macOS leaves on other file systems.
    r"(.*[_.])?(dwiref|sbref|epiref|boldref|b0ref|b0|cnr|tsnr|snr|dwimap|dseg|probseg|lesions?|labels?"
    r"|roi|phase|ph|imaginary|fa|md|adc|trace|tensor|sse|noise|residuals?|t[12]w?|flair|pdw)"
    r"|.*dti_(ad|rd|mo|s0|[lv][123])|novelty(_[a-z]+(-[a-z]+)+)?|nodif.*|.*\.eddy_.+|\._.*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class BidsName:
    """A name that is made of key-value pairs, each key once, and perhaps a suffix.

    Attributes
    ----------
    entities : dict of str to str
        In the order of the name.
    suffix : str
        The last word, `dwi` for instance; empty where there is none.
    """

    entities: dict[str, str]
    suffix: str


def stem(path: Path) -> str:
    """Give a file's name without `.nii.gz` or `.nii`."""
    for suffix in IMAGE_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def ending(path: Path) -> str:
    """Give what `stem` leaves away: `.nii.gz` or `.nii`, as it is written."""
    return path.name[len(stem(path)) :]


def is_image(path: Path) -> bool:
    """Whether a file is a NIfTI image by its name, and not hidden."""
    return path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.startswith(".")


def is_mask(image: Path) -> bool:
    """Whether an image is a mask by its name."""
    return _MASK.fullmatch(stem(image)) is not None


def is_scan(image: Path) -> bool:
    """Whether an image may be a scan: by its name it is no mask, map or label."""
    return not is_mask(image) and _NOT_A_SCAN.fullmatch(stem(image)) is None


def parse_name(name: str) -> BidsName | None:
    """Parse a name without its ending as BIDS has it; None unless all of it can be parsed.

    The name need not be of a subject: `acq-a_dwi` is one too, of a file that serves several.
    """
    *parts, last = name.split("_")
    if _ENTITY.fullmatch(last):
        parts, last = [*parts, last], ""
    elif not _SUFFIX.fullmatch(last):
        return None
    found = [_ENTITY.fullmatch(part) for part in parts]
    entities = {part[1]: part[2] for part in found if part}
    return BidsName(entities, last) if len(entities) == len(parts) else None


def parse_entities(path: Path) -> dict[str, str]:
    """Give the BIDS entities in a file's name, in its order; none where it is no subject's."""
    parsed = parse_name(stem(path))
    if parsed is None or next(iter(parsed.entities), None) != "sub":
        return {}
    return parsed.entities


def identity(entities: dict[str, str]) -> dict[str, str]:
    """Give the entities that say which scan it is, not what was made of it."""
    return {key: value for key, value in entities.items() if key not in DESCRIBING}


def says(image: Path, key: str) -> str | None:
    """Give the value of a key that stands in a name, be the name BIDS or not.

    Such a word may show that a file is not wanted; whose it is says the whole name alone.
    """
    found = re.search(rf"(?:^|_){key}-([^_]+)", stem(image))
    return found[1] if found else None


def subject_folder(image: Path) -> Path | None:
    """Give the folder of the subject that an image lies in: sub-X/[ses-Y/][dwi/]."""
    folders = absolute(image).parents
    between = 0
    for name in (_DATATYPES.__contains__, _SESSION.fullmatch):
        between += bool(name(folders[between].name)) if between < len(folders) else 0
    found = folders[between] if between < len(folders) else None
    return found if found is not None and is_subject(found.name) else None


def is_subject(name: str) -> bool:
    """Whether a folder is called as a subject's."""
    return _SUBJECT.fullmatch(name) is not None


def in_datatype_folder(image: Path) -> bool:
    """Whether an image lies in a folder such as `dwi`, where BIDS puts scans."""
    return absolute(image).parent.name in _DATATYPES


def dataset_root(image: Path) -> Path | None:
    """Give the BIDS dataset that holds an image: where its description lies, or its subjects."""
    described = (folder for folder in absolute(image).parents if (folder / DESCRIPTION).is_file())
    folder = subject_folder(image)
    above_subject = [] if folder is None else [folder.parent]
    return next(chain(described, above_subject), None)


def absolute(path: Path) -> Path:
    """Give the absolute path, no link resolved: files may be links to one stored content."""
    return Path(os.path.normpath(path.absolute()))


def is_absent(path: Path) -> bool:
    """Whether a path is a link to what is not here, as of an annex, or to itself."""
    return path.is_symlink() and not path.exists()


def is_file_or_absent(path: Path) -> bool:
    """Whether a path is a file, or a link to what is not here: no folder, pipe or device."""
    return path.is_file() or is_absent(path)


def require_here(paths: Iterable[Path]) -> None:
    """Check that no path is a link, or a pointer of git-annex or Git LFS, to what is not here.

    Raises
    ------
    ScanError
        Some are.
    """
    absent = [path for path in paths if is_absent(path) or _is_pointer(path)]
    if absent:
        what = "link" if is_absent(absent[0]) else "pointer"
        others = f", and {counted(len(absent) - 1, 'other')} with it" if len(absent) > 1 else ""
        raise ScanError(
            f"{absent[0]} is a {what} to content that is not here{others}; expected the file "
            f"itself: fetch it, with `datalad get` or `git lfs pull` for instance."
        )


def _is_pointer(path: Path) -> bool:
    """Whether a file is the line of text that stands for one which was not fetched."""
    with suppress(OSError):
        if path.is_file() and path.stat().st_size < _LONGEST_POINTER:
            with path.open("rb") as stream:
                return stream.read(max(map(len, _POINTERS))).startswith(_POINTERS)
    return False


def files_below(folder: Path, without: Collection[str] = NOT_SOURCES) -> Iterator[Path]:
    """Give the files in a folder and below, but hidden ones and those in folders of `without`.

    Links to folders are followed, but not to a folder that they lie in. What cannot be read is
    passed over with a warning.
    """
    yield from _files_below(folder, without, frozenset())


def _files_below(folder: Path, without: Collection[str], above: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        found = [(path, path.is_dir()) for path in sorted(folder.iterdir())]
    except OSError as error:
        _log.warning(f"{folder} cannot be read ({error.strerror or error}), and is passed over.")
        return
    for path, is_folder in found:
        if path.name.startswith(".") or (is_folder and path.name in without):
            continue
        if is_folder:
            yield from _files_below(path, without, above | {real})
        elif is_file_or_absent(path):
            yield path

"""Which labels, masks and regions belong to which patient's maps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from qspace_nd.errors import LabelError, ScanError, counted
from qspace_nd.layouts.maps import MapRecord, read_record
from qspace_nd.layouts.names import (
    IMAGE_SUFFIXES,
    files_below,
    identity,
    is_image,
    parse_entities,
    require_here,
    stem,
)

# What `map` writes beside novelty maps: masks, residuals of the fit, deviations from the healthy.
_OTHER_NAME = re.compile(
    r"(^|.*[_-])(mask|residual(_dwimap)?|deviation-\w+|neglogp|clusters"
    r"|\w+(Deviation|Neglogp)_dwimap)$",
    re.IGNORECASE,
)
# What labels are called, the surest first: BIDS names tissue classes with `label` too.
_LABEL_NAMES = (re.compile("lesion", re.IGNORECASE), re.compile("label|roi", re.IGNORECASE))


def find_maps(paths: Iterable[Path]) -> list[MapRecord]:
    """Find novelty maps among files and folders, in order; others beside them are passed over.

    Raises
    ------
    ScanError
        A path does not exist, or no map is left.
    """
    paths = list(paths)
    images = [image for path in paths for image in _images(path, "*dwimap", "*novelty*")]
    maps = [image for image in dict.fromkeys(images) if not _OTHER_NAME.match(stem(image))]
    if not maps:
        raise ScanError(
            f"There is no novelty map in {', '.join(map(str, paths))}; write one with qspace-nd "
            f"map first."
        )
    return [read_record(path) for path in maps]


def group_by_patient(records: Sequence[MapRecord], order: Iterable[str]) -> list[list[MapRecord]]:
    """Put the maps of one scan together, scores in the given order, others behind them.

    Scans keep the order in which they come first.
    """
    groups: dict[str, list[MapRecord]] = {}
    for record in records:
        groups.setdefault(record.source, []).append(record)
    ranks = {name: rank for rank, name in enumerate(order)}

    def rank(record: MapRecord) -> int:
        return ranks.get(record.score, len(ranks))

    return [sorted(group, key=rank) for group in groups.values()]


def pair(patients: Sequence[Sequence[MapRecord]], paths: Sequence[Path], option: str) -> list[Path]:
    """Choose for each patient the image, among the files and folders of an option, that is theirs.

    BIDS names are matched by their entities, images of a folder by the patient's name, and files
    named one by one by their order.

    Raises
    ------
    LabelError
        A patient has none or several, or the numbers differ.
    """
    files = [file for path in paths for file in _images(path, "*")]
    from_folder = any(path.is_dir() for path in paths)
    if from_folder and option == "--labels":
        files = lesions_among(files)
    both_bids = all("sub" in parse_entities(file) for file in files) and all(
        "sub" in parse_entities(maps[0].path) for maps in patients
    )
    if both_bids:
        return [_only([f for f in files if _same_scan(f, m[0])], m[0], option) for m in patients]
    names = [_patient_name(maps[0]) for maps in patients]
    owners = [_owner(file, names) for file in files]
    # Files that are named one by one are in order, but not against what their names say.
    all_named = len({*names}) == len(names) and sorted(filter(None, owners)) == sorted(names)
    if len(patients) > 1 and (from_folder or all_named):
        theirs = [
            [file for file, owner in zip(files, owners, strict=True) if owner == name]
            for name in names
        ]
        return [_only(own, maps[0], option) for own, maps in zip(theirs, patients, strict=True)]
    if len(files) != len(patients):
        raise LabelError(
            f"There are maps of {counted(len(patients), 'patient')} but "
            f"{counted(len(files), 'file')} for {option}; give {option} once for each patient, in "
            f"the order of the maps, or name a folder."
        )
    for file, owner, name in zip(files, owners, names, strict=True):
        if owner not in (name, None):
            raise LabelError(
                f"{file} would be of {name} by its place, but is of {owner} by its name; give "
                f"{option} in the order of the maps."
            )
    return files


def lesions_among(files: Sequence[Path]) -> list[Path]:
    """Leave brain and tissue masks out, which lie in the same folder, where names tell."""
    by_name = ([file for file in files if name.search(file.name)] for name in _LABEL_NAMES)
    return next((labels for labels in by_name if labels), list(files))


def _images(path: Path, *patterns: str) -> list[Path]:
    if path.is_dir():
        images = filter(is_image, files_below(path, without=()))
        return sorted(i for i in images if any(fnmatchcase(stem(i), p) for p in patterns))
    require_here([path])
    if not path.is_file():
        raise ScanError(f"{path} does not exist; name a NIfTI file or a folder of them.")
    if not path.name.lower().endswith(IMAGE_SUFFIXES):
        raise ScanError(f"{path} is not a NIfTI file by its name; name a .nii or .nii.gz file.")
    return [path]


def _same_scan(file: Path, record: MapRecord) -> bool:
    """Whether a label is of a map's scan; one without a session or run serves all of them."""
    return identity(parse_entities(file)).items() <= parse_entities(record.path).items()


def _patient_name(record: MapRecord) -> str:
    return re.sub(r"_?(novelty|dwi)$", "", record.patient)


def _owner(file: Path, names: Iterable[str]) -> str | None:
    """Give the longest of the patients' names that stands in a file's name as whole words.

    None where there is none, or several as long.
    """
    word = r"[^\W_]"
    found = [
        name
        for name in dict.fromkeys(names)
        if name and re.search(rf"(?<!{word}){re.escape(name)}(?!{word})", file.name) is not None
    ]
    longest = max(map(len, found), default=0)
    found = [name for name in found if len(name) == longest]
    return found[0] if len(found) == 1 else None


def _only(files: Sequence[Path], record: MapRecord, option: str) -> Path:
    if len(files) != 1:
        found = "none" if not files else ", ".join(file.name for file in files)
        raise LabelError(
            f"For the map {record.path} one image of {option} is wanted, found: {found}; name one "
            f"with {option} for each patient, in the order of the maps, or choose patients by "
            f"--bids with --where."
        )
    return files[0]

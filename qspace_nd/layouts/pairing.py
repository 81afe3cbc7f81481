"""Which labels, masks and regions belong to which patient's maps."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from qspace_nd.errors import LabelError, ScanError, counted, listed
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
    r"(^|.*[_-])(mask|residual(_dwimap)?|deviation-\w+|neglogp|clusters|regions"
    r"|\w+(Deviation|Neglogp)_dwimap)$",
    re.IGNORECASE,
)
_WORD = r"[^\W_]"  # a letter of a word
# What labels are called, the surest first: BIDS names tissue classes with `label` too.
_LABEL_NAMES = (re.compile("lesion", re.IGNORECASE), re.compile("label|roi", re.IGNORECASE))


def find_maps(paths: Iterable[Path], directed: Container[str] = ()) -> list[MapRecord]:
    """Find novelty maps among files and folders, in order; others beside them are passed over.

    Parameters
    ----------
    paths : iterable of Path
    directed : container of str
        The scores that look for a change, which goes with their names (see `read_record`).

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
    return [read_record(path, directed) for path in maps]


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
    theirs = _by_name(patients, files, from_folder=from_folder)
    if theirs is not None:
        return [_only(own, maps[0], option) for own, maps in zip(theirs, patients, strict=True)]
    return _in_order(patients, files, option)


def pair_regions(
    patients: Sequence[Sequence[MapRecord]], paths: Sequence[Path], taken: str
) -> list[dict[str, Path]]:
    """Choose for each patient the images, among files and folders, of the regions that are theirs.

    They are matched as `pair` does, but a patient may have several; each region is called by what
    the names of its files say beside the patient.

    Parameters
    ----------
    patients : sequence of sequence of MapRecord
    paths : sequence of Path
    taken : str
        What no region may be called.

    Raises
    ------
    LabelError
        A patient has none, two have other regions, or two regions have one name.
    """
    option = "--within"
    files = [file for path in paths for file in _images(path, "*")]
    from_folder = any(path.is_dir() for path in paths)
    theirs = _by_name(patients, files, from_folder=from_folder)
    if theirs is None and len(patients) == 1:
        own = [file for file in files if _owner(file, [_patient_name(patients[0][0])])]
        theirs = [own or files if from_folder else files]  # a folder may hold other patients' too
    if theirs is None:
        files = _in_order(patients, files, option)
        shared = _shared_words(files)
        return [{shared if shared not in ("", taken) else "region": file} for file in files]
    found = [_named(own, maps[0], taken) for own, maps in zip(theirs, patients, strict=True)]
    for regions, maps in zip(found, patients, strict=True):
        if regions.keys() != found[0].keys():
            here, other = _patient_name(patients[0][0]), _patient_name(maps[0])
            raise LabelError(
                f"The regions of {here} are {listed([*found[0]])}, but those of {other} are "
                f"{listed([*regions])}; give the same regions by {option} for each patient."
            )
    return [{name: regions[name] for name in found[0]} for regions in found]


def _named(files: Sequence[Path], record: MapRecord, taken: str) -> dict[str, Path]:
    """The regions of a patient by their names."""
    if not files:
        _only(files, record, "--within")  # says that there is none
    named: dict[str, Path] = {}
    for file in dict.fromkeys(files):
        name = _region_name(file, record)
        if name == taken or name in named:
            other = named.get(name, "the whole mask")
            raise LabelError(
                f"The region {file} would be called {name}, as {other} is; give each region of "
                f"--within a name of its own."
            )
        named[name] = file
    return named


def _region_name(file: Path, record: MapRecord) -> str:
    """What a file's name says beside whose it is."""
    entities = identity(parse_entities(file))
    whose = {f"{key}-{value}" for key, value in entities.items()}
    if whose:
        return "_".join(word for word in stem(file).split("_") if word not in whose)
    name = re.escape(_patient_name(record))
    return re.sub(rf"(?<!{_WORD}){name}(?!{_WORD})", "", stem(file)).strip("_-. ") or stem(file)


def _shared_words(files: Sequence[Path]) -> str:
    """The words that all files have in their names."""
    first, *others = (stem(file).split("_") for file in files)
    return "_".join(word for word in first if all(word in words for words in others))


def _by_name(
    patients: Sequence[Sequence[MapRecord]], files: Sequence[Path], *, from_folder: bool
) -> list[list[Path]] | None:
    """The files of each patient by what they are called; None where their order tells."""
    both_bids = all("sub" in parse_entities(file) for file in files) and all(
        "sub" in parse_entities(maps[0].path) for maps in patients
    )
    if both_bids:
        return [[file for file in files if _same_scan(file, maps[0])] for maps in patients]
    names = [_patient_name(maps[0]) for maps in patients]
    owners = [_owner(file, names) for file in files]
    # Files that are named one by one are in order, but not against what their names say.
    all_named = len({*names}) == len(names) and {*filter(None, owners)} == {*names}
    if len(patients) == 1 or not (from_folder or all_named):
        return None
    return [[f for f, owner in zip(files, owners, strict=True) if owner == n] for n in names]


def _in_order(
    patients: Sequence[Sequence[MapRecord]], files: list[Path], option: str
) -> list[Path]:
    """The files as they are, where they are as many as the patients and no name says otherwise."""
    names = [_patient_name(maps[0]) for maps in patients]
    if len(files) != len(patients):
        raise LabelError(
            f"There are maps of {counted(len(patients), 'patient')} but "
            f"{counted(len(files), 'file')} for {option}; give {option} once for each patient, in "
            f"the order of the maps, or name a folder."
        )
    for file, name in zip(files, names, strict=True):
        owner = _owner(file, names)
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
    found = [
        name
        for name in dict.fromkeys(names)
        if name and re.search(rf"(?<!{_WORD}){re.escape(name)}(?!{_WORD})", file.name) is not None
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

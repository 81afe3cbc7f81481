"""What belongs to a scan, by its name: gradients and brain mask; whose scan it is.

A file belongs to a scan where its name holds all that the scan's name tells; what is called the
same in every folder (`bvals`, `nodif_brain_mask`) belongs to a scan that is alone in its folder, or
whose own name tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from qspace_nd.layouts.names import (
    DESCRIPTION,
    IMAGE_SUFFIXES,
    PARTICIPANTS,
    absolute,
    dataset_root,
    in_datatype_folder,
    is_file_or_absent,
    is_image,
    is_scan,
    parse_entities,
    parse_name,
    stem,
    subject_folder,
)

_UNTELLING = (  # words that files of every subject have in their names
    r"data|dwi|dti|dmri|dwmri|diffusion|t1w|scan|image|img|raw|(multi)?contrasts?|merged|final"
    r"|denoised|unringed|degibbs|topup|(eddy)?(corrected|preproc(essed)?|unwarped|output)|eddy"
)
_TELLS_NOTHING = re.compile(rf"({_UNTELLING})([_.\- ]({_UNTELLING}))*", re.IGNORECASE)
_VISIT = re.compile(  # folders that say when a scan was made, not of whom
    r"ses-[A-Za-z0-9+]+|(ses|sess|session|visit|timepoint|tp|run|day|week|month|year|scan)[-_ ]?\d+"
    r"|baseline|follow-?up[-_ ]?\d*|(pre|post)(op)?",
    re.IGNORECASE,
)
_LOOSE = re.compile(r"(.*[^a-z])?(bvals?|bvecs?)(\.[a-z]+)?|nodif_brain_mask\..*", re.IGNORECASE)


@dataclass(frozen=True)
class ScanFiles:
    """A scan's image and the files that belong to it.

    Attributes
    ----------
    image : Path
    bval, bvec, mask : Path or None
    subject : str
        Whose scan it is: the BIDS label with its `sub-`, or else what tells the file from others.
    name : str
        What to call the scan in messages and outputs.
    entities : dict of str to str
        The BIDS entities of the name, in its order; empty where it is no BIDS name.
    sidecars : tuple of Path
        JSON files that say how the scan was made, the nearest first.
    """

    image: Path
    bval: Path | None
    bvec: Path | None
    mask: Path | None
    subject: str
    name: str
    entities: dict[str, str] = field(default_factory=dict, hash=False)
    sidecars: tuple[Path, ...] = ()


class Folder:
    """What lies in a folder, listed once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        with suppress(OSError):  # what cannot be listed holds nothing that could be read
            self.names = sorted(entry.name for entry in path.iterdir())
        self._by_lower: dict[str, list[str]] = {}
        for name in self.names:
            self._by_lower.setdefault(name.lower(), []).append(name)

    def find(self, start: str, *ends: str) -> Iterator[Path]:
        """Give the files called `start` and one of `ends`, however these are capitalised."""
        for end in ends:
            names = self._by_lower.get((start + end).lower(), [])
            for name in sorted(names, key=lambda name: name != start + end):
                if name.startswith(start):
                    yield self.path / name

    @cached_property
    def scans(self) -> list[str]:
        """The names, without their ending, of the images that may be scans."""
        images = (Path(name) for name in self.names)
        return [stem(image) for image in images if is_image(image) and is_scan(image)]

    @cached_property
    def masks(self) -> dict[frozenset[tuple[str, str]], list[tuple[str | None, Path]]]:
        """The BIDS masks, by all entities but `desc`: the `desc` of each, and its path."""
        masks: dict[frozenset[tuple[str, str]], list[tuple[str | None, Path]]] = {}
        for path in map(Path, self.names):
            parsed = parse_name(stem(path)) if is_image(path) else None
            if parsed is not None and parsed.suffix.lower() == "mask":
                found = (parsed.entities.get("desc"), self.path / path)
                masks.setdefault(_without_desc(parsed.entities), []).append(found)
        return masks


class Folders(dict[Path, Folder]):
    """Folders by their paths, each listed when it is first asked for."""

    def __missing__(self, path: Path) -> Folder:
        return self.setdefault(path, Folder(path))


def describe_scan(image: Path, folders: Folders | None = None) -> ScanFiles:
    """Find what belongs to a scan, and whose it is, by the names of files around it."""
    folders = Folders() if folders is None else folders
    entities = _scan_entities(image)
    subject, name = _whose(image, entities)
    return ScanFiles(
        image=image,
        bval=_first(_gradients(image, entities, "bval", folders)),
        bvec=_first(_gradients(image, entities, "bvec", folders)),
        mask=_first(_masks(image, entities, folders)),
        subject=subject,
        name=name,
        entities=entities,
        sidecars=tuple(_sidecars(image, entities, folders)),
    )


def _sidecars(image: Path, entities: dict[str, str], folders: Folders) -> Iterable[Path]:
    found = [*folders[image.parent].find(stem(image), ".json")]
    found += _inherited(image, entities, ".json", folders) if entities else []
    by_place = {absolute(path): path for path in reversed(found) if path.is_file()}
    return reversed(by_place.values())


def _first(candidates: Iterable[Path]) -> Path | None:
    return next(filter(is_file_or_absent, candidates), None)


def rotated_bvecs(image: Path) -> Path:
    """Give the path of the b-vectors that FSL's eddy writes with an image."""
    return image.with_name(f"{stem(image)}.eddy_rotated_bvecs")


def loose_files(folder: Folder) -> list[Path]:
    """Give a folder's files that are gradients or a brain mask, by names that say not whose."""
    return [folder.path / name for name in folder.names if _LOOSE.fullmatch(name)]


def _tells_nothing(name: str) -> bool:
    return _TELLS_NOTHING.fullmatch(name) is not None


# --- Whose scan it is


def _scan_entities(image: Path) -> dict[str, str]:
    """Give the entities of a scan's name; none where its last word tells something beside them."""
    parsed = parse_name(stem(image))
    if parsed is None or (parsed.suffix and not _tells_nothing(parsed.suffix)):
        return {}
    return parse_entities(image)


def _whose(image: Path, entities: dict[str, str]) -> tuple[str, str]:
    """Give the subject of a scan, and what to call the scan."""
    name = re.sub(r"(?<=.)_dwi$", "", stem(image), flags=re.IGNORECASE)
    if entities:
        return f"sub-{entities['sub']}", name
    labelled = _labelled(image, name)
    if labelled is not None:
        return labelled, name
    folder = subject_folder(image)
    if _tells_nothing(name):
        person, name = _folder_name(image, name)
        return person, name
    if folder is not None and (in_datatype_folder(image) or _is_dataset(folder.parent)):
        return folder.name, name
    return name, name


def _labelled(image: Path, name: str) -> str | None:
    """Give `sub-HC-01` of `sub-HC-01_ses-1`, and `sub-HC_01` of the same in a folder `sub-HC_01`.

    A label that BIDS has not is known as one where the rest of the name is BIDS, to its end.
    """
    folders = [folder.name for folder in absolute(image).parents[:3]]  # sub-X/ses-Y/dwi
    for label in (*folders, name.partition("_")[0]):
        if label.startswith("sub-") and name.startswith(f"{label}_"):
            rest = parse_name(name.removeprefix(f"{label}_"))
            if rest is not None and (not rest.suffix or _tells_nothing(rest.suffix)):
                return label
    return None


def _folder_name(image: Path, name: str) -> tuple[str, str]:
    """Give the nearest folder that says whose the files are, and the same with the visit."""
    visits: list[str] = []
    for folder in (folder.name for folder in absolute(image).parents if folder.name):
        if _VISIT.fullmatch(folder):
            visits.insert(0, folder)
        elif not _tells_nothing(folder):
            return folder, "_".join([folder, *visits])
    return name, name


def _is_dataset(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (DESCRIPTION, PARTICIPANTS))


# --- Gradients


def _gradients(
    image: Path, entities: dict[str, str], kind: str, folders: Folders
) -> Iterator[Path]:
    """Give the files of b-values or b-vectors, `kind`, that may be of a scan: the surest first."""
    folder = folders[image.parent]
    if kind == "bvec":
        yield from folder.find(stem(image), ".eddy_rotated_bvecs")
    yield from folder.find(stem(image), f".{kind}", f".{kind}s")
    if _takes_loose(image, folder):
        yield from folder.find("", f"{kind}s", kind)
    if entities:
        yield from _inherited(image, entities, f".{kind}", folders)


def _takes_loose(image: Path, folder: Folder) -> bool:
    """Whether files that are called the same in every folder are of this scan."""
    return _tells_nothing(stem(image)) or folder.scans == [stem(image)]


def _inherited(image: Path, entities: dict[str, str], end: str, folders: Folders) -> Iterator[Path]:
    """Give files further up that apply by BIDS inheritance: nearest first, then most entities."""
    root, own = dataset_root(image), parse_name(stem(image))
    if root is None or own is None:
        return
    for place in absolute(image).parents:
        found = []
        for name in folders[place].names:
            if not name.lower().endswith(end):
                continue
            parsed = parse_name(name[: -len(end)])
            if parsed is None or parsed.suffix != own.suffix:
                continue
            if parsed.entities.items() <= entities.items():
                found.append((-len(parsed.entities), name))
        yield from (place / name for _, name in sorted(found))
        if place == root:
            return


# --- Masks


def _masks(image: Path, entities: dict[str, str], folders: Folders) -> Iterator[Path]:
    """Give the brain masks that may be of a scan: the surest first."""
    folder, whole = folders[image.parent], stem(image)
    if entities:
        yield from _bids_masks(folder, entities)
    for start in _mask_names(whole, folder):
        for end in ("_desc-brain_mask", "_brain_mask", "_mask"):
            yield from folder.find(start, *(end + suffix for suffix in IMAGE_SUFFIXES))
    start, _, word = whole.rpartition("_")  # X_desc-brain_mask beside X_contrasts
    if start and word.isalpha() and not _shared(start, whole, folder):
        yield from folder.find(start, *(f"_desc-brain_mask{suffix}" for suffix in IMAGE_SUFFIXES))
    if _takes_loose(image, folder):
        for name in ("nodif_brain_mask", "brain_mask"):
            yield from folder.find("", *(name + suffix for suffix in IMAGE_SUFFIXES))
    if entities:
        yield from _derivative_masks(image, entities, folders)


def _mask_names(whole: str, folder: Folder) -> list[str]:
    short = re.sub(r"_dwi$", "", whole, flags=re.IGNORECASE)
    return [whole] if short == whole or short in folder.scans else [whole, short]


def _shared(start: str, whole: str, folder: Folder) -> bool:
    """Whether other scans of the folder are called by the same word in front."""
    return any(
        scan == start or scan.startswith(f"{start}_") for scan in folder.scans if scan != whole
    )


def _without_desc(entities: dict[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(item for item in entities.items() if item[0] != "desc")


def _bids_masks(folder: Folder, entities: dict[str, str]) -> list[Path]:
    """Give a folder's masks of the same entities: `desc-brain` first, then the scan's own desc."""
    ranks = {"brain": 0, entities.get("desc"): 1, None: 2}
    found = folder.masks.get(_without_desc(entities), [])
    return [path for desc, path in sorted(found, key=lambda m: ranks.get(m[0], 3)) if desc in ranks]


def _derivative_masks(image: Path, entities: dict[str, str], folders: Folders) -> Iterator[Path]:
    root = dataset_root(image)
    if root is None or not absolute(image).is_relative_to(root):
        return
    below = absolute(image.parent).relative_to(root)
    for pipeline in folders[root / "derivatives"].names:
        if not pipeline.startswith("."):
            place = folders[root / "derivatives" / pipeline / below]
            yield from _bids_masks(place, entities)

"""What belongs to a scan, by its name: gradients and brain mask; whose scan it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from qspace_nd.layouts.names import (
    IMAGE_SUFFIXES,
    SUBJECT,
    absolute,
    dataset_root,
    pairs,
    parse_entities,
    stem,
)

_MASK = re.compile(r"(^|.*[_.-])mask", re.IGNORECASE)
_UNTELLING = re.compile(  # names that files of every subject have
    r"data|dwi|dti|dmri|diffusion|t1w|preproc(essed)?|eddy(_?(corrected|preproc|unwarped|output))*",
    re.IGNORECASE,
)


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
    """

    image: Path
    bval: Path | None
    bvec: Path | None
    mask: Path | None
    subject: str
    name: str
    entities: dict[str, str] = field(default_factory=dict, hash=False)


def describe_scan(image: Path) -> ScanFiles:
    """Find what belongs to a scan, and whose it is, by the names of files around it."""
    name = _name(image)
    return ScanFiles(
        image=image,
        bval=_first(_bval_candidates(image)),
        bvec=_first(_bvec_candidates(image)),
        mask=_first(_mask_candidates(image)),
        subject=_subject(image) or name,
        name=name,
        entities=parse_entities(image),
    )


def _first(candidates: Iterable[Path]) -> Path | None:
    return next((path for path in candidates if path.is_file()), None)


def _name(image: Path) -> str:
    """Give the stem, or the nearest folder that tells more where every subject's is the same."""
    short = re.sub(r"(?<=.)_dwi$", "", stem(image))
    if not _UNTELLING.fullmatch(short):
        return short
    folders = [folder.name for folder in absolute(image).parents if folder.name]
    return next((name for name in folders if not _UNTELLING.fullmatch(name)), short)


def _subject(image: Path) -> str | None:
    named = SUBJECT.match(image.name)
    if named:
        return named[0]
    folders = absolute(image).parents[:3]  # sub-01/ses-1/dwi: one further up is of no BIDS dataset
    return next((folder.name for folder in folders if SUBJECT.fullmatch(folder.name)), None)


def _is_fsl(image: Path) -> bool:
    return re.fullmatch(r"data|eddy.*", stem(image)) is not None


def rotated_bvecs(image: Path) -> Path:
    """Give the path of the b-vectors that FSL's eddy writes with an image."""
    return image.with_name(f"{stem(image)}.eddy_rotated_bvecs")


def _bval_candidates(image: Path) -> Iterator[Path]:
    yield from (image.with_name(stem(image) + end) for end in (".bval", ".bvals"))
    if _is_fsl(image):
        yield image.with_name("bvals")
    yield from _inherited(image, ".bval")


def _bvec_candidates(image: Path) -> Iterator[Path]:
    yield rotated_bvecs(image)
    yield from (image.with_name(stem(image) + end) for end in (".bvec", ".bvecs"))
    if _is_fsl(image):
        yield image.with_name("bvecs")
    yield from _inherited(image, ".bvec")


def _inherited(image: Path, ending: str) -> Iterator[Path]:
    """Give files further up that apply by BIDS inheritance: nearest first, then most entities."""
    entities = parse_entities(image).items()
    root = dataset_root(image)
    if not entities or root is None:
        return
    suffix = stem(image).split("_")[-1]
    for folder in absolute(image).parents:
        candidates = [
            path
            for path in folder.glob(f"*{suffix}{ending}")
            if path.stem.split("_")[-1] == suffix and pairs(path.stem).items() <= entities
        ]
        yield from sorted(candidates, key=lambda path: (-len(pairs(path.stem)), path.name))
        if folder == root:
            return


def _mask_candidates(image: Path) -> Iterator[Path]:
    entities = parse_entities(image)
    if entities:
        yield from _bids_masks(image.parent, entities)
    whole = stem(image)
    for start in dict.fromkeys((whole, re.sub(r"_dwi$", "", whole))):
        for end in ("_desc-brain_mask", "_brain_mask", "_mask"):
            yield from (image.with_name(start + end + suffix) for suffix in IMAGE_SUFFIXES)
    replaced = whole.rpartition("_")[0]  # X_desc-brain_mask beside X_contrasts
    if replaced:
        yield from (image.with_name(f"{replaced}_desc-brain_mask{s}") for s in IMAGE_SUFFIXES)
    if _is_fsl(image):
        yield from (image.with_name(f"nodif_brain_mask{suffix}") for suffix in IMAGE_SUFFIXES)
    if entities:
        yield from _derivative_masks(image, entities)


def _bids_masks(folder: Path, entities: dict[str, str]) -> list[Path]:
    """Give a folder's masks of the same entities: `desc-brain` first, then the scan's own desc."""
    ranks = {"brain": 0, entities.get("desc"): 1, None: 2}

    def without_desc(named: dict[str, str]) -> dict[str, str]:
        return {key: value for key, value in named.items() if key != "desc"}

    masks = []
    for path in folder.glob(f"sub-{entities['sub']}*mask.nii*"):
        found = parse_entities(path)
        same = without_desc(found) == without_desc(entities) and found.get("desc") in ranks
        if same and path.name.endswith(IMAGE_SUFFIXES) and is_mask(path):
            masks.append((ranks[found.get("desc")], path.name, path))
    return [path for _, _, path in sorted(masks)]


def _derivative_masks(image: Path, entities: dict[str, str]) -> Iterator[Path]:
    root = dataset_root(image)
    if root is None or not absolute(image).is_relative_to(root):
        return
    below = absolute(image.parent).relative_to(root)
    for pipeline in sorted(root.glob("derivatives/*/")):
        yield from _bids_masks(pipeline / below, entities)


def is_mask(image: Path) -> bool:
    """Whether an image is a mask by its name."""
    return _MASK.fullmatch(stem(image)) is not None

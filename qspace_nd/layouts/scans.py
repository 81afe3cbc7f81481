"""Find scans and what belongs to them by name: BIDS, FSL's layout and plain files.

Nothing is opened here. Names decide: which file is a scan, which b-values, b-vectors and brain mask
belong to it, and whose scan it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from qspace_nd.errors import GradientError, InputError, ScanError

IMAGE_SUFFIXES = (".nii.gz", ".nii")
IDENTITY = ("sub", "ses", "acq", "dir", "run")
"""BIDS entities that tell one scan from another."""
DESCRIPTION = "dataset_description.json"
"""What lies in the root of a BIDS dataset."""

_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
_ENTITY = re.compile(r"([A-Za-z]+)-([A-Za-z0-9+]+)")
_MASK = re.compile(r"(^|.*[_.-])mask", re.IGNORECASE)
_NOT_A_SCAN = re.compile(
    # Maps and references that QSIPrep, FSL, MRtrix and this program write, and anatomical images.
    r"(.*[_.])?(dwiref|sbref|epiref|boldref|b0ref|b0|cnr|tsnr|snr|dwimap|dseg|probseg|lesions?|labels?"
    r"|roi|fa|md|adc|trace|tensor|sse|noise|residuals?|t[12]w?|flair|pdw)"
    r"|.*dti_(ad|rd|mo|s0|[lv][123])|novelty(_[a-z]+(-[a-z]+)+)?|nodif.*|.*\.eddy_.+",
    re.IGNORECASE,
)
_UNTELLING = re.compile(  # names that files of every subject have
    r"data|dwi|dti|dmri|diffusion|t1w|preproc(essed)?|eddy(_?(corrected|preproc|unwarped|output))*",
    re.IGNORECASE,
)
_NAMED = 8  # files that a note names before it says how many more there are


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


@dataclass(frozen=True)
class Found:
    """The scans that were found, and notes on what else was: one sentence each."""

    scans: tuple[ScanFiles, ...]
    notes: tuple[str, ...]


def find_scans(
    paths: Iterable[str | Path],
    *,
    bval: Path | None = None,
    bvec: Path | None = None,
    mask: Path | None = None,
) -> Found:
    """Find the scans among files and folders, each with its gradients and brain mask.

    Parameters
    ----------
    paths : iterable of str or Path
        Images; folders in FSL's layout (`data.nii.gz` or `eddy*.nii.gz`), BIDS datasets or subject
        folders; folders of images.
    bval, bvec, mask : Path, optional
        Taken in place of what the names say; for one scan only.

    Raises
    ------
    ScanError
        A path does not exist or is no NIfTI file by its name, or no scan is left.
    InputError
        `bval`, `bvec` or `mask` is given for several scans.
    """
    named = [Path(path) for path in paths]
    images, repeated = _distinct(chain.from_iterable(_images(path) for path in named))
    scans = [_describe(image) for image in images if _is_scan(image)]
    if not scans:
        raise _no_scan(named, images)
    _require_options(scans, bval=bval, bvec=bvec, mask=mask)
    scans = [
        replace(scan, bval=bval or scan.bval, bvec=bvec or scan.bvec, mask=mask or scan.mask)
        for scan in scans
    ]
    return Found(tuple(scans), tuple(_notes(images, repeated, scans)))


def stem(path: Path) -> str:
    """Give a file's name without `.nii.gz` or `.nii`."""
    for suffix in IMAGE_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def parse_entities(path: Path) -> dict[str, str]:
    """Give the BIDS entities in a file's name, in its order; none where it is no BIDS name."""
    return _pairs(stem(path)) if _SUBJECT.match(path.name) else {}


def dataset_root(image: Path) -> Path | None:
    """Give the BIDS dataset that holds an image: where its description lies, or its subjects."""
    parents = list(_absolute(image).parents)
    described = (folder for folder in parents if (folder / DESCRIPTION).is_file())
    above_subject = (folder.parent for folder in parents if _SUBJECT.fullmatch(folder.name))
    return next(chain(described, above_subject), None)


def _pairs(name: str) -> dict[str, str]:
    parts = (_ENTITY.fullmatch(part) for part in name.split("_"))
    return {part[1]: part[2] for part in parts if part}


# --- Which files are scans


def _images(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from _images_below(path)
    elif path.is_symlink() and not path.exists():
        raise ScanError(
            f"{path} is a link to content that is not here; expected the image itself: fetch it, "
            "with `datalad get` for instance."
        )
    elif not path.exists():
        hint = "no file matches this pattern" if set("*?[") & set(path.name) else "check the path"
        raise ScanError(f"{path} does not exist; expected a NIfTI file or a folder: {hint}.")
    elif not path.name.lower().endswith(IMAGE_SUFFIXES):
        raise ScanError(
            f"{path} is not a NIfTI file by its name; expected .nii.gz or .nii: name the images "
            "only, their .bval, .bvec and masks are found beside them."
        )
    else:
        yield path


def _images_below(folder: Path) -> list[Path]:
    """Give a folder's scans by the first layout that it has: FSL, BIDS, FSL below, plain files."""
    layouts = (
        _fsl_images(folder),
        _below(folder, "*_dwi.nii*"),
        [image for data in _below(folder, "data.nii*") for image in _fsl_images(data.parent)],
        sorted(path for path in folder.glob("*.nii*") if path.name.endswith(IMAGE_SUFFIXES)),
    )
    found = next((images for images in layouts if images), [])
    if not found:
        raise ScanError(
            f"The folder {folder} holds no scan; expected *_dwi.nii.gz files below it (BIDS), "
            "data.nii.gz or eddy*.nii.gz in it (FSL), or .nii.gz files: name the images."
        )
    return found


def _fsl_images(folder: Path) -> list[Path]:
    """Give `data`, or else the eddy output that comes with rotated b-vectors, or else any."""
    data = [folder / f"data{suffix}" for suffix in IMAGE_SUFFIXES]
    eddy = [
        path
        for path in sorted(folder.glob("eddy*.nii*"))
        if path.name.endswith(IMAGE_SUFFIXES) and _is_scan(path)
    ]
    eddy.sort(key=lambda path: not _rotated_bvecs(path).exists())
    return [path for path in [*data, *eddy] if path.exists()][:1]


def _below(folder: Path, pattern: str) -> list[Path]:
    def is_source(path: Path) -> bool:
        folders = path.relative_to(folder).parts[:-1]
        return not any(part in ("derivatives", "sourcedata") or part[0] == "." for part in folders)

    found = (path for path in folder.rglob(pattern) if path.name.endswith(IMAGE_SUFFIXES))
    return sorted(filter(is_source, found))


def _is_mask(image: Path) -> bool:
    return _MASK.fullmatch(stem(image)) is not None


def _is_scan(image: Path) -> bool:
    return not _is_mask(image) and _NOT_A_SCAN.fullmatch(stem(image)) is None


def _distinct(images: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    first: dict[Path, Path] = {}
    repeated = []
    for image in images:
        # Not resolved: two BIDS files may be links to one stored content.
        if first.setdefault(_absolute(image), image) is not image:
            repeated.append(image)
    return list(first.values()), repeated


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _no_scan(paths: Sequence[Path], images: Sequence[Path]) -> ScanError:
    if not paths:
        return ScanError("No scan was named; expected at least one 4-D NIfTI file or folder.")
    files = _list_names(images)
    if len(images) == 1:
        return ScanError(
            f"{images[0]} is by its name {'a mask' if _is_mask(images[0]) else 'a map or label'}, "
            "not a scan; expected a 4-D image: name the scan, or rename the file if it is one."
        )
    return ScanError(
        f"None of the {len(images)} images is a scan by its name ({files}); expected 4-D images: "
        "name the scans themselves."
    )


def _notes(
    images: Sequence[Path], repeated: Sequence[Path], scans: Sequence[ScanFiles]
) -> Iterator[str]:
    masks = {_absolute(scan.mask) for scan in scans if scan.mask is not None}
    others = [image for image in images if not _is_scan(image)]
    taken = [image for image in others if _absolute(image) in masks]
    skipped = [image for image in others if _absolute(image) not in masks]
    if taken:
        yield f"Taken as the masks of their scans: {_list_names(taken)}."
    if skipped:
        yield f"Skipped, as their names say that they are not scans: {_list_names(skipped)}."
    if repeated:
        yield f"Named twice and read once: {_list_names(_distinct(repeated)[0])}."


def _list_names(images: Sequence[Path]) -> str:
    more = f" and {len(images) - _NAMED} more" if len(images) > _NAMED else ""
    return ", ".join(image.name for image in images[:_NAMED]) + more


# --- What belongs to a scan


def _describe(image: Path) -> ScanFiles:
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
    folders = [folder.name for folder in _absolute(image).parents if folder.name]
    return next((name for name in folders if not _UNTELLING.fullmatch(name)), short)


def _subject(image: Path) -> str | None:
    named = _SUBJECT.match(image.name)
    if named:
        return named[0]
    folders = _absolute(image).parents[:3]  # sub-01/ses-1/dwi: one further up is of no BIDS dataset
    return next((folder.name for folder in folders if _SUBJECT.fullmatch(folder.name)), None)


def _is_fsl(image: Path) -> bool:
    return re.fullmatch(r"data|eddy.*", stem(image)) is not None


def _rotated_bvecs(image: Path) -> Path:
    return image.with_name(f"{stem(image)}.eddy_rotated_bvecs")


def _bval_candidates(image: Path) -> Iterator[Path]:
    yield from (image.with_name(stem(image) + end) for end in (".bval", ".bvals"))
    if _is_fsl(image):
        yield image.with_name("bvals")
    yield from _inherited(image, ".bval")


def _bvec_candidates(image: Path) -> Iterator[Path]:
    yield _rotated_bvecs(image)
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
    for folder in _absolute(image).parents:
        candidates = [
            path
            for path in folder.glob(f"*{suffix}{ending}")
            if path.stem.split("_")[-1] == suffix and _pairs(path.stem).items() <= entities
        ]
        yield from sorted(candidates, key=lambda path: (-len(_pairs(path.stem)), path.name))
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
        if same and path.name.endswith(IMAGE_SUFFIXES) and _is_mask(path):
            masks.append((ranks[found.get("desc")], path.name, path))
    return [path for _, _, path in sorted(masks)]


def _derivative_masks(image: Path, entities: dict[str, str]) -> Iterator[Path]:
    root = dataset_root(image)
    if root is None or not _absolute(image).is_relative_to(root):
        return
    below = _absolute(image.parent).relative_to(root)
    for pipeline in sorted(root.glob("derivatives/*/")):
        yield from _bids_masks(pipeline / below, entities)


def _require_options(scans: Sequence[ScanFiles], **options: Path | None) -> None:
    given = {name: path for name, path in options.items() if path is not None}
    if given and len(scans) > 1:
        names = " and ".join(f"--{name}" for name in given)
        raise InputError(
            f"{names} given for {len(scans)} scans, but each names the file of one; name one scan, "
            "or put the files beside each scan X.nii.gz as X.bval, X.bvec and X_mask.nii.gz."
        )
    for name, path in given.items():
        if not path.is_file():
            error = ScanError if name == "mask" else GradientError
            raise error(f"{path}, given as --{name}, does not exist; name a file that does.")

"""Which files are scans: among files and folders, in BIDS, FSL's layout and plain files.

Images are not opened here. Names decide: which file is a scan; what belongs to it and whose it is
say `companions`. The b-values alone are looked at, as no name tells of what has b=0 volumes only.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from qspace_nd.errors import GradientError, InputError, ScanError, counted, listed
from qspace_nd.layouts.companions import (
    Folders,
    ScanFiles,
    describe_scan,
    loose_files,
    rotated_bvecs,
)
from qspace_nd.layouts.names import (
    IMAGE_SUFFIXES,
    absolute,
    dataset_root,
    files_below,
    identity,
    is_image,
    is_mask,
    is_scan,
    require_here,
    says,
    stem,
    subject_folder,
)

_log = logging.getLogger(__name__)

_WANTED = {"desc": (None, "preproc"), "part": (None, "mag")}
"""What the names of scans say where preprocessing is done, and of magnitude images."""
_B0_LIMIT = 50  # s/mm², as in `diffusion.gradients`
_LONGEST = 1 << 20  # bytes of b-values that are looked at


def find_scans(
    paths: Iterable[str | Path],
    *,
    bval: Path | None = None,
    bvec: Path | None = None,
    mask: Path | None = None,
    volumes_in: Callable[[Path], int | None] | None = None,
) -> list[ScanFiles]:
    """Find the scans among files and folders, each with its gradients and brain mask.

    What else was among them, and is passed over, is logged, and so is whose scans they are.

    Parameters
    ----------
    paths : iterable of str or Path
        Images; folders in FSL's layout (`data.nii.gz` or `eddy*.nii.gz`), BIDS datasets or subject
        folders; folders of images.
    bval, bvec, mask : Path, optional
        Taken in place of what the names say; for one scan only.
    volumes_in : callable, optional
        How many volumes an image has, None where it cannot be read: one with another number of
        b-values is not passed over, so that it will be refused.

    Raises
    ------
    ScanError
        A path does not exist or is no NIfTI file by its name, content is not here, or no scan is
        left.
    InputError
        `bval`, `bvec` or `mask` is given for several scans.
    """
    named = [Path(path) for path in paths]
    images, repeated = _distinct(chain.from_iterable(map(_images, named)))
    chosen = _one_stage_each([image for image in images if is_scan(image)])
    if not chosen:
        raise _no_scan(named, images)
    _require_options(len(chosen), bval=bval, bvec=bvec, mask=mask)
    folders = Folders()
    described = [
        replace(scan, bval=bval or scan.bval, bvec=bvec or scan.bvec, mask=mask or scan.mask)
        for scan in (describe_scan(image, folders) for image in chosen)
    ]
    files = (path for scan in described for path in (scan.image, scan.bval, scan.bvec, scan.mask))
    require_here(path for path in files if path is not None)
    scans = _without_references(described, volumes_in)
    for note in _notes(images, repeated, scans):
        _log.info(note)
    for note in (*_loose_notes(scans, folders), *_doubtful_subjects(scans)):
        _log.warning(note)
    return scans


def finished(images: Sequence[Path], asked: Collection[str] = ()) -> list[Path]:
    """Leave magnitude images that preprocessing is done with, as a dataset is read.

    Parameters
    ----------
    images : sequence of Path
    asked : collection of str
        Entities that the images were chosen by, which are not looked at.
    """
    kept = [
        image
        for image in images
        if all(key in asked or says(image, key) in values for key, values in _WANTED.items())
    ]
    return kept if "desc" in asked else _last_stages(kept)


# --- Which files are scans


def _images(path: Path) -> Iterable[Path]:
    _require_printable(path)
    try:
        if path.is_dir():
            return _images_below(path)
        there = path.exists()
    except OSError as error:
        raise ScanError(
            f"{path} cannot be read ({error.strerror or error}); check it and its permissions."
        ) from error
    require_here([path])
    if not there:
        hint = "no file matches this pattern" if set("*?[") & set(path.name) else "check the path"
        raise ScanError(f"{path} does not exist; expected a NIfTI file or a folder: {hint}.")
    if not path.name.lower().endswith(IMAGE_SUFFIXES):
        raise ScanError(
            f"{path} is not a NIfTI file by its name; expected .nii.gz or .nii: name the images "
            "only, their .bval, .bvec and masks are found beside them."
        )
    if not path.is_file():
        raise ScanError(f"{path} is no file but a pipe or device; expected a NIfTI file: write it.")
    return [path]


def _images_below(folder: Path) -> list[Path]:
    """Give a folder's scans by the first layout that it has: FSL, BIDS, FSL below, plain files."""
    below = [path for path in files_below(folder) if is_image(path)]
    layouts: tuple[Callable[[], Iterable[Path]], ...] = (
        lambda: _fsl_image(folder, below),
        lambda: [path for path in below if stem(path).lower().endswith("_dwi")],
        lambda: chain.from_iterable(
            _fsl_image(path.parent, below) for path in below if stem(path) == "data"
        ),
        lambda: [path for path in below if path.parent == folder],
    )
    for layout in layouts:
        if found := sorted(set(layout())):
            return _of_folder(folder, found)
    raise ScanError(
        f"The folder {folder} holds no scan; expected *_dwi.nii.gz files below it (BIDS), "
        "data.nii.gz or eddy*.nii.gz in it (FSL), or .nii.gz files: name the images."
    )


def _of_folder(folder: Path, images: list[Path]) -> list[Path]:
    """Read a folder as a dataset is read: of each scan the magnitude, as preprocessed."""
    for image in images:
        _require_printable(image)
    scans = [image for image in images if is_scan(image)]
    kept = finished(scans)
    if not kept:  # neither has a dataset's name: which stage is meant, is not told by it
        return images
    over = {*scans} - {*kept}
    if over:
        _log.info(
            f"Passed over in {folder}, as phase images or other stages of preprocessing: "
            f"{_names(sorted(over))}."
        )
    return [image for image in images if image not in over]


def _fsl_image(folder: Path, images: Iterable[Path]) -> list[Path]:
    """Give `data`, or else the eddy output that comes with rotated b-vectors, or else any."""
    here = [path for path in images if path.parent == folder]
    data = [path for path in here if stem(path) == "data"]
    eddy = [path for path in here if path.name.startswith("eddy") and is_scan(path)]
    eddy.sort(key=lambda path: not rotated_bvecs(path).exists())
    return [*data, *eddy][:1]


def _last_stages(images: Sequence[Path]) -> list[Path]:
    """Leave out what was preprocessed where the same scan is there preprocessed."""
    done = {_which_scan(image) for image in images if says(image, "desc") == "preproc"}
    return [
        image
        for image in images
        if says(image, "desc") == "preproc" or _which_scan(image) not in done
    ]


def _one_stage_each(images: Sequence[Path]) -> list[Path]:
    """Leave one stage of each scan, and no phase image beside a magnitude.

    Raises
    ------
    ScanError
        Which stage is meant cannot be told.
    """
    magnitudes = [image for image in images if says(image, "part") in _WANTED["part"]] or images
    over = {*images} - {*magnitudes}
    scans: dict[object, list[Path]] = defaultdict(list)
    for image in magnitudes:
        scans[_which_scan(image)].append(image)
    for versions in scans.values():
        kept = finished(versions) or versions
        told = {(says(image, "desc"), says(image, "part")) for image in kept}
        if len(told) > 1:
            raise ScanError(
                f"{kept[0]} and {kept[1].name} are two stages or parts of one scan by their names; "
                f"expected one image of each scan: name the one to read."
            )
        over |= {*versions} - {*kept}
    if over:
        _log.info(
            f"Passed over, as phase images or other stages of scans that are there too: "
            f"{_names(sorted(over))}."
        )
    return [image for image in images if image not in over]


def _which_scan(image: Path) -> object:
    """What versions of one scan have in common: the folder, and the name but `desc` and `part`."""
    words = stem(image).split("_")
    return absolute(image).parent, tuple(w for w in words if not w.startswith(("desc-", "part-")))


def _distinct(images: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    first: dict[Path, Path] = {}
    repeated = []
    for image in images:
        # Not resolved: two BIDS files may be links to one stored content.
        if first.setdefault(absolute(image), image) is not image:
            repeated.append(image)
    return list(first.values()), repeated


def _no_scan(paths: Sequence[Path], images: Sequence[Path]) -> ScanError:
    if not paths:
        return ScanError("No scan was named; expected at least one 4-D NIfTI file or folder.")
    if len(images) == 1:
        return ScanError(
            f"{images[0]} is by its name {'a mask' if is_mask(images[0]) else 'a map or label'}, "
            "not a scan; expected a 4-D image: name the scan, or rename the file if it is one."
        )
    return ScanError(
        f"None of the {len(images)} images is a scan by its name ({_names(images)}); expected 4-D "
        "images: name the scans themselves."
    )


def _require_options(scans: int, **options: Path | None) -> None:
    given = {name: path for name, path in options.items() if path is not None}
    if given and scans > 1:
        names = " and ".join(f"--{name}" for name in given)
        raise InputError(
            f"{names} given for {scans} scans, but each names the file of one; name one scan, "
            "or put the files beside each scan X.nii.gz as X.bval, X.bvec and X_mask.nii.gz."
        )
    for name, path in given.items():
        if not path.is_file():
            error = ScanError if name == "mask" else GradientError
            raise error(f"{path}, given as --{name}, does not exist; name a file that does.")


def _require_printable(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        raise ScanError(
            f"The name {shown} is not UTF-8, as names in results have to be; rename the file."
        ) from None


# --- Scans that serve the others


def _without_references(
    scans: list[ScanFiles], volumes_in: Callable[[Path], int | None] | None
) -> list[ScanFiles]:
    """Leave out what holds b=0 volumes alone, fewer than each of the others has volumes."""
    tables = [_b_values(scan) for scan in scans] if len(scans) > 1 else []
    lengths = [len(table) for table in tables if max(table, default=0) > _B0_LIMIT]
    shortest = min(lengths, default=0)
    over = [
        scan.image
        for scan, table in zip(scans, tables, strict=False)
        if len(table) < shortest
        and table
        and all(0 <= b <= _B0_LIMIT for b in table)
        and (volumes_in is None or volumes_in(scan.image) == len(table))
    ]
    if over:
        _log.info(
            f"Passed over, as they hold b=0 volumes alone, which serve to correct distortions: "
            f"{_names(over)}."
        )
    return [scan for scan in scans if scan.image not in over]


def _b_values(scan: ScanFiles) -> list[float]:
    """Give a scan's b-values; none where they cannot be read, which is for others to tell."""
    try:
        if scan.bval is None or scan.bval.stat().st_size > _LONGEST:
            return []
        return [float(word) for word in scan.bval.read_text().replace(",", " ").split()]
    except (OSError, ValueError):
        return []


# --- What is told


def _notes(
    images: Sequence[Path], repeated: Sequence[Path], scans: Sequence[ScanFiles]
) -> Iterator[str]:
    masks = {absolute(scan.mask) for scan in scans if scan.mask is not None}
    others = [image for image in images if not is_scan(image)]
    taken = [image for image in others if absolute(image) in masks]
    skipped = [image for image in others if absolute(image) not in masks]
    if taken:
        yield f"Taken as the masks of their scans: {_names(taken)}."
    if skipped:
        yield f"Skipped, as their names say that they are not scans: {_names(skipped)}."
    if repeated:
        yield f"Named twice and read once: {_names(_distinct(repeated)[0])}."
    if len(scans) > 1:
        subjects = list(dict.fromkeys(scan.subject for scan in scans))
        whose = counted(len(subjects), "subject")
        yield f"{counted(len(scans), 'scan')} of {whose}: {listed(subjects, 20)}."
    nearly = [scan for scan in scans if _is_nearly_bids(scan)]
    if nearly:
        subjects = list(dict.fromkeys(scan.subject for scan in nearly))
        yield (
            f"No BIDS names, as a label has a hyphen or an underscore for instance, and taken as "
            f"plain ones: {_names([scan.image for scan in nearly])}, of "
            f"{counted(len(subjects), 'subject')}: {listed(subjects)}."
        )


def _doubtful_subjects(scans: Sequence[ScanFiles]) -> Iterator[str]:
    """What a user may see otherwise: who is one person, and who several."""
    people: dict[str, list[ScanFiles]] = defaultdict(list)
    for scan in scans:
        people[scan.subject].append(scan)
    for subject, theirs in people.items():
        # Sessions and runs of a dataset's subject are what everybody takes them for.
        if len(theirs) > 1 and not _are_of_one_dataset(theirs):
            yield (
                f"{counted(len(theirs), 'scan')} are taken as of one subject, {subject}: "
                f"{listed([scan.image for scan in theirs])}; if they are of several people, give "
                f"the files or their folders names that tell them apart."
            )
        by_name: dict[object, list[ScanFiles]] = defaultdict(list)
        for scan in theirs:
            by_name[frozenset(identity(scan.entities).items()) or scan.image].append(scan)
        for same in by_name.values():
            if len(same) > 1:
                images = listed([scan.image for scan in same])
                yield (
                    f"By their names, {images} are one scan: if they are versions of it, name one "
                    f"of them alone."
                )
    for scan in scans:
        folder = subject_folder(scan.image)
        if scan.entities and folder is not None and folder.name != scan.subject:
            yield f"{scan.image} is taken as of {scan.subject}, by its name, not of {folder.name}."


def _are_of_one_dataset(scans: Sequence[ScanFiles]) -> bool:
    roots = {dataset_root(scan.image) for scan in scans}
    return len(roots) == 1 and all(scan.entities for scan in scans)


def _is_nearly_bids(scan: ScanFiles) -> bool:
    return scan.image.name.lower().startswith("sub-") and not scan.entities


def _loose_notes(scans: Sequence[ScanFiles], folders: Folders) -> Iterator[str]:
    """Files that may be the gradients or mask of a scan that has none, but name another or none."""
    taken = {path for scan in scans for path in (scan.bval, scan.bvec, scan.mask)}
    for scan in scans:
        if scan.bval is not None and scan.bvec is not None and scan.mask is not None:
            continue
        lacking = [kind for kind in ("bval", "bvec", "mask") if getattr(scan, kind) is None]
        folder = folders[scan.image.parent]
        loose = [
            path
            for path in loose_files(folder)
            if path not in taken
            and any(kind in path.name.lower() for kind in lacking)
            and not any(path.name.startswith(f"{name}.") for name in folder.scans)
        ]
        if loose:
            yield (
                f"{scan.image} has files beside it that do not say whose they are, and are not "
                f"taken: {_names(loose)}; name them with --bval, --bvec and --mask, or give "
                f"them the scan's name."
            )


def _names(images: Sequence[Path]) -> str:
    return listed([image.name for image in images])

"""Which files are scans: among files and folders, in BIDS, FSL's layout and plain files.

Nothing is opened here. Names decide: which file is a scan; what belongs to it and whose it is say
`companions`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from qspace_nd.errors import GradientError, InputError, ScanError, listed
from qspace_nd.layouts.companions import ScanFiles, describe_scan, is_mask, rotated_bvecs
from qspace_nd.layouts.names import IMAGE_SUFFIXES, absolute, stem

_log = logging.getLogger(__name__)

_NOT_A_SCAN = re.compile(
    # Maps and references that QSIPrep, FSL, MRtrix and this program write, and anatomical images.
    r"(.*[_.])?(dwiref|sbref|epiref|boldref|b0ref|b0|cnr|tsnr|snr|dwimap|dseg|probseg|lesions?|labels?"
    r"|roi|fa|md|adc|trace|tensor|sse|noise|residuals?|t[12]w?|flair|pdw)"
    r"|.*dti_(ad|rd|mo|s0|[lv][123])|novelty(_[a-z]+(-[a-z]+)+)?|nodif.*|.*\.eddy_.+",
    re.IGNORECASE,
)


def find_scans(
    paths: Iterable[str | Path],
    *,
    bval: Path | None = None,
    bvec: Path | None = None,
    mask: Path | None = None,
) -> list[ScanFiles]:
    """Find the scans among files and folders, each with its gradients and brain mask.

    What else was among them, and is passed over, is logged.

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
    scans = [describe_scan(image) for image in images if _is_scan(image)]
    if not scans:
        raise _no_scan(named, images)
    _require_options(scans, bval=bval, bvec=bvec, mask=mask)
    scans = [
        replace(scan, bval=bval or scan.bval, bvec=bvec or scan.bvec, mask=mask or scan.mask)
        for scan in scans
    ]
    for note in _notes(images, repeated, scans):
        _log.info(note)
    return scans


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
    eddy.sort(key=lambda path: not rotated_bvecs(path).exists())
    return [path for path in [*data, *eddy] if path.exists()][:1]


def _below(folder: Path, pattern: str) -> list[Path]:
    def is_source(path: Path) -> bool:
        folders = path.relative_to(folder).parts[:-1]
        return not any(part in ("derivatives", "sourcedata") or part[0] == "." for part in folders)

    found = (path for path in folder.rglob(pattern) if path.name.endswith(IMAGE_SUFFIXES))
    return sorted(filter(is_source, found))


def _is_scan(image: Path) -> bool:
    return not is_mask(image) and _NOT_A_SCAN.fullmatch(stem(image)) is None


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
    files = _names(images)
    if len(images) == 1:
        return ScanError(
            f"{images[0]} is by its name {'a mask' if is_mask(images[0]) else 'a map or label'}, "
            "not a scan; expected a 4-D image: name the scan, or rename the file if it is one."
        )
    return ScanError(
        f"None of the {len(images)} images is a scan by its name ({files}); expected 4-D images: "
        "name the scans themselves."
    )


def _notes(
    images: Sequence[Path], repeated: Sequence[Path], scans: Sequence[ScanFiles]
) -> Iterator[str]:
    masks = {absolute(scan.mask) for scan in scans if scan.mask is not None}
    others = [image for image in images if not _is_scan(image)]
    taken = [image for image in others if absolute(image) in masks]
    skipped = [image for image in others if absolute(image) not in masks]
    if taken:
        yield f"Taken as the masks of their scans: {_names(taken)}."
    if skipped:
        yield f"Skipped, as their names say that they are not scans: {_names(skipped)}."
    if repeated:
        yield f"Named twice and read once: {_names(_distinct(repeated)[0])}."


def _names(images: Sequence[Path]) -> str:
    return listed([image.name for image in images])


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

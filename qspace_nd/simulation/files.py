"""Where the files of a simulated cohort lie, in BIDS or flat, and how a subject's are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from qspace_nd._version import __version__
from qspace_nd.diffusion.fsl import write_gradients
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.nifti import write_scan, write_volume
from qspace_nd.layouts.derivatives import BIDS_VERSION
from qspace_nd.layouts.names import DESCRIPTION, PARTICIPANTS, stem
from qspace_nd.simulation.head import ECHO_TIME, Subject
from qspace_nd.simulation.people import Person


@dataclass(frozen=True)
class SubjectFiles:
    """Where one subject's files lie; what only patients have is None for controls.

    `tissues` are the fractions of white matter, grey matter and fluid, `push` is what a tumour did;
    both are written of real anatomies and of tumours alone.
    """

    name: str
    scan: Path
    bval: Path
    bvec: Path
    mask: Path
    labels: Path | None = None
    white_matter: Path | None = None
    tissues: tuple[Path, ...] = ()
    push: Path | None = None

    def paths(self) -> list[Path]:
        """Every file."""
        required = [self.scan, self.bval, self.bvec, self.mask, *self.tissues]
        return [*required, *(path for path in (self.labels, self.white_matter, self.push) if path)]


@dataclass(frozen=True)
class Layout:
    """Where files lie, and the texts that go with them.

    Attributes
    ----------
    control : callable
        (folder, number from 1) -> SubjectFiles.
    patient : callable
        (folder, number from 1, number of patients) -> SubjectFiles.
    truth : callable
        (folder, name, ending) -> Path of what is true of a scan beside its masks.
    texts : callable
        (folder, controls, patients, settings, whose anatomy by name) -> text by path.
    """

    control: Callable[[Path, int], SubjectFiles]
    patient: Callable[[Path, int, int], SubjectFiles]
    truth: Callable[[Path, str, str], Path]
    texts: Callable[
        [
            Path,
            Sequence[SubjectFiles],
            Sequence[SubjectFiles],
            Mapping[str, Any],
            Mapping[str, Person],
        ],
        dict[Path, str],
    ]

    def with_truth(self, folder: Path, files: SubjectFiles, *, pushed: bool) -> SubjectFiles:
        """Add where the tissue maps lie and, of who has a tumour, what it pushed."""
        return replace(
            files,
            tissues=tuple(
                self.truth(folder, files.name, f"label-{tissue}_probseg") for tissue in TISSUES
            ),
            push=self.truth(folder, files.name, PUSH) if pushed else None,
        )


TISSUES = ("WM", "GM", "CSF")
"""What BIDS calls white matter, grey matter and fluid."""
PUSH = "from-scan_to-beforeGrowth_mode-points_xfm"
"""The displacement from where tissue lies to where it lay before the tumour grew."""


def _bids_subject(folder: Path, name: str) -> SubjectFiles:
    stem = folder / name / "dwi" / f"{name}_dwi"
    return SubjectFiles(
        name=name,
        scan=stem.with_suffix(".nii.gz"),
        bval=stem.with_suffix(".bval"),
        bvec=stem.with_suffix(".bvec"),
        mask=_bids_mask(folder, name, "desc-brain"),
    )


def _bids_mask(folder: Path, name: str, entity: str) -> Path:
    return _bids_truth(folder, name, f"{entity}_mask")


def _bids_truth(folder: Path, name: str, ending: str) -> Path:
    return folder / "derivatives" / "masks" / name / "dwi" / f"{name}_{ending}.nii.gz"


def _bids_control(folder: Path, number: int) -> SubjectFiles:
    return _bids_subject(folder, f"sub-control{number:02d}")


def _bids_patient(folder: Path, number: int, of: int) -> SubjectFiles:
    name = f"sub-patient{number:02d}"
    return replace(
        _bids_subject(folder, name),
        labels=_bids_mask(folder, name, "desc-lesion"),
        white_matter=_bids_mask(folder, name, "label-WM"),
    )


def _bids_texts(
    folder: Path,
    controls: Sequence[SubjectFiles],
    patients: Sequence[SubjectFiles],
    settings: Mapping[str, Any],
    whose: Mapping[str, Person],
) -> dict[Path, str]:
    generator = {"Name": "qspace-nd simulate", "Version": __version__}
    described = {"BIDSVersion": BIDS_VERSION, "GeneratedBy": [generator]}
    levels = {"control": "healthy", "patient": "with lesions"}
    sidecar = {
        "MagneticFieldStrength": 3,
        "EchoTime": ECHO_TIME / 1000,
        "RepetitionTime": 8.0,
        "PhaseEncodingDirection": "j",
        "TotalReadoutTime": 0.05,
        "SkullStripped": True,
    }
    masks = folder / "derivatives" / "masks"
    columns = {"group": {"Levels": levels}} | (_COLUMNS if whose else {})
    # What moves points has no place in BIDS yet.
    ignored = {masks / ".bidsignore": "*_xfm.nii.gz\n"} if any(p.push for p in patients) else {}
    return {
        **ignored,
        **_sidecars((*controls, *patients), settings, whose, sidecar),
        folder / "README": (_README_OF_PEOPLE if whose else _README)
        + (_TRUTH_README if any(files.tissues for files in (*controls, *patients)) else ""),
        folder / PARTICIPANTS: _participants(controls, patients, whose),
        folder / "participants.json": _as_json(columns),
        masks / DESCRIPTION: _as_json(
            {"Name": "Masks of the simulated scans", "DatasetType": "derivative", **described}
        ),
        folder / DESCRIPTION: _as_json(
            {"Name": "Simulated diffusion MRI", "DatasetType": "raw", **described}
        ),
    }


_README = """\
Simulated diffusion MRI of healthy controls and of patients with lesions.

The anatomy is that of the ICBM152 grey and white matter maps, deformed for each subject; the signal
is that of several tensors in each voxel, with Rician noise. No person was scanned.

derivatives/masks holds each scan's brain (desc-brain), and of patients the lesions (desc-lesion)
and white matter (label-WM).
"""


_TRUTH_README = """
label-WM, label-GM and label-CSF (probseg) are each voxel's fractions of tissue. Of patients with a
tumour, from-scan_to-beforeGrowth gives in mm of the world, one volume an axis, where each voxel's
tissue lay before the tumour pushed it, less where it lies.
"""

_README_OF_PEOPLE = """\
Simulated diffusion MRI of healthy controls and of patients with lesions.

The anatomies are those of real people, each in its own space, from images of brain labels
(participants.tsv says whose; the licence of those images goes for what is made of them); the signal
is that of several tensors in each voxel, with Rician noise. No diffusion MRI was measured.

derivatives/masks holds each scan's brain (desc-brain), and of patients the lesions (desc-lesion)
and white matter (label-WM).
"""

_COLUMNS = {
    "anatomy": {"Description": "whose brain labels the anatomy is made of"},
    "age": {"Description": "the age of that person", "Units": "year"},
    "sex": {"Description": "the sex of that person"},
}


def _sidecars(
    subjects: Iterable[SubjectFiles],
    settings: Mapping[str, Any],
    whose: Mapping[str, Person],
    acquisition: Mapping[str, Any],
) -> dict[Path, str]:
    texts = {}
    for files in subjects:
        simulation = dict(settings)
        if files.name in whose:
            person = whose[files.name]
            simulation |= {"Anatomy": person.name, "Labels": person.labels.name}
            simulation |= {column.capitalize(): told for column, told in person.details.items()}
        beside = files.scan.with_name(f"{stem(files.scan)}.json")
        texts[beside] = _as_json({**acquisition, "Simulation": simulation})
    return texts


def _participants(
    controls: Sequence[SubjectFiles],
    patients: Sequence[SubjectFiles],
    whose: Mapping[str, Person],
) -> str:
    from pandas import DataFrame

    rows = [
        {"participant_id": files.name, "group": group}
        | ({"anatomy": whose[files.name].name, **whose[files.name].details} if whose else {})
        for group, members in (("control", controls), ("patient", patients))
        for files in members
    ]
    return str(DataFrame(rows).to_csv(sep="\t", index=False, lineterminator="\n"))


def _as_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _flat_subject(stem: Path) -> SubjectFiles:
    return SubjectFiles(
        name=stem.name,
        scan=stem.with_name(f"{stem.name}.nii.gz"),
        bval=stem.with_name(f"{stem.name}.bval"),
        bvec=stem.with_name(f"{stem.name}.bvec"),
        mask=stem.with_name(f"{stem.name}_mask.nii.gz"),
    )


def _flat_control(folder: Path, number: int) -> SubjectFiles:
    return _flat_subject(folder / "healthy" / f"control-{number:02d}")


def _flat_patient(folder: Path, number: int, of: int) -> SubjectFiles:
    ending = "" if of == 1 else f"-{number:02d}"
    return replace(
        _flat_subject(folder / f"patient{ending}"),
        labels=folder / f"lesions{ending}.nii.gz",
        white_matter=folder / f"white_matter{ending}.nii.gz",
    )


def _flat_truth(folder: Path, name: str, ending: str) -> Path:
    # Not beside the scans: `healthy/*.nii.gz` is to be scans and their masks.
    return folder / "truth" / f"{name}_{ending}.nii.gz"


def _flat_texts(
    folder: Path,
    controls: Sequence[SubjectFiles],
    patients: Sequence[SubjectFiles],
    settings: Mapping[str, Any],
    whose: Mapping[str, Person],
) -> dict[Path, str]:
    if not whose:
        return {}
    return {
        **_sidecars((*controls, *patients), settings, whose, {}),
        folder / PARTICIPANTS: _participants(controls, patients, whose),
    }


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "bids": Layout(_bids_control, _bids_patient, _bids_truth, _bids_texts),
        "flat": Layout(_flat_control, _flat_patient, _flat_truth, _flat_texts),
    }
)
"""The ways to lay a cohort out, by name."""


def write_subject(files: SubjectFiles, subject: Subject, table: GradientTable) -> None:
    """Write a subject's scan, gradients, masks and truth; a patient's labels too."""
    grid = Grid(subject.mask.shape, subject.affine)
    # Whole numbers in 16 bits, as scanners store them.
    signal = np.minimum(np.rint(subject.signal), np.iinfo(np.int16).max).astype(np.int16)
    write_scan(files.scan, signal, grid)
    write_gradients(files.bval, files.bvec, table, subject.affine)
    write_volume(files.mask, subject.mask, grid)
    if files.labels is not None:
        write_volume(files.labels, subject.labels, grid)
    if files.white_matter is not None:
        write_volume(files.white_matter, subject.white_matter, grid)
    for path, fraction in zip(files.tissues, np.moveaxis(subject.tissues, -1, 0), strict=False):
        write_volume(path, fraction, grid)
    if files.push is not None and subject.push is not None:
        write_scan(files.push, subject.push, grid)

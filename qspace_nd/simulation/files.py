"""Where the files of a simulated cohort lie, in BIDS or flat, and how a subject's are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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
from qspace_nd.layouts.names import DESCRIPTION
from qspace_nd.simulation.head import ECHO_TIME, Subject


@dataclass(frozen=True)
class SubjectFiles:
    """Where one subject's files lie; what only patients have is None for controls."""

    name: str
    scan: Path
    bval: Path
    bvec: Path
    mask: Path
    labels: Path | None = None
    white_matter: Path | None = None

    def paths(self) -> list[Path]:
        """Every file."""
        required = [self.scan, self.bval, self.bvec, self.mask]
        return [*required, *(path for path in (self.labels, self.white_matter) if path)]


@dataclass(frozen=True)
class Layout:
    """Where files lie, and the texts that go with them.

    Attributes
    ----------
    control : callable
        (folder, number from 1) -> SubjectFiles.
    patient : callable
        (folder, number from 1, number of patients) -> SubjectFiles.
    texts : callable
        (folder, controls, patients, settings) -> text by path.
    """

    control: Callable[[Path, int], SubjectFiles]
    patient: Callable[[Path, int, int], SubjectFiles]
    texts: Callable[
        [Path, Sequence[SubjectFiles], Sequence[SubjectFiles], Mapping[str, Any]], dict[Path, str]
    ]


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
    return folder / "derivatives" / "masks" / name / "dwi" / f"{name}_{entity}_mask.nii.gz"


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
) -> dict[Path, str]:
    generator = {"Name": "qspace-nd simulate", "Version": __version__}
    described = {"BIDSVersion": BIDS_VERSION, "GeneratedBy": [generator]}
    groups = [(files.name, "control") for files in controls]
    groups += [(files.name, "patient") for files in patients]
    levels = {"control": "healthy", "patient": "with lesions"}
    sidecar = {
        "MagneticFieldStrength": 3,
        "EchoTime": ECHO_TIME / 1000,
        "RepetitionTime": 8.0,
        "PhaseEncodingDirection": "j",
        "TotalReadoutTime": 0.05,
        "SkullStripped": True,
        "Simulation": dict(settings),
    }
    masks = folder / "derivatives" / "masks"
    return {
        **{
            files.scan.with_name(f"{files.name}_dwi.json"): _as_json(sidecar)
            for files in (*controls, *patients)
        },
        folder / "README": _README,
        folder / "participants.tsv": _participants(groups),
        folder / "participants.json": _as_json({"group": {"Levels": levels}}),
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


def _participants(groups: Sequence[tuple[str, str]]) -> str:
    from pandas import DataFrame

    table = DataFrame(groups, columns=["participant_id", "group"])
    return str(table.to_csv(sep="\t", index=False, lineterminator="\n"))


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


def _no_texts(
    folder: Path,
    controls: Sequence[SubjectFiles],
    patients: Sequence[SubjectFiles],
    settings: Mapping[str, Any],
) -> dict[Path, str]:
    return {}


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "bids": Layout(_bids_control, _bids_patient, _bids_texts),
        "flat": Layout(_flat_control, _flat_patient, _no_texts),
    }
)
"""The ways to lay a cohort out, by name."""


def write_subject(files: SubjectFiles, subject: Subject, table: GradientTable) -> None:
    """Write a subject's scan, gradients and masks; a patient's labels and white matter too."""
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

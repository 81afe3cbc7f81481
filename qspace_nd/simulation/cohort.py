"""Simulated cohorts: healthy controls and patients with lesions, in memory or as files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from qspace_nd.arrays import Bools, Float64
from qspace_nd.diffusion.fsl import read_gradients
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.errors import InputError, LabelError
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.progress import SILENT, Progress
from qspace_nd.simulation.anatomy import Anatomy, require_voxel_size
from qspace_nd.simulation.files import LAYOUTS, write_subject
from qspace_nd.simulation.head import Subject, require_snr, simulate_subject, standard_table
from qspace_nd.simulation.lesions import LESION_KINDS, LesionKind, draw_lesion_mask
from qspace_nd.system.writing import replacing, require_writable

Choice = TypeVar("Choice")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Simulation:
    """A cohort to be: every subject of it can be simulated by its index alone.

    A subject depends on the seed and its own index, not on how many others there are.

    Attributes
    ----------
    voxel_size : float
        mm.
    table : GradientTable
    lesion_masks : sequence of pairs of array (X, Y, Z) bool and array (4, 4)
        Masks in ICBM152 space with their affines, for the patients in turn; empty to draw lesions.
    kind : LesionKind
        What the lesions do to tissue.
    snr : float
        Of white matter at b=0.
    seed : int

    Raises
    ------
    InputError
        The voxel size, the signal-to-noise ratio or the seed is out of range.
    """

    voxel_size: float = 3.0
    table: GradientTable = field(default_factory=standard_table)
    lesion_masks: Sequence[tuple[Bools, Float64]] = ()
    kind: LesionKind = LESION_KINDS["demyelinating"]
    snr: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_voxel_size(self.voxel_size)
        require_snr(self.snr)
        if self.seed < 0:
            raise InputError(f"The seed is {self.seed}; give one from 0 up.")

    @cached_property
    def anatomy(self) -> Anatomy:
        """What all subjects share."""
        return Anatomy.of_icbm152(self.voxel_size)

    def control(self, index: int, table: GradientTable | None = None) -> Subject:
        """Simulate a healthy subject, with a `table` of their own where one is given."""
        return simulate_subject(
            self.anatomy, table or self.table, self._seed(0, index), snr=self.snr
        )

    def patient(self, index: int, table: GradientTable | None = None) -> Subject:
        """Simulate a patient, likewise."""
        return simulate_subject(
            self.anatomy,
            table or self.table,
            self._seed(1, index),
            lesions=self._lesions(index),
            kind=self.kind,
            snr=self.snr,
        )

    def _lesions(self, index: int) -> tuple[Bools, Float64]:
        if self.lesion_masks:
            return self.lesion_masks[index % len(self.lesion_masks)]
        return draw_lesion_mask(np.random.default_rng(self._seed(2, index)))

    def _seed(self, purpose: int, index: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(self.seed, spawn_key=(purpose, index))


@dataclass(frozen=True)
class Cohort:
    """The files of a simulated cohort.

    Attributes
    ----------
    controls, patients : tuple of Path
        Scans.
    control_masks, patient_masks : tuple of Path
        Brain masks in the same order.
    labels, white_matter : tuple of Path
        Lesion and white matter masks of the patients.
    """

    controls: tuple[Path, ...]
    patients: tuple[Path, ...]
    control_masks: tuple[Path, ...]
    patient_masks: tuple[Path, ...]
    labels: tuple[Path, ...]
    white_matter: tuple[Path, ...]


def simulate_cohort(
    folder: Path,
    *,
    controls: int = 6,
    patients: int = 1,
    layout: str = "bids",
    voxel_size: float = 3.0,
    table: GradientTable | None = None,
    lesion_masks: Sequence[Path] = (),
    kind: str = "demyelinating",
    snr: float = 20.0,
    seed: int = 0,
    force: bool = False,
    progress: Progress = SILENT,
) -> Cohort:
    """Simulate a cohort and write it to `folder`.

    Parameters
    ----------
    folder : Path
    controls, patients : int
        How many subjects.
    layout : "bids" or "flat"
        A BIDS dataset with the masks under `derivatives/masks`; or `healthy/control-01.nii.gz` and
        so on, `patient.nii.gz`, `lesions.nii.gz` and `white_matter.nii.gz` (numbered where there
        are several patients), each scan with its mask beside it.
    voxel_size : float
        mm.
    table : GradientTable, optional
        6 b=0 volumes and 40 directions at b=1200 s/mm² unless given.
    lesion_masks : sequence of Path
        Lesion masks in MNI space, taken in turn; lesions are drawn where none is given.
    kind : str
        One of `lesions.LESION_KINDS`.
    snr : float
        Of white matter at b=0.
    seed : int
    force : bool
        Replace files that exist.
    progress : Progress

    Raises
    ------
    InputError
        A setting is unknown or out of range, or a lesion mask cannot be used.
    OutputError
        A file exists and `force` is not set, or cannot be written.
    """
    chosen = _choose(LAYOUTS, layout, "layout")
    if controls < 0 or patients < 0 or controls + patients == 0:
        raise InputError(
            f"{controls} controls and {patients} patients make no cohort; ask for at least one."
        )
    simulation = Simulation(
        voxel_size=voxel_size,
        table=standard_table() if table is None else table,
        lesion_masks=[_read_lesion_mask(path) for path in lesion_masks],
        kind=_choose(LESION_KINDS, kind, "kind of lesion"),
        snr=snr,
        seed=seed,
    )
    healthy = [chosen.control(folder, number) for number in range(1, controls + 1)]
    ill = [chosen.patient(folder, number, patients) for number in range(1, patients + 1)]
    texts = chosen.texts(folder, healthy, ill, {"Lesions": kind, "SNR": snr, "Seed": seed})
    subjects = [*healthy, *ill]
    require_writable(
        [*(path for subject in subjects for path in subject.paths()), *texts], force=force
    )
    simulated = chain(
        map(simulation.control, range(controls)), map(simulation.patient, range(patients))
    )
    with progress.task("Simulating", len(subjects)) as task:
        for files, subject in zip(subjects, simulated, strict=True):
            write_subject(files, subject, simulation.table)
            if files.labels is not None and not subject.labels.any():
                _log.warning(_no_label(files.labels, voxel_size))
            task.advance(note=files.name)
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text)
    return Cohort(
        controls=tuple(files.scan for files in healthy),
        patients=tuple(files.scan for files in ill),
        control_masks=tuple(files.mask for files in healthy),
        patient_masks=tuple(files.mask for files in ill),
        labels=tuple(files.labels for files in ill if files.labels is not None),
        white_matter=tuple(files.white_matter for files in ill if files.white_matter is not None),
    )


def read_table(bval: Path, bvec: Path) -> GradientTable:
    """Read a protocol to simulate from FSL's files, for scans that are stored as these are.

    Raises
    ------
    GradientError
        See `gradients.read_gradients`.
    """
    try:
        volumes = len(bval.read_text().replace(",", " ").split())
    except (OSError, UnicodeDecodeError):
        volumes = 0  # what is wrong is for the reader to say
    return read_gradients(bval, bvec, np.diag([-1.0, 1.0, 1.0, 1.0]), volumes)


def _read_lesion_mask(path: Path) -> tuple[Bools, Float64]:
    values, grid = read_volume(path)
    mask = values > 0
    if not mask.any():
        raise LabelError(f"{path} has no lesion voxel; expected a lesion mask in MNI space.")
    return mask, np.asarray(grid.affine, dtype=np.float64)


def _no_label(labels: Path, voxel_size: float) -> str:
    return (
        f"{labels} has no lesion voxel, as no voxel of {voxel_size:g} mm is lesion by half; take "
        "smaller voxels, or lesion masks in MNI space that hold larger lesions."
    )


def _choose(choices: Mapping[str, Choice], name: str, what: str) -> Choice:
    try:
        return choices[name]
    except KeyError:
        raise InputError(
            f"There is no {what} {name!r}; choose one of {', '.join(choices)}."
        ) from None

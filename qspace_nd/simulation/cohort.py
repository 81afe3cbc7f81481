"""Simulated cohorts: healthy controls and patients with lesions, in memory or as files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.fsl import read_gradients
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.errors import InputError, LabelError
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.progress import SILENT, Progress
from qspace_nd.simulation.anatomy import Anatomy, require_voxel_size
from qspace_nd.simulation.files import LAYOUTS, SubjectFiles, write_subject
from qspace_nd.simulation.head import (
    Subject,
    common_places,
    require_snr,
    simulate_subject,
    standard_table,
)
from qspace_nd.simulation.label_anatomy import anatomy_of, common_affine
from qspace_nd.simulation.lesions import (
    LESION_KINDS,
    LesionKind,
    LesionMask,
    carried_lesion_mask,
    draw_lesion_mask,
)
from qspace_nd.simulation.mass_effect import Tumour, draw_tumour, require_mass_effect
from qspace_nd.simulation.nuisance import NUISANCES, SMOOTH, Nuisance
from qspace_nd.simulation.people import Person, place_in_order, read_people, require_enough
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
    anatomies : sequence of Path
        Images of brain labels, one of a person; each subject has the anatomy of one of them, in an
        order that the seed draws. Empty for ICBM152, differently deformed in each subject.
    mass_effect : float
        How far the tumour that patients have instead of other lesions pushes the tissue at its
        edge, in mm; 0 for no tumour.
    nuisance : Nuisance
        What varies beside the broad fields that all subjects have.

    Raises
    ------
    InputError
        The voxel size, the signal-to-noise ratio, the mass effect or the seed is out of range, or
        lesion masks are given and a mass effect too.
    """

    voxel_size: float = 3.0
    table: GradientTable = field(default_factory=standard_table)
    lesion_masks: Sequence[LesionMask] = ()
    kind: LesionKind = LESION_KINDS["demyelinating"]
    snr: float = 20.0
    seed: int = 0
    anatomies: Sequence[Path] = ()
    mass_effect: float = 0.0
    nuisance: Nuisance = SMOOTH

    def __post_init__(self) -> None:
        require_voxel_size(self.voxel_size)
        require_snr(self.snr)
        require_mass_effect(self.mass_effect)
        if self.mass_effect and self.lesion_masks:
            raise InputError(
                "A tumour takes the place of other lesions; give lesion masks or a mass effect, "
                "not both."
            )
        if self.seed < 0:
            raise InputError(f"The seed is {self.seed}; give one from 0 up.")

    def control(self, index: int, table: GradientTable | None = None) -> Subject:
        """Simulate a healthy subject, with a `table` of their own where one is given."""
        return simulate_subject(
            self._anatomy(index, patient=False),
            table or self.table,
            self._seed(0, index),
            snr=self.snr,
            nuisance=self.nuisance,
        )

    def patient(self, index: int, table: GradientTable | None = None) -> Subject:
        """Simulate a patient, likewise."""
        anatomy = self._anatomy(index, patient=True)
        return simulate_subject(
            anatomy,
            table or self.table,
            self._seed(1, index),
            lesions=None if self.mass_effect else self._lesions(index, anatomy),
            tumour=self._tumour(index, anatomy) if self.mass_effect else None,
            kind=self.kind,
            snr=self.snr,
            nuisance=self.nuisance,
        )

    def common_places(self, index: int, points: Float32) -> Float32:
        """Where points (..., 3) of a control's head lie in ICBM152 space, in mm."""
        return common_places(self._anatomy(index, patient=False), self._seed(0, index), points)

    def whose(self, index: int, *, patient: bool) -> int:
        """Which of the `anatomies` a control or patient has.

        Raises
        ------
        InputError
            There are not so many.
        """
        return place_in_order(len(self.anatomies), self.seed, patient=patient, index=index)

    def _anatomy(self, index: int, *, patient: bool) -> Anatomy:
        if not self.anatomies:
            return Anatomy.of_icbm152(self.voxel_size)
        return anatomy_of(self.anatomies[self.whose(index, patient=patient)], self.voxel_size)

    def _lesions(self, index: int, anatomy: Anatomy) -> LesionMask | None:
        maps = anatomy.maps if anatomy.own_shape else None
        if not self.lesion_masks:
            return draw_lesion_mask(np.random.default_rng(self._seed(2, index)), maps)
        given = self.lesion_masks[index % len(self.lesion_masks)]
        if maps is None:
            return given
        carried = carried_lesion_mask(given, maps, anatomy.common)
        return carried if carried[0].any() else None

    def _tumour(self, index: int, anatomy: Anatomy) -> Tumour:
        rng = np.random.default_rng(self._seed(2, index))
        return draw_tumour(rng, anatomy.maps, self.mass_effect)

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
    anatomies: Path | None = None,
    mass_effect: float = 0.0,
    nuisance: str = "smooth",
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
    anatomies : Path, optional
        A folder of images of brain labels, one of a person, and perhaps a `participants.tsv`: each
        subject has the anatomy of one of them. ICBM152 unless given.
    mass_effect : float
        See `Simulation`.
    nuisance : str
        One of `nuisance.NUISANCES`.
    force : bool
        Replace files that exist.
    progress : Progress

    Raises
    ------
    InputError
        A setting is unknown or out of range, a lesion mask or a label image cannot be used, or
        there are fewer anatomies than people.
    OutputError
        A file exists and `force` is not set, or cannot be written.
    """
    chosen = _choose(LAYOUTS, layout, "layout")
    if controls < 0 or patients < 0 or controls + patients == 0:
        raise InputError(
            f"{controls} controls and {patients} patients make no cohort; ask for at least one."
        )
    people = () if anatomies is None else read_people(anatomies)
    simulation = Simulation(
        voxel_size=voxel_size,
        table=standard_table() if table is None else table,
        lesion_masks=[_read_lesion_mask(path) for path in lesion_masks],
        kind=_choose(LESION_KINDS, kind, "kind of lesion"),
        snr=snr,
        seed=seed,
        anatomies=[person.labels for person in people],
        mass_effect=mass_effect,
        nuisance=_choose(NUISANCES, nuisance, "nuisance"),
    )
    whose: dict[str, Person] = {}
    healthy = [chosen.control(folder, number) for number in range(1, controls + 1)]
    ill = [chosen.patient(folder, number, patients) for number in range(1, patients + 1)]
    if anatomies is not None:
        require_enough(people, controls, patients, anatomies)
        whose = _whose(simulation, people, healthy, ill)
    if whose or mass_effect:
        healthy = [chosen.with_truth(folder, files, pushed=False) for files in healthy]
        ill = [chosen.with_truth(folder, files, pushed=mass_effect > 0) for files in ill]
    settings = {"Lesions": kind, "SNR": snr, "Seed": seed}
    settings |= {"MassEffect": mass_effect} if mass_effect else {}
    settings |= {"Nuisance": nuisance} if simulation.nuisance != SMOOTH else {}
    texts = chosen.texts(folder, healthy, ill, settings, whose)
    written = [path for files in (*healthy, *ill) for path in files.paths()]
    require_writable([*written, *texts], force=force)
    _write_scans(simulation, healthy, ill, progress)
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text)
    return _cohort_of(healthy, ill)


def _whose(
    simulation: Simulation,
    people: Sequence[Person],
    healthy: Sequence[SubjectFiles],
    ill: Sequence[SubjectFiles],
) -> dict[str, Person]:
    """Whose anatomy each subject has, by name; their labels are checked."""
    whose = {
        files.name: people[simulation.whose(index, patient=patient)]
        for patient, group in ((False, healthy), (True, ill))
        for index, files in enumerate(group)
    }
    for person in whose.values():
        common_affine(person.labels)
    return whose


def _write_scans(
    simulation: Simulation,
    healthy: Sequence[SubjectFiles],
    ill: Sequence[SubjectFiles],
    progress: Progress,
) -> None:
    simulated = chain(
        map(simulation.control, range(len(healthy))), map(simulation.patient, range(len(ill)))
    )
    with progress.task("Simulating", len(healthy) + len(ill)) as task:
        for files, subject in zip((*healthy, *ill), simulated, strict=True):
            write_subject(files, subject, simulation.table)
            if files.labels is not None and not subject.labels.any():
                _log.warning(_no_label(files.labels, simulation.voxel_size))
            task.advance(note=files.name)


def _cohort_of(healthy: Sequence[SubjectFiles], ill: Sequence[SubjectFiles]) -> Cohort:
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


def _read_lesion_mask(path: Path) -> LesionMask:
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

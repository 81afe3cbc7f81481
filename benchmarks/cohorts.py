"""Simulated cohorts to measure on: one protocol, healthy controls, patients with real lesions."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from qspace_nd.arrays import Bools, Float64
from qspace_nd.diffusion import fsl, gradients, normalise
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.simulation import (
    anatomy,
    cohort,
    common_space,
    head,
    label_anatomy,
    lesions,
    mass_effect,
    nuisance,
    people,
)
from qspace_nd.simulation.cohort import Simulation
from qspace_nd.simulation.head import Subject
from qspace_nd.simulation.lesions import LESION_KINDS
from qspace_nd.simulation.nuisance import NUISANCES
from qspace_nd.system.writing import replacing

Built = TypeVar("Built")
Rows = NDArray[np.intp]
Values = NDArray[np.float32]

DEVELOPMENT_SEEDS = (101, 102, 103)
"""Seeds of the cohorts that settings may be chosen on."""

FINAL_SEEDS = (9021, 9022, 9023)
"""Seeds of the cohorts that are measured on once, with frozen settings.

9001 to 9003 and 9011 to 9013 are spent: earlier settings were measured on them.
"""

PEOPLE = ("development", "final")
"""Halves of the people whose anatomies are known."""

MAIN_KIND = "demyelinating"
OTHER_KINDS = ("restricted", "mild-t2")
"""Kinds of lesion."""

LEAST_LESION_VOLUME = 10_000.0
"""mm³ of a lesion mask that is taken: below, few voxels of 3 mm are lesion by half."""

LEAST_LESION_VOXELS = 100
"""Lesion voxels that every patient must have."""

SIMULATOR = (
    *(anatomy, fsl, gradients, lesions, normalise, head, cohort),
    *(common_space, label_anatomy, mass_effect, nuisance, people),
)
"""What the voxels of a cohort depend on."""

LesionMask = tuple[Bools, Float64]


@dataclass(frozen=True)
class Design:
    """What a cohort is made of; equal designs give equal voxels.

    Attributes
    ----------
    seed : int
    voxel_size : float
        mm.
    reference, left_out, patients : int
        How many controls the methods learn from, how many they never see, how many patients.
    turn : float
        Degrees that heads are turned in the scanner by at most, each about an axis of its own.
    people : str
        Which of `PEOPLE` have their heads simulated; none for ICBM152, differently deformed.
    """

    seed: int
    voxel_size: float = 3.0
    reference: int = 8
    left_out: int = 4
    patients: int = 4
    turn: float = 0.0
    people: str = ""

    @property
    def name(self) -> str:
        return f"cohort-{self.seed}"


@dataclass(frozen=True, eq=False)
class Scan:
    """The voxels of one subject's brain.

    Attributes
    ----------
    name, kind : str
        The subject; its kind of lesion, "healthy" for a control.
    signal : (n, C) array
        Divided by the scan's mean.
    x : (n, C) array
        Divided by each channel's mean over the reference too: what the methods see.
    mask : (X, Y, Z) bool array
        With n voxels.
    labels, white_matter : (n,) bool array
    affine : (4, 4) array
    """

    name: str
    kind: str
    signal: Values
    x: Values
    mask: Bools
    labels: NDArray[np.bool_]
    white_matter: NDArray[np.bool_]
    affine: Float64

    def volume(self, values: NDArray[Any], outside: float = 0.0) -> NDArray[Any]:
        """Values (n,) or (n, m) of the voxels as a volume (X, Y, Z) or (X, Y, Z, m)."""
        volume = np.full(self.mask.shape + values.shape[1:], outside, values.dtype)
        volume[self.mask] = values
        return volume


@dataclass(eq=False)
class Cohort:
    """The scans of a design, simulated when they are first looked at.

    What methods fit is remembered by `once`, so that several scores can share it.

    Attributes
    ----------
    design : Design
    masks : sequence of LesionMask
        Of the patients' lesions; drawn ones without.
    jobs : int
        Processes that simulate.
    folder : Path or None
        Where scans, and what is costly to learn from them, are kept; nowhere without.
    """

    design: Design
    masks: Sequence[LesionMask] = ()
    jobs: int = 1
    folder: Path | None = None
    _memory: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, build: Callable[[], Built]) -> Built:
        """Build something for this cohort, or return what was built before."""
        if key not in self._memory:
            self._memory[key] = build()
        return self._memory[key]

    def kept(self, *sources: ModuleType) -> Path | None:
        """The folder of what depends on the whole design, and on modules beside the simulator."""
        if self.folder is None:
            return None
        return self.folder / f"{self.design.name}-{digest(self.design, *SIMULATOR, *sources)}"

    @property
    def table(self) -> GradientTable:
        return self._simulation(MAIN_KIND).table

    @cached_property
    def b0(self) -> Rows:
        """The channels without diffusion weighting."""
        return np.flatnonzero(self.table.bvals < 50)

    @cached_property
    def channel_means(self) -> Values:
        return normalise.channel_means([scan.signal for scan in self._recorded_reference])

    @cached_property
    def reference(self) -> tuple[Scan, ...]:
        """The controls that methods learn from."""
        return tuple(self._normalised(scan) for scan in self._recorded_reference)

    @cached_property
    def left_out(self) -> tuple[Scan, ...]:
        """The controls that no method sees before it scores them."""
        first = self.design.reference
        return self.controls(range(first, first + self.design.left_out))

    def controls(self, numbers: Sequence[int]) -> tuple[Scan, ...]:
        """Controls by their numbers, of which the first are the reference."""
        return tuple(self._normalised(scan) for scan in self._recorded("healthy", numbers))

    def patients(self, kind: str = MAIN_KIND) -> tuple[Scan, ...]:
        """The patients with one kind of lesion; the same heads whatever the kind."""
        return self.once(
            ("patients", kind),
            lambda: tuple(
                self._normalised(scan) for scan in self._recorded(kind, range(self.design.patients))
            ),
        )

    def reference_rows(self) -> Values:
        """The reference's voxels (N, C)."""
        return self.once("reference", lambda: np.concatenate([scan.x for scan in self.reference]))

    def turned(self, degrees: float) -> Cohort:
        """The same cohort with turned heads; the voxels of a scan are the same ones in order."""
        return self.once(
            ("turned", degrees), lambda: Cohort(replace(self.design, turn=degrees), self.masks)
        )

    def like(self, scan: Scan) -> Scan:
        """The scan of this cohort that has the name and kind of another's."""
        scans = self.left_out if scan.kind == "healthy" else self.patients(scan.kind)
        return next(one for one in scans if one.name == scan.name)

    @property
    def groups(self) -> NDArray[np.intp]:
        """The number of the subject that each of the reference's voxels is of."""
        return np.repeat(np.arange(len(self.reference)), [len(scan.x) for scan in self.reference])

    @cached_property
    def _recorded_reference(self) -> list[Scan]:
        return self._recorded("healthy", range(self.design.reference))

    def _recorded(self, kind: str, numbers: Sequence[int]) -> list[Scan]:
        """Scans that still have no x, simulated by `jobs` processes where none was kept."""

        def record(number: int) -> Scan:
            name = f"{'control' if kind == 'healthy' else 'patient'}-{number}"
            path = self._scans / f"{name}-{kind}.npz" if self._scans else None
            found = arrays(path, lambda: _arrays(self._subject(kind, number)))
            return Scan(name=name, kind=kind, x=found["signal"][:0], **found)

        if self.jobs == 1:
            return [record(number) for number in numbers]
        global _record  # which forked processes have, whatever it holds
        _record = record
        with get_context("fork").Pool(self.jobs) as pool:
            return pool.map(_recorded, numbers, chunksize=1)

    @property
    def _scans(self) -> Path | None:
        """The folder of scans, which do not depend on how many there are."""
        if self.folder is None:
            return None
        alone = replace(self.design, reference=0, left_out=0, patients=0)
        return self.folder / f"scans-{digest(alone, len(self.masks), *SIMULATOR)}"

    def _subject(self, kind: str, number: int) -> Subject:
        if kind == "healthy":
            return self._simulation(MAIN_KIND).control(number, self._turned(0, number))
        return self._simulation(kind).patient(number, self._turned(1, number))

    def _normalised(self, scan: Scan) -> Scan:
        x = scan.signal.copy()
        normalise.divide_by_channel_means(x, self.channel_means)
        return replace(scan, x=x)

    def _turned(self, purpose: int, number: int) -> GradientTable | None:
        """The gradients as a subject's head sees them: turned the other way than the head."""
        if not self.design.turn:
            return None
        rng = np.random.default_rng((self.design.seed, purpose, number))
        axis = rng.normal(size=3)
        angle = np.radians(rng.uniform(0, self.design.turn))
        turn = Rotation.from_rotvec(-angle * axis / np.linalg.norm(axis))
        return GradientTable(self.table.bvals, turn.apply(self.table.directions))

    def _simulation(self, kind: str) -> Simulation:
        order = np.random.default_rng(self.design.seed).permutation(len(self.masks))
        return self.once(
            ("simulation", kind),
            lambda: Simulation(
                voxel_size=self.design.voxel_size,
                lesion_masks=[self.masks[i] for i in order],
                kind=LESION_KINDS[kind],
                seed=self.design.seed,
                anatomies=anatomies(self.design.people) if self.design.people else (),
                nuisance=NUISANCES["rough" if self.design.people else "smooth"],
            ),
        )


_record: Callable[[int], Scan]


def _recorded(number: int) -> Scan:
    return _record(number)


def arrays(path: Path | None, build: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, Any]:
    """Build arrays, or read them from the file where they were kept; without one, keep nothing."""
    if path is None:
        return build()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        built = build()
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **built)
    with np.load(path) as found:
        return dict(found)


def real_lesion_masks() -> list[LesionMask]:
    """Read the drawn lesions of real patients that are large enough, by `QSPACE_ND_DATA`."""
    named = os.environ.get("QSPACE_ND_DATA")
    if not named:
        raise SystemExit("QSPACE_ND_DATA names no folder of real scans: set it, or use --quick.")
    masks = []
    for path in sorted((Path(named) / "ms" / "lesion_masks_mni").glob("*.nii.gz")):
        values, grid = read_volume(path)
        mask, affine = values > 0, np.asarray(grid.affine, dtype=np.float64)
        if mask.sum() * abs(np.linalg.det(affine[:3, :3])) >= LEAST_LESION_VOLUME:
            masks.append((mask, affine))
    return masks


def anatomies(half: str) -> list[Path]:
    """Brain labels of real people, every second one: those to develop on, or to measure on once."""
    named = os.environ.get("QSPACE_ND_DATA")
    if not named:
        raise SystemExit("QSPACE_ND_DATA names no folder of real scans: set it.")
    return [person.labels for person in people.read_people(Path(named) / "anatomy")][
        PEOPLE.index(half) :: len(PEOPLE)
    ]


def digest(*parts: Any) -> str:
    """Name settings and source files: a short hash of modules' texts and of all else by `repr`."""
    total = hashlib.sha256()
    for part in parts:
        source = getattr(part, "__file__", None)
        total.update(Path(source).read_bytes() if source else repr(part).encode())
    return total.hexdigest()[:12]


def _arrays(subject: Subject) -> dict[str, NDArray[Any]]:
    """What a `Scan` holds of a subject."""
    signal = subject.signal[subject.mask]
    normalise.divide_by_scan_mean(signal)
    return {
        "signal": signal,
        "mask": subject.mask,
        "labels": subject.labels[subject.mask],
        "white_matter": subject.white_matter[subject.mask],
        "affine": subject.affine,
    }

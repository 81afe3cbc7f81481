"""Patients with drawn lesions: fit, map, the rivals' maps by the same places, and what was found.

Rivals are scored at the places that ours have, and written as maps beside ours; `evaluate_maps`
then holds all of them against the same labels in the same voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import _benchmarks  # noqa: F401
import numpy as np
from cohorts import Scan
from heads_tables import FWHM
from numpy.typing import NDArray
from results import table
from summary import Interval, difference, interval

from qspace_nd import MapSettings, NoveltyModel, evaluate_maps, fit_scans, map_scans
from qspace_nd.arrays import Bools
from qspace_nd.evaluation import tables
from qspace_nd.evaluation.froc import FALSE_CLUSTERS
from qspace_nd.evaluation.metrics import BRAIN, Result
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.nifti import read_volume, write_volume
from qspace_nd.imaging.protocol import DEFAULT_OPTIONS, open_scans, protocol_of, read_scan
from qspace_nd.imaging.regridding import resample_mask
from qspace_nd.imaging.smoothing import smooth_inside
from qspace_nd.imaging.voxels import Voxels
from qspace_nd.imaging.zero_one import read_as_zero_one
from qspace_nd.layouts.maps import write_sidecar
from qspace_nd.scores.norms import NEAR, Lattice
from qspace_nd.scores.views import Located
from qspace_nd.workflows.placing import Placer

Values = NDArray[Any]
Rivals = Callable[[NoveltyModel], Callable[[Located], Mapping[str, Values]]]
"""By a model: what scores the voxels (n) of a scan by their places, (n,) each, by name."""

SMOOTHED = f", {FWHM:g} mm"
"""What tables of `eval` write behind a score whose map is smoothed."""

WHITE_MATTER = "label-WM_mask"
WHITE = 0.25
"""The mean FA of healthy people above which a place counts as white matter."""


@dataclass(frozen=True)
class Patient:
    """A patient's scan, and the lesions that were drawn.

    Attributes
    ----------
    name : str
        The subject, with its `sub-`.
    group : str
        The kind of disease, which is told apart.
    scan, labels : Path
        The labels may lie on another grid in the same space.
    """

    name: str
    group: str
    scan: Path
    labels: Path


class Healthy:
    """A model's healthy people as `placed_peers` sees a cohort's, at the places the model knows.

    Attributes
    ----------
    reference : tuple of Scan
        Without voxels.
    """

    def __init__(self, model: NoveltyModel) -> None:
        parts = model.reference_.parts
        self._memory: dict[Any, Any] = {}
        self.reference = tuple(
            self.place(f"{number} {part.subject}", part.views.located)
            for number, part in enumerate(parts)
        )

    def place(self, name: str, where: Located) -> Scan:
        """Say where a scan's voxels lie; give the scan."""
        none = np.empty(0)
        scan = Scan(name, "", none, none, none, none, none, np.eye(4))
        self._memory["located", scan.name, scan.kind] = where
        return scan

    def once(self, key: Any, build: Callable[[], Any]) -> Any:
        """What is remembered, or else built; `placed_peers.located` finds the places so."""
        if key not in self._memory:
            self._memory[key] = build()
        return self._memory[key]


def tensor_rivals(model: NoveltyModel) -> Callable[[Located], Mapping[str, Values]]:
    """z of log b=0, log MD and FA at the place, signed and of either sign; and their distance.

    These are `placed_peers.deviations`: mean and covariance of the model's healthy voxels within
    the same Gaussian around the place that ours know it by.
    """
    from heads_tables import MAHALANOBIS, SIGNED, UNSIGNED
    from placed_peers import deviations

    people = Healthy(model)
    fitted = deviations(people)  # type: ignore[arg-type]
    names = (*SIGNED, *UNSIGNED, MAHALANOBIS)

    def score(located: Located) -> Mapping[str, Values]:
        scan = people.place("patient", located)
        people._memory.pop(("deviations", None, scan.name, scan.kind), None)  # of the one before
        scores = fitted.score(scan, np.arange(len(located.points)))
        return dict(zip(names, scores.T, strict=True))

    return score


def white_matter(model: NoveltyModel) -> Callable[[Located], Bools]:
    """Where the mean FA of healthy people near the place is above `WHITE`."""
    healthy = [part.views.located for part in model.reference_.parts]
    points = [one.points.numpy() for one in healthy]
    anisotropies = [one.features.numpy()[:, 2:].astype(np.float64) for one in healthy]
    lattice = Lattice.around(points)
    mean = lattice.field(lattice.mean_near(zip(points, anisotropies, strict=True), NEAR))
    return lambda located: mean.at(located.points.numpy())[:, 0] > WHITE


def lesion_on(labels: Path, grid: Grid) -> Bools:
    """Drawn lesions on the grid of a map, as `eval --resample-labels` takes them."""
    values, found = read_volume(labels)
    marked = read_as_zero_one(labels, values, "lesion").marked
    return marked if found.same_as(grid) else resample_mask(marked, found, grid)


@dataclass
class Study:
    """A model of healthy people, and patients' maps by it and by rivals.

    Attributes
    ----------
    folder : Path
        For the model, the maps and what they are evaluated by; what is there already is kept.
    settings : MapSettings
        Of our maps.
    rivals : Rivals
    white : callable, optional
        By a model, what tells white matter by the place; without one it is not told apart.
    left_out : dict of str to str
        Why patients are not evaluated.
    """

    folder: Path
    settings: MapSettings
    rivals: Rivals
    white: Callable[[NoveltyModel], Callable[[Located], Bools]] | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    def fit(self, healthy: Sequence[Path], *, quick: bool, **how: Any) -> None:
        """Fit the model on scans of healthy people; tiny where it only has to run."""
        if not (self.folder / "model").exists():
            model = NoveltyModel(device="auto", epochs=1 if quick else None)
            fit_scans(healthy, model, self.folder / "model", calibrate=not quick, **how)

    @cached_property
    def model(self) -> NoveltyModel:
        return NoveltyModel.load(self.folder / "model")

    def results(self, patients: Sequence[Patient]) -> dict[str, list[Result]]:
        """Map patients, and evaluate each group of them; the results by group."""
        found: dict[str, list[Result]] = {}
        score, white = self.rivals(self.model), self.white and self.white(self.model)
        placer = Placer.from_arrays(self.model.template_ or {})
        mapped: dict[str, list[tuple[Patient, list[Path]]]] = {}
        for patient in patients:
            (files,) = map_scans([patient.scan], self.folder / "model", *self._where())
            voxels, located, wrong = self._placed(patient, placer)
            lesion = lesion_on(patient.labels, voxels.scan.grid)
            if located is None:
                self.left_out[patient.name] = wrong
            elif not lesion[voxels.mask].any():
                self.left_out[patient.name] = "no voxel of the map is lesion by the labels"
            else:
                theirs = self._write_rivals(patient, voxels, score(located))
                if white is not None:
                    marked = voxels.fill(white(located).astype(np.float32)) > 0
                    self._write_white(patient, marked | lesion, voxels.scan.grid)
                maps = [*files.maps.values(), *files.smoothed.values(), *theirs]
                mapped.setdefault(patient.group, []).append((patient, maps))
        for group, some in mapped.items():
            found[group] = evaluate_maps(
                [path for _, maps in some for path in maps],
                [patient.labels for patient, _ in some],
                self.folder / f"eval-{group}",
                within=[] if white is None else [self._white_path(one) for one, _ in some],
                resample_labels=True,
                force=True,
            ).results
        return found

    def _where(self) -> tuple[Path, MapSettings]:
        return self.folder / "maps", self.settings

    def _placed(self, patient: Patient, placer: Placer) -> tuple[Voxels, Located | None, str]:
        """Read a scan and register it as `map` does."""
        assert self.model.acquisition_ is not None
        protocol = protocol_of(self.model.acquisition_)
        (scan,) = open_scans([patient.scan], DEFAULT_OPTIONS)
        voxels = read_scan(scan, protocol)
        placement = placer.locate(voxels, protocol)
        return voxels, placement.located, placement.wrong or ""

    def _write_rivals(
        self, patient: Patient, voxels: Voxels, scores: Mapping[str, Values]
    ) -> list[Path]:
        paths = []
        for name, values in scores.items():
            volume = voxels.fill(values.astype(np.float32))
            sizes = voxels.scan.grid.voxel_sizes
            smooth = smooth_inside(volume, voxels.mask, sizes, FWHM)
            for suffix, one in (("", volume), (SMOOTHED, smooth)):
                paths.append(self._write(patient, voxels.scan.grid, name + suffix, one))
        return paths

    def _write(self, patient: Patient, grid: Grid, name: str, volume: Values) -> Path:
        slug = "".join(letter if letter.isalnum() else "-" for letter in name)
        path = self.folder / "rivals" / f"{patient.name}_{slug}_novelty.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sidecar(path, {"Score": name, "Patient": patient.name}, [patient.scan])
        write_volume(path, volume, grid)
        return path

    def _white_path(self, patient: Patient) -> Path:
        return self.folder / "white_matter" / f"{patient.name}_{WHITE_MATTER}.nii.gz"

    def _write_white(self, patient: Patient, marked: Bools, grid: Grid) -> None:
        path = self._white_path(patient)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(path, marked, grid)


# --- What is told


def section(
    results: Mapping[str, Sequence[Result]], knows: Mapping[str, str], ours: Collection[str]
) -> str:
    """The tables of all groups: what each method finds, and how far ours are ahead.

    Parameters
    ----------
    results : mapping of str to sequence of Result
        By group.
    knows : mapping of str to str
        What each method is told beside healthy people's scans, in the order of the table.
    ours : collection of str
        The names of ours; all others are rivals.
    """
    parts = []
    for group, some in results.items():
        number = len({one.patient for one in some})
        parts += [
            f"### {group}, {number} patient{'s' if number > 1 else ''}",
            _found(some, knows),
            "How far ours are ahead of each method that knows as much, the same patients:",
            _ahead(some, knows, ours),
        ]
    return "\n\n".join(parts)


def _found(results: Sequence[Result], knows: Mapping[str, str]) -> str:
    regions = list(dict.fromkeys(one.region for one in results))
    curves = {(row.region, row.score): row.froc for row in tables.table(results).rows}
    rows = []
    for name, told in _methods(results, knows):
        cells = [
            _interval_text(one)
            for region in regions
            for one in interval(_by_patient(results, name, region))
        ]
        curve = curves[BRAIN, name]
        shares = [f"{curve.at(number):.2f}" if curve else "–" for number in FALSE_CLUSTERS]
        dice = np.mean(
            [one.best_dice for one in results if (one.score, one.region) == (name, BRAIN)]
        )
        rows.append([name, told, *cells, *shares, f"{dice:.3f}"])
    figures = [f"{figure}, {_called(region)}" for region in regions for figure in ("AUC", "AP")]
    found = [f"found at {number} false" for number in FALSE_CLUSTERS]
    return table(["", "knows", *figures, *found, "best Dice"], rows)


def _ahead(results: Sequence[Result], knows: Mapping[str, str], ours: Collection[str]) -> str:
    regions = list(dict.fromkeys(one.region for one in results))
    methods = _methods(results, knows)
    rows = []
    for name, told in (one for one in methods if _bare(one[0]) in ours):
        for other, known in methods:
            rival = _bare(other) not in ours
            if rival and known == told and _is_smoothed(name) == _is_smoothed(other):
                cells = [
                    f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
                    for region in regions
                    for one in difference(
                        _by_patient(results, name, region), _by_patient(results, other, region)
                    )
                ]
                rows.append([name, other, told, *cells])
    figures = [f"{figure}, {_called(region)}" for region in regions for figure in ("AUC", "AP")]
    return table(["", "ahead of", "both know", *figures], rows)


def _methods(results: Sequence[Result], knows: Mapping[str, str]) -> list[tuple[str, str]]:
    """The methods that there are results of, and what they know: all raw ones, then smoothed."""
    there = {one.score for one in results}
    named = [(name + end, told) for end in ("", SMOOTHED) for name, told in knows.items()]
    return [one for one in named if one[0] in there]


def _is_smoothed(name: str) -> bool:
    return name.endswith(SMOOTHED)


def _bare(name: str) -> str:
    return name.removesuffix(SMOOTHED)


def _called(region: str) -> str:
    return "white matter" if region == WHITE_MATTER else region


def _by_patient(results: Sequence[Result], name: str, region: str) -> dict[Any, Values]:
    """AUC and average precision by patient, as `summary` takes them."""
    return {
        (region, one.patient): np.array([one.auc, one.average_precision])
        for one in results
        if (one.score, one.region) == (name, region)
    }


def _interval_text(one: Interval) -> str:
    return f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]"

"""Comparing novelty maps with lesion labels, from files to tables and figures."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qspace_nd._version import __version__
from qspace_nd.arrays import Bools, Float32
from qspace_nd.calibration.forming import CLUSTER_SHARE
from qspace_nd.errors import LabelError, ScanError, listed
from qspace_nd.evaluation.curves import froc_plot, precision_plot, roc_plot
from qspace_nd.evaluation.froc import Curve, froc
from qspace_nd.evaluation.histograms import histograms
from qspace_nd.evaluation.metrics import BRAIN, Case, Result, evaluate
from qspace_nd.evaluation.mosaic import write_mosaic
from qspace_nd.evaluation.shown import Shown
from qspace_nd.evaluation.shown_on import anatomy_of
from qspace_nd.evaluation.tables import by_score, require_distinct, to_json, to_tsv
from qspace_nd.imaging.grid import Grid, require_same_grid
from qspace_nd.imaging.masks import read_mask
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.imaging.regridding import resample_mask
from qspace_nd.imaging.zero_one import ZeroOne, read_as_zero_one
from qspace_nd.layouts.facts import read_facts
from qspace_nd.layouts.maps import MapRecord
from qspace_nd.layouts.names import stem
from qspace_nd.layouts.pairing import find_maps, group_by_patient, pair, pair_regions
from qspace_nd.progress import Progress, watcher
from qspace_nd.scores.catalogue import CATALOGUE, DIRECTED
from qspace_nd.scores.names import BASELINE_SCORE, DEFAULT_SCORE
from qspace_nd.system.hashing import hash_of, hash_of_file
from qspace_nd.system.locking import alone, lock_of
from qspace_nd.system.writing import remove_leftovers, require_writable, together, write_text

FIGURES = {
    "roc.png": roc_plot,
    "precision-recall.png": precision_plot,
    "froc.png": froc_plot,
    "histograms.png": histograms,
}
"""The figures of all results together, and what draws them."""

_STAMP = "inputs"
"""What the hash of all that an evaluation was made of is called in its JSON file."""

_RESAMPLED = "resampled_labels"
"""What that file calls how labels on other grids were brought onto their maps'."""

_log = logging.getLogger(__name__)

_MOST = 0.25  # of the mask: lesions take less; of several labels that take more, some are tissue


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_maps` found and where it lies.

    Attributes
    ----------
    results : list of Result
        One for each map and region.
    files : list of Path
        The tables and figures.
    """

    results: list[Result]
    files: list[Path]


@dataclass(frozen=True)
class _Patient:
    """The maps of one scan, and the files that they are evaluated by."""

    name: str
    maps: list[MapRecord]
    labels: Path
    mask: Path
    within: dict[str, Path]


@dataclass(frozen=True, eq=False)
class _Truth:
    """What a patient's maps are held against.

    Attributes
    ----------
    grid : Grid
    lesion : array (X, Y, Z) bool
    regions : dict of str to array (X, Y, Z) bool
        The voxels to evaluate, the whole mask first.
    resampled : str
        How the labels came onto the grid, where they lay on another.
    """

    grid: Grid
    lesion: Bools
    regions: dict[str, Bools]
    resampled: str = ""

    @property
    def mask(self) -> Bools:
        """All voxels to evaluate."""
        return self.regions[BRAIN]


def evaluate_maps(
    maps: Sequence[str | Path],
    labels: Sequence[str | Path],
    folder: str | Path,
    *,
    masks: Sequence[str | Path] = (),
    within: Sequence[str | Path] = (),
    resample_labels: bool = False,
    force: bool = False,
    progress: Progress | bool = False,
) -> Evaluation:
    """Compare novelty maps with lesion labels; write tables and figures to `folder`.

    Parameters
    ----------
    maps, labels : sequence of str or Path
        Files or folders; see `qspace_nd.layouts.pairing.pair`.
    folder : str or Path
        For eval.json, eval.tsv, `FIGURES` and slices of each patient.
    masks : sequence of str or Path
        Voxels to evaluate, in place of the masks beside the maps.
    within : sequence of str or Path
        Regions, white matter for example, that are evaluated beside the whole mask; each is called
        by what its files' names say beside the patient (`qspace_nd.layouts.pairing.pair_regions`).
    resample_labels : bool
        Bring labels that lie on another grid than their map onto it
        (`qspace_nd.imaging.regridding.resample_mask`), rather than refuse them.
    force : bool
        Replace files that exist.
    progress : Progress or bool
        True to show bars.

    Raises
    ------
    InputError
        Something does not fit together, or an output exists; nothing was written.
    """
    folder = Path(folder)
    patients = _pair(*(list(map(Path, paths)) for paths in (maps, labels, masks, within)))
    stamp = _stamp(patients)
    files = [folder / name for name in ("eval.json", "eval.tsv", *FIGURES)]
    files += [folder / f"slices_{patient.name}.png" for patient in patients]
    _require_free(files, stamp, force=force)
    evaluated = _evaluate(patients, watcher(progress), resample_labels=resample_labels)
    with alone(lock_of(files[0]), folder):
        _require_free(files, stamp, force=force)  # another process may have written meanwhile
        remove_leftovers(files)
        with together(force=force):
            _write(files, stamp, evaluated)
            if _stamp(patients) != stamp:
                raise ScanError(
                    f"The maps or their labels, {patients[0].maps[0].path} for one, were changed "
                    f"while they were evaluated; run the command again when they are written."
                )
    return Evaluation(evaluated.results, files)


# --- The tables and figures


def _stamp(patients: Sequence[_Patient]) -> str:
    """Hash all that an evaluation is made of: what it was begun with is what it goes on with."""
    facts = [__version__.encode()]
    for one in patients:
        facts.append(f"{one.name} {[(each.score, each.latents) for each in one.maps]}".encode())
        facts.append(f"{[*one.within]}".encode())
        paths = [path for each in one.maps for path in (each.path, each.neglogp)]
        for path in (*paths, one.labels, one.mask, *one.within.values(), one.maps[0].scan):
            with suppress(OSError):  # that it cannot be read is said when it is
                facts.append(b"-" if path is None else hash_of_file(path).encode())
    return hash_of([json.dumps([fact.decode() for fact in facts]).encode()])


def _require_free(files: Sequence[Path], stamp: str, *, force: bool) -> None:
    """Check that files can be written: none is there, or what the same evaluation began."""
    try:
        begun = read_facts(files[0]).get(_STAMP) == stamp
    except ValueError:  # there is none, or another program's
        begun = False
    require_writable(files, force=force or begun)


def _write(files: Sequence[Path], stamp: str, evaluated: _Evaluated) -> None:
    results, shown = evaluated.results, evaluated.shown
    resampled = {_RESAMPLED: evaluated.resampled} if evaluated.resampled else {}
    facts = {_STAMP: stamp, **resampled, **to_json(results)}
    write_text(files[0], json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    write_text(files[1], to_tsv(results))
    slices_at = 2 + len(FIGURES)
    for path, draw in zip(files[2:slices_at], FIGURES.values(), strict=True):
        draw(path, results)
    for path, one in zip(files[slices_at:], shown, strict=True):
        write_mosaic(path, one)


# --- What belongs together


def _pair(
    maps: Sequence[Path],
    labels: Sequence[Path],
    masks: Sequence[Path],
    within: Sequence[Path],
) -> list[_Patient]:
    """Find the files that each patient's maps are evaluated by."""
    groups = group_by_patient(find_maps(maps, DIRECTED), CATALOGUE)
    label_paths = pair(groups, labels, "--labels")
    mask_paths = pair(groups, masks, "--mask") if masks else [_own_mask(group) for group in groups]
    regions = pair_regions(groups, within, BRAIN) if within else [{} for _ in groups]
    found = zip(_distinct_names(groups), groups, label_paths, mask_paths, regions, strict=True)
    return [_Patient(*files) for files in found]


def _own_mask(records: Sequence[MapRecord]) -> Path:
    mask = records[0].mask
    if mask is None:
        raise ScanError(
            f"The mask of {records[0].path} is not beside it; name the voxels to evaluate with "
            f"--mask."
        )
    return mask


def _distinct_names(patients: Sequence[Sequence[MapRecord]]) -> list[str]:
    """Name each patient, by the map's file where two would be called the same."""
    names = [records[0].patient for records in patients]
    return [
        name if names.count(name) == 1 else stem(records[0].path)
        for name, records in zip(names, patients, strict=True)
    ]


# --- All patients


@dataclass(frozen=True, eq=False)
class _Evaluated:
    """What is written.

    Attributes
    ----------
    results : list of Result
    shown : list of Shown
        A picture for each patient.
    resampled : dict of str to str
        How labels were brought onto the grid of their maps, by patient.
    """

    results: list[Result]
    shown: list[Shown]
    resampled: dict[str, str]


def _evaluate(
    patients: Sequence[_Patient], progress: Progress, *, resample_labels: bool
) -> _Evaluated:
    results: list[Result] = []
    shown: list[Shown] = []
    truths: dict[str, _Truth] = {}
    number = sum(len(patient.maps) for patient in patients)
    with progress.task("Evaluating maps", number) as task:
        for patient in patients:
            truth = truths[patient.name] = _truth(patient, resample_labels=resample_labels)
            cases = [_case(record, patient.name, truth) for record in patient.maps]
            for case in cases:
                results += _results(case, truth)
                task.advance(note=patient.name)
            shown.append(_choose_shown(cases, patient, truth))
    require_distinct(results)
    resampled = {name: truth.resampled for name, truth in truths.items() if truth.resampled}
    return _Evaluated(_with_curves(results, patients, truths, progress), shown, resampled)


def _with_curves(
    results: Sequence[Result],
    patients: Sequence[_Patient],
    truths: dict[str, _Truth],
    progress: Progress,
) -> list[Result]:
    """Add the curves of false clusters, for which the maps of a score are looked at together."""
    paths = {
        (patient.name, record.score, _latents(record)): record.path
        for patient in patients
        for record in patient.maps
    }
    curves: dict[object, Curve] = {}
    with progress.task("Counting false clusters", len(results)) as task:
        for group in by_score(results):
            own = [truths[one.patient] for one in group]
            curve = froc(
                [read_volume(paths[one.key[:3]])[0] for one in group],
                [truth.lesion for truth in own],
                [truth.regions[one.region] for truth, one in zip(own, group, strict=True)],
            )
            for at, one in enumerate(group):
                curves[one.key] = curve.of(np.array([at]))
            task.advance(len(group), note=group[0].score)
    return [replace(one, froc=curves[one.key]) for one in results]


# --- One patient


def _truth(patient: _Patient, *, resample_labels: bool) -> _Truth:
    """Read what a patient's maps are held against."""
    _, grid = read_volume(patient.maps[0].path)
    mask = _read_mask(patient.mask, grid)
    labels, lesion, resampled = _read_labels(patient.labels, grid, resample=resample_labels)
    _require_told_apart(patient.labels, labels, lesion, mask)
    outside = int((lesion & ~mask).sum())
    if outside:
        _log.warning(
            f"{patient.labels} marks {outside} lesion voxels outside the mask {patient.mask}; "
            f"they are not evaluated."
        )
    regions = {name: mask & _read_mask(path, grid) for name, path in patient.within.items()}
    return _Truth(grid, lesion, {BRAIN: mask} | regions, resampled)


def _case(record: MapRecord, patient: str, truth: _Truth) -> Case:
    return Case(
        patient,
        record.score,
        _read_map(record.path, truth),
        truth.lesion,
        truth.mask,
        latents=_latents(record),
        neglogp=None if record.neglogp is None else _read_map(record.neglogp, truth),
    )


def _read_map(path: Path, truth: _Truth) -> Float32:
    values, found = read_volume(path)
    require_same_grid(path, found, truth.grid)
    nonfinite = int((~np.isfinite(values[truth.mask])).sum())
    if nonfinite:
        raise ScanError(
            f"{path} holds NaN or infinity in {nonfinite} voxels of its mask; map the scan again, "
            f"or name a mask without them with --mask."
        )
    return values


def _latents(record: MapRecord) -> int | None:
    return None if record.score == BASELINE_SCORE else record.latents  # it uses none


def _read_labels(path: Path, grid: Grid, *, resample: bool) -> tuple[ZeroOne, Bools, str]:
    """Read lesions on the grid of a map: as they are, as (X, Y, Z) bool, and how they came there.

    The last is empty where they lie on that grid.
    """
    values, found = read_volume(path)
    if not resample:
        advice = (
            "give --resample-labels, if both lie in the same space, to have it resampled onto the "
            "map's grid, or name another file"
        )
        require_same_grid(path, found, grid, advice)
    nonfinite = int((~np.isfinite(values)).sum())
    if nonfinite:
        raise LabelError(f"{path} holds NaN or infinity in {nonfinite} voxels; give 0 and 1.")
    labels = read_as_zero_one(path, values, "lesion", LabelError)
    if found.same_as(grid):
        return labels, labels.marked, ""
    lesion, told = _resampled(path, labels.marked, found, grid)
    _log.info(told)
    return labels, lesion, told


def _resampled(path: Path, marked: Bools, found: Grid, grid: Grid) -> tuple[Bools, str]:
    """Bring lesions onto the grid of a map, and say so."""
    if not (found.is_oriented and grid.is_oriented):
        which = "it" if not found.is_oriented else "its map"
        raise LabelError(
            f"{path} lies on another grid than its map, and the header of {which} does not say "
            f"where the voxels are (its qform and sform codes are 0); expected a header that does: "
            f"resample the labels with what made them."
        )
    lesion = resample_mask(marked, found, grid)
    before, after = (
        np.count_nonzero(voxels) * abs(np.linalg.det(one.affine[:3, :3])) / 1000
        for voxels, one in ((marked, found), (lesion, grid))
    )
    return lesion, (
        f"{path} was resampled onto the grid of the map, by the headers and without registration: "
        f"lesions interpolated linearly, a voxel is lesion where that is more probable than not; "
        f"{before:.3g} ml in {found.describe()} became {after:.3g} ml in {grid.describe()}."
    )


def _require_told_apart(path: Path, labels: ZeroOne, lesion: Bools, mask: Bools) -> None:
    """Check that there is lesion and healthy tissue within the mask; say how labels were read."""
    if not lesion[mask].any():
        raise LabelError(
            f"{path} marks no voxel as lesion within the mask, and {lesion.sum()} outside it (the "
            f"file marks {np.count_nonzero(labels.marked)}); give labels with at least one voxel "
            f"of 1 there."
        )
    if lesion[mask].all():
        raise LabelError(
            f"{path} marks every voxel of the mask as lesion; give labels in which healthy tissue "
            f"is 0."
        )
    share = lesion[mask].mean()
    if share > _MOST and len(labels.labels) > 1:
        raise LabelError(
            f"{path} holds the labels {listed(labels.labels)}, in {100 * share:.0f} % of the "
            f"mask; expected lesions alone: give a file in which nothing else is above 0, as "
            f"`fslmaths X -thr {labels.labels[-1]} -uthr {labels.labels[-1]} -bin Y` "
            f"makes of one label."
        )
    if share > _MOST:
        _log.warning(
            f"{path} marks {100 * share:.0f} % of the mask as lesion; see that it is the labels."
        )
    for note in labels.notes:
        _log.warning(note)


def _read_mask(path: Path, grid: Grid) -> Bools:
    """Read the voxels to evaluate; say how, where they are not 0 and 1."""
    mask = read_mask(path, grid)
    for note in mask.notes:
        _log.warning(note)
    return mask.marked


def _results(case: Case, truth: _Truth) -> Iterator[Result]:
    """Evaluate a map in its mask, and in each region that is named."""
    voxel_volume = float(abs(np.linalg.det(truth.grid.affine[:3, :3])))  # mm³
    for region, mask in truth.regions.items():
        yield evaluate(replace(case, mask=mask, region=region), voxel_volume)


# --- Figures


def _choose_shown(cases: Sequence[Case], patient: _Patient, truth: _Truth) -> Shown:
    """The default score's map, or else the first, over the scan that it was made of."""
    pairs = list(zip(cases, patient.maps, strict=True))
    case, record = next((pair for pair in pairs if pair[0].score == DEFAULT_SCORE), pairs[0])
    return Shown(
        case.novelty,
        case.mask,
        truth.grid.affine,
        record.forming_share or CLUSTER_SHARE,
        f"{case.patient}, {case.score}",
        neglogp=case.neglogp,
        anatomy=anatomy_of(record, truth.grid),
        labels=case.labels,
        oriented=truth.grid.is_oriented,
    )

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
from qspace_nd.imaging.zero_one import read_as_zero_one
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
    """

    grid: Grid
    lesion: Bools
    regions: dict[str, Bools]

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
    results, shown = _evaluate(patients, watcher(progress))
    with alone(lock_of(files[0]), folder):
        _require_free(files, stamp, force=force)  # another process may have written meanwhile
        remove_leftovers(files)
        with together(force=force):
            _write(files, stamp, results, shown)
            if _stamp(patients) != stamp:
                raise ScanError(
                    f"The maps or their labels, {patients[0].maps[0].path} for one, were changed "
                    f"while they were evaluated; run the command again when they are written."
                )
    return Evaluation(results, files)


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


def _write(
    files: Sequence[Path], stamp: str, results: Sequence[Result], shown: Sequence[Shown]
) -> None:
    facts = {_STAMP: stamp, **to_json(results)}
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


def _evaluate(patients: Sequence[_Patient], progress: Progress) -> tuple[list[Result], list[Shown]]:
    results: list[Result] = []
    shown: list[Shown] = []
    truths: dict[str, _Truth] = {}
    number = sum(len(patient.maps) for patient in patients)
    with progress.task("Evaluating maps", number) as task:
        for patient in patients:
            truth = truths[patient.name] = _truth(patient)
            cases = [_case(record, patient.name, truth) for record in patient.maps]
            for case in cases:
                results += _results(case, truth)
                task.advance(note=patient.name)
            shown.append(_choose_shown(cases, patient, truth))
    require_distinct(results)
    return _with_curves(results, patients, truths, progress), shown


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


def _truth(patient: _Patient) -> _Truth:
    """Read what a patient's maps are held against."""
    _, grid = read_volume(patient.maps[0].path)
    mask = _read_mask(patient.mask, grid)
    lesion = _read_labels(patient.labels, grid, mask)
    outside = int((lesion & ~mask).sum())
    if outside:
        _log.warning(
            f"{patient.labels} marks {outside} lesion voxels outside the mask {patient.mask}; "
            f"they are not evaluated."
        )
    regions = {name: mask & _read_mask(path, grid) for name, path in patient.within.items()}
    return _Truth(grid, lesion, {BRAIN: mask} | regions)


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


def _read_labels(path: Path, grid: Grid, mask: Bools) -> Bools:
    values, found = read_volume(path)
    require_same_grid(path, found, grid)
    nonfinite = int((~np.isfinite(values)).sum())
    if nonfinite:
        raise LabelError(f"{path} holds NaN or infinity in {nonfinite} voxels; give 0 and 1.")
    found_labels = read_as_zero_one(path, values, "lesion", LabelError)
    lesion = found_labels.marked
    if not lesion[mask].any():
        raise LabelError(
            f"{path} marks no voxel as lesion within the mask, and {lesion.sum()} outside it (its "
            f"largest value is {values.max():.3g}); give labels with at least one voxel of 1 there."
        )
    if lesion[mask].all():
        raise LabelError(
            f"{path} marks every voxel of the mask as lesion; give labels in which healthy tissue "
            f"is 0."
        )
    share = lesion[mask].mean()
    if share > _MOST and len(found_labels.labels) > 1:
        raise LabelError(
            f"{path} holds the labels {listed(found_labels.labels)}, in {100 * share:.0f} % of the "
            f"mask; expected lesions alone: give a file in which nothing else is above 0, as "
            f"`fslmaths X -thr {found_labels.labels[-1]} -uthr {found_labels.labels[-1]} -bin Y` "
            f"makes of one label."
        )
    if share > _MOST:
        _log.warning(
            f"{path} marks {100 * share:.0f} % of the mask as lesion; see that it is the labels."
        )
    for note in found_labels.notes:
        _log.warning(note)
    return lesion


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

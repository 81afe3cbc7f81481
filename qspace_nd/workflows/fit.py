"""From files to files: what the commands call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qspace_nd._version import __version__
from qspace_nd.arrays import Bools, Float32
from qspace_nd.errors import InputError, LabelError, OutputError, ScanError
from qspace_nd.evaluation import curves
from qspace_nd.evaluation.metrics import Case, Result, evaluate
from qspace_nd.evaluation.tables import to_json, to_tsv
from qspace_nd.imaging.acquisition import Acquisition, HealthyScan
from qspace_nd.imaging.grid import Grid, require_same_grid
from qspace_nd.imaging.normalise import channel_means, divide_by_channel_means
from qspace_nd.imaging.protocol import (
    DEFAULT_OPTIONS,
    RAW,
    Protocol,
    ScanOptions,
    bring_to,
    common_protocol,
    open_scans,
    protocol_of,
    read_scan,
)
from qspace_nd.imaging.scans import (
    Scan,
    Voxels,
    open_scan,
    read_mask,
    read_volume,
    read_voxels,
    write_volume,
)
from qspace_nd.imaging.smoothing import smooth_inside
from qspace_nd.layouts.derivatives import describe, require_own, uri_of
from qspace_nd.layouts.maps import (
    MapFiles,
    MapRecord,
    name_maps,
    names_a_file,
    write_sidecar,
)
from qspace_nd.layouts.pairing import find_maps, group_by_patient, pair
from qspace_nd.layouts.scans import find_scans, stem
from qspace_nd.model import store
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.rows import Healthy, as_part
from qspace_nd.model.tuning import Trial, require_tunable, tune
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.catalogue import find_score, nearest_of
from qspace_nd.scores.names import BASELINE_SCORE, DEFAULT_SCORE
from qspace_nd.system.scratch import Scratch, ScratchArray
from qspace_nd.system.writing import require_writable, write_text
from qspace_nd.workflows.jobs import MapJob, do_each, outstanding


def fit_scans(
    paths: Iterable[str | Path],
    model: NoveltyModel,
    folder: Path,
    *,
    features: str = RAW,
    tuned: Sequence[str] | None = None,
    options: ScanOptions = DEFAULT_OPTIONS,
    memory: int | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> None:
    """Fit `model` on healthy scans and save it to `folder`.

    Masks that had to be computed are saved in the folder's `masks/`. `features` says what the
    model's channels are, `protocol.RAW` or `protocol.ROTATION_INVARIANT`. `tuned` names settings,
    of `tuning.CHOICES`, that are chosen rather than taken from `model`, and neighbours with them;
    None for nothing. `memory` is how many bytes the process may use, by default three quarters of
    what is available; scans are held one at a time, and their voxels kept on the disk meanwhile.

    Raises
    ------
    InputError
        The scans are wrong or unlike each other, or the folder is taken; nothing was written.
    """
    store.require_new(folder, force=force)
    scans = open_scans(paths, options, progress)
    protocol = common_protocol(scans, options, features, progress)
    if tuned is not None:
        subjects = {scan.files.subject for scan in scans}
        require_tunable(protocol.gradients, protocol.features, len(subjects))
    with Scratch(folder) as scratch:
        kept = [_keep(scan, protocol, options, scratch, progress) for scan in scans]
        _require_distinct(kept)
        for one in kept:
            _warn_of(one, progress)
        means = protocol.scales(channel_means(one.values[:] for one in kept))
        for one in kept:
            scratch.change(one.values, partial(divide_by_channel_means, means=means))
        scans_used = tuple(one.healthy for one in kept)
        acquisition = Acquisition(
            means, protocol.gradients, scans_used, protocol.resampled, protocol.features
        )
        subjects = {scan.subject for scan in scans_used}
        if len(subjects) == 1:
            progress.warn(
                f"All healthy voxels are of one subject, {scans_used[0].subject}: a block of its "
                f"slices is held out for validation, and differences between people look like "
                f"disease; fit on scans of several people."
            )
        progress.say(
            f"{sum(scan.voxels for scan in scans_used):,} healthy voxels of "
            f"{_count(len(subjects), 'subject')} in {len(means)} channels"
        )
        healthy = [Healthy(one.healthy.subject, one.values) for one in kept]
        if tuned is not None:
            model, trials = tune(
                model, healthy, acquisition, tuned, memory=memory, progress=progress
            )
            _report_trials(trials, progress)
        else:
            model.fit_parts(healthy, acquisition=acquisition, memory=memory, progress=progress)
        _report(model, progress)
        model.save(folder, force=force, progress=progress)
        model.reference_ = store.map_reference(folder, model.network_)  # the scratch file goes
        _save_computed_masks(kept, folder, progress)


def add_scans(
    paths: Iterable[str | Path],
    folder: Path,
    *,
    options: ScanOptions = DEFAULT_OPTIONS,
    device: str = "auto",
    progress: Progress = SILENT,
) -> None:
    """Add healthy scans to the reference of the model in `folder`.

    Its network and its channel means stay as they are, and what is in the folder is not written
    again but for `model.json`, last: until then the model is the old one.

    Raises
    ------
    InputError
        A scan is in the model already, or does not fit its protocol; nothing was written.
    """
    model, acquisition = NoveltyModel.load(folder, device), store.read_acquisition(folder)
    protocol = protocol_of(acquisition)
    scans = open_scans(paths, options, progress)
    for scan in scans:
        bring_to(scan, protocol, options)  # before the first is read, which takes a while
    with Scratch(folder) as scratch:
        kept = [_keep(scan, protocol, options, scratch, progress) for scan in scans]
        _require_distinct(kept)
        known = {scan.digest: scan for scan in acquisition.scans}
        for one in kept:
            same = known.get(one.healthy.digest)
            if same is not None:
                raise ScanError(
                    f"{one.scan.files.image} is in the model in {folder} already, as {same.name} "
                    f"of the subject {same.subject}; add scans that are not."
                )
        for one in kept:
            _warn_of(one, progress)
            scratch.change(
                one.values, partial(divide_by_channel_means, means=acquisition.channel_means)
            )
        parts = [as_part(Healthy(one.healthy.subject, one.values), model.network_) for one in kept]
        added = tuple(one.healthy for one in kept)
        acquisition = replace(acquisition, scans=(*acquisition.scans, *added))
        store.add(folder, parts, acquisition, progress)
        _save_computed_masks(kept, folder, progress)
    progress.say(
        f"Added {sum(scan.voxels for scan in added):,} voxels of {_count(len(added), 'scan')}: the "
        f"reference is {sum(scan.voxels for scan in acquisition.scans):,} voxels of "
        f"{_count(len(acquisition.scans), 'scan')} now"
    )


@dataclass(frozen=True)
class _Kept:
    """A healthy scan that was read, its voxels and mask on the disk."""

    scan: Scan
    healthy: HealthyScan
    values: ScratchArray  # (n, C)
    mask: ScratchArray  # (X, Y, Z)
    computed_mask: bool
    warnings: tuple[str, ...]


def _keep(
    scan: Scan, protocol: Protocol, options: ScanOptions, scratch: Scratch, progress: Progress
) -> _Kept:
    """Read a scan and let go of it: only one is in memory at a time."""
    voxels = read_scan(scan, protocol, options, progress)
    return _Kept(
        scan,
        HealthyScan(scan.files.name, scan.files.subject, voxels.digest, len(voxels.values)),
        scratch.keep(voxels.values),
        scratch.keep(voxels.mask),
        voxels.computed_mask,
        voxels.warnings,
    )


def _save_computed_masks(kept: Sequence[_Kept], folder: Path, progress: Progress) -> None:
    for one in kept:
        if one.computed_mask:
            path = folder / "masks" / f"{one.scan.files.name}_mask.nii.gz"
            path.parent.mkdir(exist_ok=True)
            write_volume(path, one.mask[:], one.scan.grid)
            progress.say(f"{one.scan.files.image} had no brain mask; the one computed is {path}")


def _report_trials(trials: Sequence[Trial], progress: Progress) -> None:
    """Say what each setting reached, the chosen one first."""
    progress.say("AUC of changed healthy white matter of left-out people, by settings:")
    for trial in trials:
        settings = ", ".join(f"--{key.replace('_', '-')} {v}" for key, v in trial.settings.items())
        dead = f"  (dead latents: {trial.dead})" if trial.dead else ""
        progress.say(f"  {trial.auc:.4f}  {settings}{dead}")


def _report(model: NoveltyModel, progress: Progress) -> None:
    """Say whether the network learned: a user without lesion labels has nothing else to go by."""
    history = model.history_
    progress.say(
        f"Validation loss {history.validation_loss:.2f} nats a voxel; latents alive "
        f"{history.latents_alive} of {model.latents}; KL of each, in nats: "
        f"{', '.join(f'{kl:.1f}' for kl in history.latent_kl)}"
    )
    dead = model.latents - history.latents_alive
    if dead:
        progress.warn(
            f"{dead} of {model.latents} latents are dead: they carry nothing of the signal, and "
            f"lesions may go unseen; lower --kl-weight or take fewer --latents."
        )
    if history.still_falling:
        progress.warn(
            "The validation loss was still falling when training ended; what the map shows may "
            "get better with more steps."
        )


def map_scans(
    paths: Iterable[str | Path],
    folder: Path,
    output: Path,
    *,
    scores: Sequence[str],
    neighbours: int | None = None,
    approximate: bool = False,
    smooth: float | None = None,
    options: ScanOptions = DEFAULT_OPTIONS,
    memory: int | None = None,
    device: str = "auto",
    force: bool = False,
    progress: Progress = SILENT,
) -> list[MapFiles]:
    """Write the novelty maps of scans by the model in `folder`.

    Where `output` is a folder, scans that are mapped there already, from the same files by the same
    model, settings and version, are skipped, and one of several scans that fails while it is read
    or mapped, or whose maps were made otherwise, is reported when the others are done.

    Parameters
    ----------
    paths : iterable of str or Path
        Scans.
    folder, output : Path
        Of the model; and where to write to (see `qspace_nd.layouts.maps.name_maps`).
    scores : sequence of str
        Their names.
    neighbours : int, optional
        The nearest healthy voxels that distances are the mean to; by default the model's.
    approximate : bool
        Miss some of the nearest, for speed; the sidecars say how many were found.
    memory : int, optional
        Bytes that the process may use; by default three quarters of what is available.
    smooth : float, optional
        Full width at half maximum, in mm, of the Gaussian that a second map of each score is
        smoothed with inside the mask.

    Returns
    -------
    list of MapFiles
        Of every scan, those that were skipped too.

    Raises
    ------
    InputError
        A scan's header or gradients, the model or the output is wrong; nothing was written.
    WorkError
        Some of several scans could not be mapped; the others were.
    """
    for score in scores:
        find_score(score)
        if approximate:
            nearest_of(score)
    model_hash = store.read_index(folder)["hash"]
    scans = open_scans(paths, options, progress)
    outputs = name_maps([scan.files for scan in scans], output, scores)
    if smooth is not None:
        outputs = [files.with_smoothed() for files in outputs]
    resume = not names_a_file(output)
    # Before the model is read, which takes a while.
    _require_free(outputs, scans, force=force or resume)
    model = NoveltyModel.load(folder, device=device)
    acquisition = store.read_acquisition(folder)
    protocol = protocol_of(acquisition)
    jobs = []
    for scan, files in zip(scans, outputs, strict=True):
        bridge = bring_to(scan, protocol, options)
        resampled = bridge.transform is not None
        settings = {
            "Model": model_hash,
            "Neighbours": neighbours or model.neighbours_,
            "Search": "approximate" if approximate else "exact",
            "Features": protocol.features,
            "Resampled": resampled and protocol.features == RAW,
            "IgnoreNonfinite": options.ignore_nonfinite,
            "SoftwareVersion": __version__,
        }
        files = files.with_residual() if resampled else files
        jobs.append(MapJob(scan, bridge, files, settings, smooth))
    _require_free([job.files for job in jobs], scans, force=force or resume)  # with the residuals
    left = outstanding(jobs, resume=resume, force=force, progress=progress)
    if left.jobs:
        model.check_reference(scores)  # before the first map is written

    def work(job: MapJob) -> None:
        image = job.scan.files.image
        voxels = read_scan(job.scan, protocol, options, progress)
        _warn_of(voxels, progress)
        divide_by_channel_means(voxels.values, acquisition.channel_means)
        subject = acquisition.subject_of(voxels.digest)
        if subject is not None:
            progress.say(
                f"{image} is one of the healthy scans of the model: the voxels of its subject, "
                f"{subject}, are left out of the reference"
            )
        searched: dict[str, Any] = {
            "leave_out": subject,
            "neighbours": neighbours,
            "memory": memory,
        }
        novelties = model.novelties(
            voxels.values, scores, approximate=approximate, progress=progress, **searched
        )
        recalls = (
            {name: model.recall(voxels.values, name, **searched) for name in scores}
            if approximate
            else {}
        )
        found = {"Latents": model.latents, "LeftOut": subject}
        _write_maps(job, voxels, novelties, found, recalls)
        for path in (*job.files.maps.values(), *job.files.smoothed.values()):
            progress.say(f"Wrote {path}")

    do_each(left, work, len(scans), progress)
    return [job.files for job in jobs]


RESIDUAL = (
    "Root mean square residual of the diffusion-weighted volumes after the fit of each shell in "
    "spherical harmonics, as a share of the voxel's b=0 signal"
)
"""What the quality map beside a resampled scan's novelty maps shows."""
MASK = "Voxels with a novelty: the brain, where the scan has signal"
"""What the mask beside novelty maps shows."""


def _write_maps(
    job: MapJob,
    voxels: Voxels,
    novelties: dict[str, Float32],
    model_facts: dict[str, Any],
    recalls: dict[str, float],
) -> None:
    """Write a scan's sidecars, mask and maps; the maps last: each has all it needs."""
    scan, files, recipe, stamp = job.scan, job.files, job.recipe, job.stamp()
    sources = [scan.files.image]
    if files.dataset is not None:
        describe(files.dataset, sources)
        # All lies on the scan's grid, which BIDS wants said where the name has a `space`.
        recipe = {**recipe, "SpatialReference": uri_of(scan.files.image, files.mask)}
        write_sidecar(files.mask, {"Type": "Brain", "Description": MASK, **recipe}, sources)
    maps: dict[Path, Float32] = {}
    for name, path in files.maps.items():
        entry = find_score(name)
        facts = {
            "Score": name,
            "Symbol": entry.symbol,
            "Equation": entry.equation,
            "Patient": scan.files.name,
            **recipe,
            **model_facts,
            "Mask": files.mask.name,
            "MaskComputed": voxels.computed_mask,
            "Voxels": len(voxels.values),
            "SourceDigest": voxels.digest,
        }
        if name in recalls:
            facts["Recall"] = recalls[name]
        write_sidecar(path, facts, sources)
        maps[path] = voxels.fill(novelties[name])
        if job.smooth is not None:
            write_sidecar(files.smoothed[name], {**facts, "SmoothingFWHM": job.smooth}, sources)
    if files.residual is not None and voxels.residual is not None:
        write_sidecar(files.residual, {"Description": RESIDUAL, **recipe}, sources)
        write_volume(files.residual, voxels.fill(voxels.residual), scan.grid, stamp)
    write_volume(files.mask, voxels.mask, scan.grid, stamp)
    if job.smooth is not None:
        for name, path in files.smoothed.items():
            smoothed = smooth_inside(
                maps[files.maps[name]], voxels.mask, scan.grid.voxel_sizes, job.smooth
            )
            write_volume(path, smoothed, scan.grid, job.stamp(job.smooth))
    for path, novelty in maps.items():
        write_volume(path, novelty, scan.grid, stamp)


def _warn_of(voxels: Voxels | _Kept, progress: Progress) -> None:
    for warning in (*voxels.scan.warnings, *voxels.warnings):
        progress.warn(warning)


def _require_free(outputs: Iterable[MapFiles], scans: Iterable[Scan], *, force: bool) -> None:
    """Check that all can be written, and no scan, mask or gradient file would be overwritten.

    Nor a dataset of scans mixed with maps.
    """
    outputs = list(outputs)
    for dataset in dict.fromkeys(one.dataset for one in outputs if one.dataset is not None):
        require_own(dataset)
    files = [scan.files for scan in scans]
    read = {path for one in files for path in (one.image, one.mask, one.bval, one.bvec) if path}
    inputs = {path.resolve() for path in read}
    written = [path for one in outputs for path in one.paths()]
    for path in written:
        if path.resolve() in inputs:
            raise OutputError(
                f"{path} would be overwritten by the output, but it is an input; name another "
                f"output with -o."
            )
    require_writable(written, force=force)


def _require_distinct(kept: Sequence[_Kept]) -> None:
    seen: dict[str, Path] = {}
    for one in kept:
        path = one.scan.files.image
        other = seen.setdefault(one.healthy.digest, path)
        if other != path:
            raise ScanError(f"{path} holds the same scan as {other}; give each scan once.")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


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


def evaluate_maps(
    maps: Sequence[Path],
    labels: Sequence[Path],
    folder: Path,
    *,
    masks: Sequence[Path] = (),
    within: Sequence[Path] = (),
    force: bool = False,
    progress: Progress = SILENT,
) -> Evaluation:
    """Compare novelty maps with lesion labels; write tables and figures to `folder`.

    Parameters
    ----------
    maps, labels : sequence of Path
        Files or folders; see `qspace_nd.layouts.pairing.pair`.
    folder : Path
        For eval.json, eval.tsv, roc.png, histograms.png and slices of each patient.
    masks : sequence of Path
        Voxels to evaluate, in place of the masks beside the maps.
    within : sequence of Path
        A region, white matter for example, that is evaluated beside the whole mask.

    Raises
    ------
    InputError
        Something does not fit together, or an output exists; nothing was written.
    """
    patients = group_by_patient(find_maps(maps))
    label_paths = pair(patients, labels, "--labels")
    mask_paths = pair(patients, masks, "--mask") if masks else [_own_mask(m) for m in patients]
    within_paths = pair(patients, within, "--within") if within else [None] * len(patients)
    names = _distinct_names(patients)
    figures = [folder / f"slices_{name}.png" for name in names]
    files = [folder / name for name in ("eval.json", "eval.tsv", "roc.png", "histograms.png")]
    require_writable([*files, *figures], force=force)

    results: list[Result] = []
    shown: list[tuple[Case, Grid, Float32 | None]] = []
    with progress.task("Evaluating maps", sum(map(len, patients))) as task:
        for records, name, label_path, mask_path, within_path in zip(
            patients, names, label_paths, mask_paths, within_paths, strict=True
        ):
            _, grid = read_volume(records[0].path)
            voxel_volume = float(abs(np.linalg.det(grid.affine[:3, :3])))  # mm³
            mask = read_mask(mask_path, grid)
            lesion = _read_labels(label_path, grid, mask)
            cases = [_case(record, name, grid, lesion, mask) for record in records]
            for case in cases:
                results.append(evaluate(case, voxel_volume))
                if within_path is not None:
                    region = mask & read_mask(within_path, grid)
                    part = replace(case, mask=region, region="within")
                    results.append(evaluate(part, voxel_volume))
                task.advance(note=name)
            outside = int((lesion & ~mask).sum())
            if outside:
                progress.warn(
                    f"{label_path} marks {outside} lesion voxels outside the mask {mask_path}; "
                    f"they are not evaluated."
                )
            best = next((c for c in cases if c.score == DEFAULT_SCORE), cases[0])
            shown.append((best, grid, _background(records[0].scan, mask_path, grid)))

    write_text(files[0], json.dumps(to_json(results), indent=2, ensure_ascii=False) + "\n")
    write_text(files[1], to_tsv(results))
    curves.roc_plot(files[2], results)
    curves.histograms(files[3], results)
    for path, (case, grid, background) in zip(figures, shown, strict=True):
        curves.slices(path, case, grid.affine, background)
    return Evaluation(results, [*files, *figures])


def _case(
    record: MapRecord,
    patient: str,
    grid: Grid,
    lesion: Bools,
    mask: Bools,
) -> Case:
    novelty, found = read_volume(record.path)
    require_same_grid(record.path, found, grid)
    nonfinite = int((~np.isfinite(novelty[mask])).sum())
    if nonfinite:
        raise ScanError(
            f"{record.path} holds NaN or infinity in {nonfinite} voxels of its mask; map the scan "
            f"again, or name a mask without them with --mask."
        )
    latents = None if record.score == BASELINE_SCORE else record.latents  # it uses none
    return Case(patient, record.score, novelty, lesion, mask, latents=latents)


def _read_labels(path: Path, grid: Grid, mask: Bools) -> Bools:
    values, found = read_volume(path)
    require_same_grid(path, found, grid)
    nonfinite = int((~np.isfinite(values)).sum())
    if nonfinite:
        raise LabelError(f"{path} holds NaN or infinity in {nonfinite} voxels; give 0 and 1.")
    lesion = np.asarray(values > 0)
    if not lesion[mask].any():
        raise LabelError(
            f"{path} marks no voxel as lesion within the mask, and {lesion.sum()} outside it; give "
            f"labels with at least one above 0 there."
        )
    if lesion[mask].all():
        raise LabelError(
            f"{path} marks every voxel of the mask as lesion; give labels in which healthy tissue "
            f"is 0."
        )
    return lesion


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


def _background(scan: Path | None, mask: Path, grid: Grid) -> Float32 | None:
    """The mean b=0 volume of the scan that a map was made of, None where it is not at hand."""
    if scan is None:
        return None
    try:
        opened = open_scan(replace(find_scans([scan]).scans[0], mask=mask))
        if not opened.grid.same_as(grid):
            return None
        voxels = read_voxels(opened, ignore_nonfinite=True)
    except InputError:  # the figure does without
        return None
    shown = slice(None) if opened.gradients is None else opened.gradients.b0
    return voxels.fill(voxels.values[:, shown].mean(axis=1))

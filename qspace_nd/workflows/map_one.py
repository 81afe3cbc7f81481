"""Mapping one patient's scan: a job that any process can do, as all it takes can be pickled."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qspace_nd.arrays import Float32
from qspace_nd.calibration.forming import CLUSTER_SHARE
from qspace_nd.diffusion.normalise import divide_by_channel_means
from qspace_nd.errors import ModelError, ScanError
from qspace_nd.evaluation.mosaic import has_stamp, write_mosaic
from qspace_nd.evaluation.shown import Shown
from qspace_nd.imaging.anatomy import read_anatomy
from qspace_nd.imaging.conditions import conditions_of, differences, residual_difference, unlike
from qspace_nd.imaging.nifti import read_description, write_volume
from qspace_nd.imaging.protocol import read_scan
from qspace_nd.imaging.smoothing import smooth_inside
from qspace_nd.imaging.voxels import Voxels
from qspace_nd.layouts.derivatives import describe, uri_of
from qspace_nd.layouts.maps import (
    picture_path,
    sidecar_path,
    table_path,
    title_of,
    write_sidecar,
)
from qspace_nd.layouts.person import Person
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.progress import SILENT, Progress, timed
from qspace_nd.scores.catalogue import DIRECTED
from qspace_nd.scores.explanation import Deviations
from qspace_nd.system.locking import alone, lock_of
from qspace_nd.system.machine import Machine, processor
from qspace_nd.system.writing import together, write_text
from qspace_nd.workflows.jobs import STAMP, MapJob, ModelFacts
from qspace_nd.workflows.placing import Placement, Placer
from qspace_nd.workflows.regions import (
    REGIONS,
    is_of_scan,
    name_clusters,
    regions_of,
    write_regions,
)
from qspace_nd.workflows.settings import MapSettings
from qspace_nd.workflows.significance import (
    CLUSTERS,
    NEGLOGP,
    Significance,
    forget_models,
    significance,
)

RESIDUAL = (
    "Root mean square residual of the diffusion-weighted volumes after the fit of each shell in "
    "spherical harmonics, as a share of the voxel's b=0 signal"
)
"""What the quality map beside a resampled scan's novelty maps shows."""
MASK = "Voxels with a novelty: the brain, where the scan has signal"
"""What the mask beside novelty maps shows."""

DEVIATION = (
    "How far {} is above (below: negative) the mean of {}, in the standard deviation of these"
)
"""What the maps that explain show."""

_log = logging.getLogger(__name__)
_kept: dict[tuple[Path, str, str], NoveltyModel] = {}  # the last model that was read


@dataclass(frozen=True)
class Images:
    """What is written of a scan: the novelty (n,) of each score, what explains and what it means.

    What a score's novelty means is known where the model is calibrated for it.
    """

    novelties: Mapping[str, Float32]
    deviations: Deviations | None
    significances: Mapping[str, Significance]
    placement: Placement


def map_one(
    job: MapJob,
    settings: MapSettings,
    machine: Machine = Machine(),
    progress: Progress = SILENT,
) -> None:
    """Write the novelty maps of one scan.

    A process reads the model for its first job, and keeps it for those that follow.

    Parameters
    ----------
    job : MapJob
        The scan, the model and where the maps go.
    settings : MapSettings
        What they show; `job.facts` are of the same.
    machine : Machine
    progress : Progress

    Raises
    ------
    InputError
        The scan's signal or the model cannot be used.
    WorkError
        A file could not be written.
    """
    with machine.limited(), timed(f"Mapping {job.scan.files.image}"):
        model = load_model(job.model, machine.device)
        voxels = _read(job, progress)
        placement = _place(job, model, voxels, settings, progress)
        divide_by_channel_means(voxels.values, job.model.acquisition.channel_means)
        subject = job.model.acquisition.subject_of(voxels.digest)
        if subject is not None:
            _log.info(
                f"{job.scan.files.image} is one of the healthy scans of the model: the voxels of "
                f"its subject, {subject}, are left out of the reference"
            )
        how: dict[str, Any] = {
            "leave_out": subject,
            "neighbours": settings.neighbours,
            "memory": machine.memory,
        }
        novelties = model.novelties(
            voxels.values,
            settings.scores,
            approximate=settings.approximate,
            located=placement.located,
            without_place=placement.wrong is not None,
            toward=settings.toward,
            progress=progress,
            **how,
        )
        deviations = _deviations(model, voxels, placement, settings, how, progress)
        significances = _significances(job, model, voxels, placement, settings, novelties, subject)
        measured = settings.scores if settings.approximate else ()
        recalls = {name: model.recall(voxels.values, name, **how) for name in measured}
        if job.files.dataset is not None:
            describe(job.files.dataset, job.datasets)  # its links are what URIs name
        found: dict[str, Any] = {"Latents": model.network_.latents, "LeftOut": subject}
        found["Processor"] = processor(machine.device)
        found |= _unlike(job, voxels)
        facts = _facts(job, voxels, found, recalls, placement)
        for name, one in significances.items():
            facts[name] |= one.facts()
        _put(job, voxels, Images(novelties, deviations, significances, placement), facts)


def load_model(facts: ModelFacts, device: str = "auto") -> NoveltyModel:
    """Read a model, or give it as it was read before in this process.

    Raises
    ------
    ModelError
        It cannot be read, or is another than `facts` were read of.
    """
    key = (facts.folder, facts.digest, device)
    if key not in _kept:
        _kept.clear()  # the memory of the last is free before the next is read
        forget_models()
        with timed("Reading the model"):
            model = NoveltyModel.load(facts.folder, device)
        if model.digest_ != facts.digest:
            raise ModelError(
                f"The model in {facts.folder} was replaced by another meanwhile; map the scans "
                f"again."
            )
        _kept[key] = model
    return _kept[key]


def _read(job: MapJob, progress: Progress) -> Voxels:
    """Read a scan as the model takes it, and tell what a user should look at in it."""
    protocol, options = job.model.protocol, job.options
    voxels = read_scan(job.scan, protocol, options, progress, residual=True)
    for warning in (*job.scan.warnings, *voxels.warnings):
        _log.warning(warning)
    return voxels


def _place(
    job: MapJob, model: NoveltyModel, voxels: Voxels, settings: MapSettings, progress: Progress
) -> Placement:
    """Find where the voxels lie, if the maps show what depends on it."""
    of_template = job.atlas is not None and not is_of_scan(job.atlas, job.scan.grid)
    if not (settings.uses_place or of_template) or model.template_ is None:
        return Placement()
    with progress.task("Registering the scan", 1) as task, timed("Registering the scan"):
        placer = Placer.from_arrays(model.template_)
        placement = placer.locate(voxels, job.model.protocol)
        task.advance()
    if placement.wrong is not None:
        _log.warning(f"{placement.wrong} The maps do without the place.")
    return placement


def _deviations(
    model: NoveltyModel,
    voxels: Voxels,
    placement: Placement,
    settings: MapSettings,
    how: Mapping[str, Any],
    progress: Progress,
) -> Deviations | None:
    """Find what is above and below the healthy, if that is to be told."""
    if not settings.explain:
        return None
    known = {key: how[key] for key in ("leave_out", "memory")}
    with timed("Comparing with the healthy"):
        return model.deviations(voxels.values, placement.located, **known, progress=progress)


def _significances(
    job: MapJob,
    model: NoveltyModel,
    voxels: Voxels,
    placement: Placement,
    settings: MapSettings,
    novelties: Mapping[str, Float32],
    leave_out: str | None,
) -> dict[str, Significance]:
    """Compare with healthy people's maps, where there are any that were made alike."""
    found, measured = {}, settings.measured(job.model.neighbours)
    for name in job.files.neglogp:
        if not placement.facts_of(name):
            one = significance(
                *(novelties[name], voxels, model, measured[name]),
                leave_out=leave_out,
                forming=settings.cluster_share,
            )
            if job.atlas is not None:
                regions = regions_of(job.atlas, voxels, placement)
                named = name_clusters(one.found, regions, job.atlas, job.scan.grid)
                one = replace(one, regions=named)
            found[name] = one
    return found


def _unlike(job: MapJob, voxels: Voxels) -> dict[str, list[str]]:
    """Tell in what the scan was made otherwise than the healthy scans, for the sidecar too."""
    healthy = job.model.acquisition.conditions
    found = differences(conditions_of(voxels), healthy)
    found += residual_difference(voxels.residual_sample, healthy)
    found += Person.of(job.scan.files).unlike(job.model.acquisition.people)
    if found:
        _log.warning(unlike(job.scan.files.image, found))
    return {"UnlikeModel": found} if found else {}


def _facts(
    job: MapJob,
    voxels: Voxels,
    found: Mapping[str, Any],
    recalls: Mapping[str, float],
    placement: Placement,
) -> dict[str, dict[str, Any]]:
    """What the sidecar of each score's map says."""
    return {
        name: {
            **MapSettings.facts_of(name),
            "Patient": job.scan.files.name,
            **_recipe(job),
            **found,
            **placement.facts_of(name),
            "Mask": job.files.mask.name,
            "MaskComputed": voxels.computed_mask,
            "Voxels": len(voxels.values),
            "SourceDigest": voxels.digest,
            **({"Recall": recalls[name]} if name in recalls else {}),
        }
        for name in job.files.maps
    }


def _recipe(job: MapJob) -> dict[str, Any]:
    """What the maps are made of, as the sidecars of all of them say it."""
    if job.files.dataset is None:
        return job.recipe
    # All lies on the scan's grid, which BIDS wants said where the name has a `space`.
    return {**job.recipe, "SpatialReference": uri_of(job.scan.files.image, job.files.mask)}


def _put(
    job: MapJob,
    voxels: Voxels,
    images: Images,
    facts: Mapping[str, dict[str, Any]],
) -> None:
    """Write a scan's maps and all that belongs to them, or nothing.

    Another process may have done so meanwhile: then they are of the same recipe, or refused.
    """
    with alone(lock_of(job.files.mask), job.files.mask):
        if not job.force and job.is_done():
            _log.info(f"{job.scan.files.image} was mapped by another process meanwhile")
            return
        with together():
            _write(job, voxels, images, facts)
        _remove_unsaid(job, images)
    for path in (*job.files.maps.values(), *job.files.smoothed.values()):
        _log.info(f"Wrote {path}")
    for name, one in images.significances.items():
        score = f", {name}" if len(images.significances) > 1 else ""
        name = f"{job.scan.files.name}{score}"
        warning = one.warning(name)
        if warning is not None:
            _log.warning(warning)
        _log.info(one.sentence(name))


def _remove_unsaid(job: MapJob, images: Images) -> None:
    """Remove what was said of earlier maps of the same names, where nothing is said of these.

    Images that this program did not write stay, with what lies beside them.
    """
    unsaid = [name for name in job.files.maps if name not in images.significances]
    files = job.files.with_significance(unsaid)
    regions = files.with_regions().regions if job.atlas is None else None
    for image in filter(None, (*files.neglogp.values(), *files.clusters.values(), regions)):
        with suppress(ScanError):  # it cannot be read, and is not ours
            if image.is_file() and read_description(image).startswith(STAMP):
                for path in (image, sidecar_path(image), table_path(image)):
                    path.unlink(missing_ok=True)
    for name, image in job.files.maps.items():
        old = picture_path(image, ".pdf")
        unwanted = old not in job.files.pictures[name] and has_stamp(old, STAMP)
        if unwanted and not has_stamp(old, job.stamp()):
            old.unlink(missing_ok=True)


def _write(
    job: MapJob,
    voxels: Voxels,
    images: Images,
    facts: Mapping[str, dict[str, Any]],
) -> None:
    """Write a scan's sidecars, mask and maps; the maps last: each has all it needs."""
    files, grid, stamp, sources = job.files, job.scan.grid, job.stamp(), [job.scan.files.image]
    maps = {name: voxels.fill(images.novelties[name]) for name in files.maps}
    if files.dataset is not None:
        about = {"Type": "Brain", "Description": MASK, **_recipe(job)}
        write_sidecar(files.mask, about, sources)
    for name, path in files.maps.items():
        write_sidecar(path, facts[name], sources)
        if job.smooth is not None:
            smoothed = {**facts[name], "SmoothingFWHM": job.smooth}
            write_sidecar(files.smoothed[name], smoothed, sources)
    if files.residual is not None and voxels.residual is not None:
        about = {"Description": RESIDUAL, **_recipe(job)}
        write_sidecar(files.residual, about, sources)
        write_volume(files.residual, voxels.fill(voxels.residual), grid, stamp)
    if images.deviations is not None:
        _write_deviations(job, voxels, images.deviations)
    for name, one in images.significances.items():
        _write_significance(job, voxels, name, one)
    if files.regions is not None and job.atlas is not None:
        write_sidecar(files.regions, {"Description": REGIONS, **_recipe(job)}, sources)
        regions = regions_of(job.atlas, voxels, images.placement)
        write_regions(files.regions, regions, job.atlas, grid, stamp)
    write_volume(files.mask, voxels.mask, grid, stamp)
    if job.smooth is not None:
        for name, path in files.smoothed.items():
            values = smooth_inside(maps[name], voxels.mask, grid.voxel_sizes, job.smooth)
            write_volume(path, values, grid, job.stamp(job.smooth))
    _write_pictures(job, voxels, maps, images, facts)
    for name, path in files.maps.items():
        known = images.significances.get(name)
        write_volume(path, maps[name], grid, stamp, shown=known.shown if known else (0.0, 0.0))


def _write_significance(job: MapJob, voxels: Voxels, name: str, one: Significance) -> None:
    """Write what the map of a score means by healthy people's, and its clusters with a table."""
    files, grid, stamp, sources = job.files, job.scan.grid, job.stamp(), [job.scan.files.image]
    neglogp, clusters = files.neglogp[name], files.clusters[name]
    write_sidecar(neglogp, {"Description": NEGLOGP, **_recipe(job)}, sources)
    write_volume(neglogp, voxels.fill(one.logp), grid, stamp, shown=one.shown_logp)
    write_sidecar(clusters, {"Description": CLUSTERS, **_recipe(job)}, sources)
    write_text(table_path(clusters), one.table())
    write_volume(clusters, one.found.labels, grid, stamp)


def _write_pictures(
    job: MapJob,
    voxels: Voxels,
    maps: Mapping[str, Float32],
    images: Images,
    facts: Mapping[str, dict[str, Any]],
) -> None:
    """Write the pictures of all maps (X, Y, Z) on the scan."""
    with timed("Drawing"):
        anatomy = read_anatomy(job.scan)
        for name, paths in job.files.pictures.items():
            known = images.significances.get(name)
            shown = Shown(
                maps[name],
                voxels.mask,
                job.scan.grid.affine,
                known.forming if known else CLUSTER_SHARE,
                title_of(job.files.maps[name], facts[name], DIRECTED),
                neglogp=voxels.fill(known.logp) if known else None,
                anatomy=anatomy,
                oriented=job.scan.grid.is_oriented,
            )
            for path in paths:
                write_mosaic(path, shown, job.stamp())


def _write_deviations(job: MapJob, voxels: Voxels, deviations: Deviations) -> None:
    """Write what is above and below the healthy, and beside each map which healthy these are."""
    against, sources = deviations.against, [job.scan.files.image]
    for name, values in deviations.values.items():
        path = job.files.deviations[name]
        about = {"Description": DEVIATION.format(name, against), "Against": against}
        write_sidecar(path, {**about, **_recipe(job)}, sources)
        write_volume(path, voxels.fill(values), job.scan.grid, job.stamp())

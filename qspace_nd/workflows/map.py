"""Novelty maps of many scans, from files to files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from qspace_nd._version import __version__
from qspace_nd.diffusion.gradients import B0_LIMIT
from qspace_nd.errors import InputError, OutputError, counted
from qspace_nd.imaging.atlas import Atlas
from qspace_nd.imaging.protocol import DEFAULT_OPTIONS, RAW, ScanOptions, bring_to, open_scans
from qspace_nd.imaging.scans import Scan
from qspace_nd.layouts.derivatives import require_own
from qspace_nd.layouts.maps import MapFiles, name_maps, names_a_file
from qspace_nd.layouts.names import dataset_root
from qspace_nd.model.knowledge import change_of
from qspace_nd.model.quantities import Quantities
from qspace_nd.progress import Progress, watcher
from qspace_nd.system.machine import Machine
from qspace_nd.system.writing import remove_leftovers, require_writable
from qspace_nd.workflows.cohort_table import require_own_table, write_cohort_table
from qspace_nd.workflows.jobs import MapJob, ModelFacts, finish, outstanding
from qspace_nd.workflows.map_one import load_model, map_one
from qspace_nd.workflows.placing import Placer
from qspace_nd.workflows.regions import is_of_scan, require_place
from qspace_nd.workflows.runners import Runner, in_turn
from qspace_nd.workflows.settings import MapSettings
from qspace_nd.workflows.significance import healthy_summary

_log = logging.getLogger(__name__)


def map_scans(
    paths: Iterable[str | Path],
    folder: str | Path,
    output: str | Path,
    settings: MapSettings = MapSettings(),
    *,
    options: ScanOptions = DEFAULT_OPTIONS,
    machine: Machine = Machine(),
    runner: Runner = in_turn,
    part: tuple[int, int] = (1, 1),
    force: bool = False,
    progress: Progress | bool = False,
) -> list[MapFiles]:
    """Write the novelty maps of scans by the model in `folder`.

    Scans that are mapped there already, from the same files by the same model, settings and
    version, are skipped, and one of several scans that fails while it is read or mapped, or whose
    maps were made otherwise, is reported when the others are done.

    Parameters
    ----------
    paths : iterable of str or Path
        Scans, or folders of them.
    folder, output : str or Path
        Of the model; and where to write to (see `qspace_nd.layouts.maps.name_maps`).
    settings : MapSettings
        What the maps show.
    options : ScanOptions
        How scans are found, accepted and read.
    machine : Machine
        What a process may use that does the jobs.
    runner : Runner
        What does the jobs: `in_turn`, here, or a `DaskRunner`.
    part : (int, int)
        Which part of how many, from 1 on: the first of three takes the first scan, the fourth and
        so on. All are looked at, so that the parts together make what one run would.
    force : bool
        Replace files that exist, and map again what is mapped already.
    progress : Progress or bool
        True to show bars.

    Returns
    -------
    list of MapFiles
        Of every scan of the part, those that were skipped too.

    Raises
    ------
    InputError
        A scan's header or gradients, the model or the output is wrong; nothing was written.
    WorkError
        Some of several scans could not be mapped; the others were.
    """
    model, output, watching = ModelFacts.read(Path(folder)), Path(output), watcher(progress)
    if (settings.neighbours or 1) > model.voxels:
        raise InputError(
            f"{settings.neighbours} neighbours are asked for, and the reference of the model in "
            f"{folder} holds {model.voxels:,} voxels; ask for fewer."
        )
    _require_knowledge(model, settings, folder)
    atlas = None if settings.atlas is None else Atlas.read(settings.atlas)
    scans = open_scans(paths, options)
    outputs = name_maps([scan.files for scan in scans], output, settings.scores)
    datasets = _datasets(scans)
    jobs = [
        replace(_job(scan, model, files, settings, options, atlas), force=force, datasets=datasets)
        for scan, files in zip(scans, outputs, strict=True)
    ]
    _require_free([job.files for job in jobs], scans)
    jobs = _part_of(jobs, part)
    in_folder = not names_a_file(output)
    if in_folder:
        require_own_table(output)
    left = outstanding(jobs)
    remove_leftovers(path for job in jobs for path in job.files.paths())
    if left.jobs:
        # What is wrong with it is told before any work.
        loaded = load_model(model, machine.device)
        loaded.check_reference(settings.scores, explain=settings.explain)
        for measured in settings.measured(model.neighbours).values():
            if measured in model.measured:
                healthy_summary(loaded, measured, settings.cluster_share, None)
        if settings.uses_place and loaded.template_ is not None:
            Placer.from_arrays(loaded.template_)
    work = partial(map_one, settings=settings, machine=machine)
    try:
        with closing(runner(work, left.jobs, watching)) as ended:
            finish(left, ended, len(jobs))
    finally:
        if in_folder:
            write_cohort_table(output)
    return [job.files for job in jobs]


def _part_of(jobs: list[MapJob], part: tuple[int, int]) -> list[MapJob]:
    """The jobs of a part, every N-th; says so where there are fewer scans than parts.

    Raises
    ------
    InputError
        There is no such part.
    """
    number, of = part
    if not 1 <= number <= of:
        raise InputError(f"There is no part {number} of {of}; parts are counted from 1.")
    mine = jobs[number - 1 :: of]
    if of > 1:
        _log.info(f"Part {number} of {of}: {counted(len(mine), 'scan')} of {len(jobs)}")
    return mine


def _datasets(scans: Sequence[Scan]) -> tuple[Path, ...]:
    """The BIDS datasets of scans, in their order, whichever part of them is mapped."""
    roots = (dataset_root(scan.files.image) for scan in scans)
    return tuple(dict.fromkeys(root for root in roots if root is not None))


def _require_knowledge(model: ModelFacts, settings: MapSettings, folder: str | Path) -> None:
    """Check that a model has what is looked for and told, and places where they are needed."""
    if settings.explain:
        Quantities.of(model.acquisition)
    if settings.toward is not None:
        change_of(settings.toward, model.acquisition)
    if settings.needs_place and not model.has_template:
        way = "on scans of four people or more, or with --template"
        if model.protocol.stack is not None:
            way = f"with --register-on, for its channels {model.protocol.stack.describe()}"
        raise InputError(
            f"The model in {folder} has no template, which what is asked for needs; fit it again "
            f"{way}."
        )


def _job(
    scan: Scan,
    model: ModelFacts,
    files: MapFiles,
    settings: MapSettings,
    options: ScanOptions,
    atlas: Atlas | None,
) -> MapJob:
    """Plan the maps of a scan, which is refused where it does not fit the model."""
    protocol = model.protocol
    resampled = bring_to(scan, protocol, options).transform is not None
    files = files if settings.smooth is None else files.with_smoothed()
    facts = {
        "Model": model.digest,
        **settings.facts(model.neighbours),
        "Features": protocol.features,
        "Resampled": resampled and protocol.features == RAW,
        "IgnoreNonfinite": options.ignore_nonfinite,
        "SoftwareVersion": __version__,
    }
    if settings.toward is not None:
        facts["ChangeLookedFor"] = change_of(settings.toward, model.acquisition).describe()
    if options.b0_threshold > B0_LIMIT:
        facts["B0Threshold"] = options.b0_threshold
    files = files.with_residual() if resampled else files
    files = files.with_pictures(pdf=settings.pdf)
    if settings.explain:
        files = files.with_deviations(Quantities.of(model.acquisition).names)
    wanted = settings.measured(model.neighbours)
    comparable = [score for score, measured in wanted.items() if measured in model.measured]
    if comparable:
        files = files.with_significance(comparable)
        facts["ClusterFormingShare"] = settings.cluster_share
    if atlas is not None:
        if not comparable:
            raise InputError(
                f"{atlas.path} would name clusters, of which the model in {model.folder} finds "
                f"none by these settings, as it is not calibrated for them; calibrate it "
                f"(qspace-nd calibrate), or leave --atlas out."
            )
        if not is_of_scan(atlas, scan.grid):
            require_place(atlas.path, has_template=model.has_template)
        files = files.with_regions()
        facts["Atlas"] = f"{atlas.path.name} {atlas.digest}"
    return MapJob(scan, model, files, options, facts, settings.smooth, atlas)


def _require_free(outputs: Sequence[MapFiles], scans: Iterable[Scan]) -> None:
    """Check that all can be written, and no scan, mask or gradient file would be overwritten.

    Nor a dataset of scans mixed with maps.
    """
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
    require_writable(written, force=True)

"""Fitting a model on healthy scans, from files to the model's folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.normalise import channel_means
from qspace_nd.errors import InputError, QspaceError, ScanError, WorkError, counted
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.nifti import write_volume
from qspace_nd.imaging.protocol import (
    DEFAULT_OPTIONS,
    RAW,
    Protocol,
    ScanOptions,
    common_protocol,
    open_scans,
)
from qspace_nd.imaging.scans import Scan
from qspace_nd.model import store
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.nulls import Measured, grid_arrays
from qspace_nd.model.rows import require_least
from qspace_nd.model.tuning import Trial, require_tunable, tune
from qspace_nd.progress import Progress, Task, timed, watcher
from qspace_nd.registration.template import Template
from qspace_nd.scores.names import DEFAULT_SCORE
from qspace_nd.system.machine import Machine
from qspace_nd.system.scratch import Scratch
from qspace_nd.system.sharing import Each
from qspace_nd.workflows.calibrate import are_enough, keep_nulls
from qspace_nd.workflows.healthy_scans import (
    KeptScan,
    computed_masks,
    keep_scans,
    normalise,
    scratch_for,
    warn_of,
)
from qspace_nd.workflows.placing import (
    LEAST_SUBJECTS,
    Placer,
    can_be_placed,
    require_placeable,
)
from qspace_nd.workflows.runners import ALONE, Crew
from qspace_nd.workflows.verdict import assess, give_verdict

TEMPLATE_DESCRIPTION = "qspace-nd template: what scans are registered by"

_log = logging.getLogger(__name__)


def fit_scans(
    paths: Iterable[str | Path],
    model: NoveltyModel,
    folder: str | Path,
    *,
    features: str = RAW,
    tuned: Sequence[str] | None = None,
    template: bool | None = None,
    channels: Sequence[str] = (),
    register_on: str | None = None,
    calibrate: bool = True,
    signals: bool = True,
    options: ScanOptions = DEFAULT_OPTIONS,
    machine: Machine = Machine(),
    crew: Crew = ALONE,
    force: bool = False,
    progress: Progress | bool = False,
) -> NoveltyModel:
    """Fit `model` on healthy scans and save it to `folder`.

    A process holds one scan at a time, and the voxels of all are kept on the disk meanwhile. Masks
    that had to be computed are saved in the folder's `masks/`.

    Parameters
    ----------
    paths : iterable of str or Path
        Scans, or folders of them.
    model : NoveltyModel
        Its settings say how the network is trained.
    folder : str or Path
        Where to save it.
    features : "raw" or "rotation-invariant"
        What the model's channels are: the volumes, or features of each shell.
    tuned : sequence of str, optional
        Settings, of `tuning.CHOICES`, that are chosen rather than taken from `model`, and
        neighbours with them; by default nothing is.
    template : bool, optional
        Whether scans are registered to a template, for scores that know the place; by default
        where they can be and are of `placing.LEAST_SUBJECTS` people or more.
    channels : sequence of str
        What the channels of scans without b-values are called, in order; by default what the JSON
        files beside them say, as `workflows.stack` writes them.
    register_on : str, optional
        The channel of scans without b-values, by its name or its number from 1, that they are
        registered on; they are not unless it is given.
    calibrate : bool
        Whether healthy people's own maps are found, where there are enough, so that patients' can
        be compared with them; it takes as long as to map all the scans.
    signals : bool
        Whether the healthy voxels' signals are kept beside their latents, for scores that read
        them.
    options : ScanOptions
        How scans are found, accepted and read.
    machine : Machine
        What this process may use. A device other than "auto" takes the place of the model's.
    crew : Crew
        Who reads and registers the scans and maps healthy people: `ALONE`, this process, or a
        `DaskCrew`.
    force : bool
        Replace a model that is there.
    progress : Progress or bool
        True to show bars.

    Returns
    -------
    NoveltyModel
        What was saved: `model`, or another with the settings that were chosen.

    Raises
    ------
    InputError
        The scans are wrong or unlike each other, or the folder is taken; nothing was written.
    """
    folder, watching = Path(folder), watcher(progress)
    store.require_new(folder, force=force)
    scans = open_scans(paths, options)
    protocol = common_protocol(scans, options, features).called(channels, register_on)
    if tuned is not None:
        require_tunable(protocol.gradients, protocol.features, len(_subjects(scans)))
    require_least(model.reference, [scan.files.subject for scan in scans])
    placing = _is_to_place(template, scans, protocol)
    if machine.device != "auto":
        model.set_params(device=machine.device)
    with (
        store.writing(folder),
        machine.limited(),
        crew.together(len(scans)) as each,
        scratch_for(each, folder) as scratch,
    ):
        store.require_new(folder, force=force)  # another fit may have ended while this one waited
        kept = keep_scans(scans, protocol, options, scratch, watching, to_place=placing, each=each)
        template_arrays = None
        if placing and _are_placeable(kept, is_asked=template or protocol.stack is not None):
            kept, template_arrays = _placed(kept, protocol, scratch, watching, each)
        warn_of(kept)
        acquisition = _normalise(kept, protocol, scratch, watching)
        _report_scans(acquisition)
        model = _learn(model, kept, acquisition, tuned, machine.memory, watching)
        model.template_ = template_arrays
        model.grids_ = grid_arrays([(one.mask[:], one.scan.grid.affine) for one in kept])
        assess(model, [one.healthy for one in kept], acquisition, machine.memory)
        with timed("Writing the model"), computed_masks(kept, folder):
            model.digest_ = model.save(folder, signals=signals, force=force, progress=watching)
            _write_template(folder, template_arrays)
        model.reference_ = store.map_reference(folder, model.network_)  # the scratch file goes
        with timed("Keeping the search tree"):
            store.keep_index(folder, model.digest_, model.reference_, machine.memory)
        measured = model.measured(DEFAULT_SCORE)
        if calibrate and are_enough(model):
            _calibrate(model, folder, measured, kept, machine.memory, watching, each)
    give_verdict(model, measured if measured in model.nulls_ else None)
    return model


def _is_to_place(wanted: bool | None, scans: Sequence[Scan], protocol: Protocol) -> bool:
    """Whether scans are registered, where that is asked for or can be.

    Raises
    ------
    InputError
        It is asked for and cannot be.
    """
    number = len(_subjects(scans))
    if protocol.stack is not None and protocol.stack.registered is not None:
        if wanted is False:
            raise InputError(
                "A channel to register on is named, and no template is wanted; leave out "
                "--register-on or --no-template."
            )
        wanted = True
    if wanted is None:
        return can_be_placed(protocol) and number >= LEAST_SUBJECTS
    if wanted:
        require_placeable(protocol)
        if number < 2:
            raise InputError(
                "A template needs scans of two people or more, as nothing is known of how people "
                "differ by one; give more scans, or fit without a template."
            )
    return wanted


def _are_placeable(kept: Sequence[KeptScan], *, is_asked: bool) -> bool:
    """Whether all scans can be registered, now that they were read.

    Raises
    ------
    ScanError
        It is asked for, and one cannot be.
    """
    wrong = next((one.unplaceable for one in kept if one.unplaceable), None)
    if wrong is None:
        return True
    if is_asked:
        raise ScanError(f"{wrong} Leave the scan out, or fit without a template.")
    _log.warning(f"{wrong} The model has no template.")
    return False


def _placed(
    kept: Sequence[KeptScan],
    protocol: Protocol,
    scratch: Scratch,
    progress: Progress,
    each: Each,
) -> tuple[list[KeptScan], dict[str, Any]]:
    """Make a template of scans, and find where their voxels lie in it."""
    images = [one.seen.images for one in kept if one.seen is not None]
    with timed("Placing the scans"):
        placer, registrations = Placer.of(images, progress, each)
    placed = [
        one.placed(registration, placer, protocol, scratch)
        for one, registration in zip(kept, registrations, strict=True)
    ]
    return placed, placer.to_arrays()


def _calibrate(
    model: NoveltyModel,
    folder: Path,
    measured: Measured,
    kept: Sequence[KeptScan],
    memory: int | None,
    progress: Progress,
    each: Each,
) -> None:
    """Calibrate the model that is written; where that fails say what is there."""
    people = [one.healthy for one in kept]
    try:
        keep_nulls(model, folder, [measured], memory, progress, people, each)
    except QspaceError as error:
        whole = len(model.reference_) == sum(len(one.rows) for one in people)
        then = "calibrate it (qspace-nd calibrate)" if whole else "fit it again"
        raise WorkError(
            f"The model is in {folder} and is not calibrated; {then}. {error}"
        ) from error


def _write_template(folder: Path, arrays: Mapping[str, Any] | None) -> None:
    """Write the template as an image too: what is registered, (X, Y, Z, M), 0 outside its brain."""
    path = folder / store.TEMPLATE
    if arrays is None:
        path.unlink(missing_ok=True)
        return
    template = Template.from_arrays(arrays)
    values = np.where(template.mask[..., None], np.moveaxis(template.values, 0, -1), 0)
    grid = Grid(template.mask.shape, template.affine)
    write_volume(path, values.astype(np.float32), grid, TEMPLATE_DESCRIPTION)


def _subjects(scans: Iterable[Scan]) -> set[str]:
    return {scan.files.subject for scan in scans}


def _normalise(
    kept: Sequence[KeptScan], protocol: Protocol, scratch: Scratch, progress: Progress
) -> Acquisition:
    """Divide scans by the means of their channels over all of them."""
    with progress.task("Normalising scans", 2 * len(kept)) as task:
        means = protocol.scales(channel_means(_shown(kept, task)))
        normalise(kept, means, scratch, task)
    return Acquisition(
        means,
        protocol.gradients,
        tuple(one.identity for one in kept),
        protocol.resampled,
        protocol.features,
        protocol.stack,
    )


def _shown(kept: Iterable[KeptScan], task: Task) -> Iterator[Float32]:
    """The voxels of each scan, a step of `task` for each."""
    for one in kept:
        yield one.values[:]
        task.advance()


def _learn(
    model: NoveltyModel,
    kept: Sequence[KeptScan],
    acquisition: Acquisition,
    tuned: Sequence[str] | None,
    memory: int | None,
    progress: Progress,
) -> NoveltyModel:
    healthy = [one.healthy for one in kept]
    with timed("Training"):
        if tuned is None:
            return model.fit_parts(
                healthy, acquisition=acquisition, memory=memory, progress=progress
            )
        model, trials = tune(model, healthy, acquisition, tuned, memory=memory, progress=progress)
    _report_trials(trials)
    return model


def _report_scans(acquisition: Acquisition) -> None:
    """Say how much there is to learn from."""
    scans = acquisition.scans
    subjects = {scan.subject for scan in scans}
    if len(subjects) == 1:
        _log.warning(
            f"All healthy voxels are of one subject, {scans[0].subject}: a block of its "
            f"slices is held out for validation, and differences between people look like "
            f"disease; fit on scans of several people."
        )
    stack = acquisition.stack
    named = f": {stack.describe()}" if stack is not None and stack.is_named else ""
    _log.info(
        f"{sum(scan.voxels for scan in scans):,} healthy voxels of "
        f"{counted(len(subjects), 'subject')} in {len(acquisition.channel_means)} channels{named}"
    )


def _report_trials(trials: Sequence[Trial]) -> None:
    """Say what was chosen, why, and what all the others reached, the chosen one first."""
    best = trials[0]
    _log.info(
        f"Chosen: {_options(best)}. Of healthy white matter of left-out people, changed as disease "
        f"would change it, these settings tell {best.auc:.1%} of pairs of a changed and an "
        f"unchanged voxel the right way round (AUC {best.auc:.4f}); `map` takes them from the "
        f"model. All that was tried:"
    )
    for trial in trials:
        dead = f"  (dead latents: {trial.dead})" if trial.dead else ""
        _log.info(f"  {trial.auc:.4f}  {_options(trial, ', ')}{dead}")


def _options(trial: Trial, joint: str = " ") -> str:
    """The settings of a trial as options are written."""
    return joint.join(f"--{key.replace('_', '-')} {v}" for key, v in trial.settings.items())

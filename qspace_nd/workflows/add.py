"""Adding healthy scans to the reference of a model that is there."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from qspace_nd.calibration.null import LEAST_SUBJECTS
from qspace_nd.errors import ScanError, counted
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.protocol import (
    DEFAULT_OPTIONS,
    Protocol,
    ScanOptions,
    bring_to,
    open_scans,
    protocol_of,
)
from qspace_nd.model import store
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.nulls import Arrays, Measured, grid_arrays
from qspace_nd.model.rows import as_part
from qspace_nd.progress import Progress, timed, watcher
from qspace_nd.registration.places import register
from qspace_nd.scores.names import DEFAULT_SCORE
from qspace_nd.system.machine import Machine
from qspace_nd.system.scratch import Scratch
from qspace_nd.system.sharing import HERE
from qspace_nd.workflows.calibrate import (
    are_enough,
    keep_nulls,
    report_shares,
    require_all_voxels,
)
from qspace_nd.workflows.healthy_scans import (
    KeptScan,
    computed_masks,
    keep_scans,
    normalise,
    scratch_for,
    warn_of,
)
from qspace_nd.workflows.jobs import ModelFacts
from qspace_nd.workflows.placing import Placer

_log = logging.getLogger(__name__)


def add_scans(
    paths: Iterable[str | Path],
    folder: str | Path,
    *,
    options: ScanOptions = DEFAULT_OPTIONS,
    machine: Machine = Machine(),
    progress: Progress | bool = False,
) -> None:
    """Add healthy scans to the reference of the model in `folder`.

    Its network and its channel means stay as they are, and what is in the folder is not written
    again but for `model.json`, last: until then the model is the old one. Scans that are in it
    already are skipped.

    Parameters
    ----------
    paths : iterable of str or Path
        Scans, or folders of them.
    folder : str or Path
        Of the model.
    options : ScanOptions
        How scans are found, accepted and read.
    machine : Machine
        Its device and its threads are used.
    progress : Progress or bool
        True to show bars.

    Raises
    ------
    InputError
        A scan is in the model already by another name or mask, or does not fit its protocol;
        nothing was written.
    """
    folder, watching = Path(folder), watcher(progress)
    require_all_voxels(ModelFacts.read(folder), "scans are added")  # before any work
    scans = open_scans(paths, options)
    with store.writing(folder), machine.limited(), scratch_for(HERE, folder) as scratch:
        model = NoveltyModel.load(folder, machine.device)
        acquisition = store.require_acquisition(model.acquisition_, folder)
        protocol = protocol_of(acquisition)
        for scan in scans:
            bring_to(scan, protocol, options)  # before the first is read, which takes a while
        template = model.template_
        placing = template is not None
        kept = keep_scans(scans, protocol, options, scratch, watching, to_place=placing)
        new = _new_among(kept, acquisition, folder)
        if template is not None:
            _require_placeable(new)
            new = _placed(new, Placer.from_arrays(template), protocol, scratch, watching)
        warn_of(new, acquisition.conditions)
        normalise(new, acquisition.channel_means, scratch)
        parts = [as_part(one.healthy, model.network_) for one in new]
        added = tuple(one.identity for one in new)
        acquisition = replace(acquisition, scans=(*acquisition.scans, *added))
        with computed_masks(kept, folder):
            if new:
                store.add(folder, model.digest_, parts, acquisition, _grids(model, new), watching)
        if new:
            _measure(folder, _measured(model), machine, watching)
    if not new:
        return
    _log.info(
        f"Added {sum(scan.voxels for scan in added):,} voxels of {counted(len(added), 'scan')}: "
        f"the reference is {sum(scan.voxels for scan in acquisition.scans):,} voxels of "
        f"{counted(len(acquisition.scans), 'scan')} now"
    )


def _measure(
    folder: Path, wanted: Sequence[Measured], machine: Machine, progress: Progress
) -> None:
    """Keep the search tree of the model in `folder`, that scans were added to.

    And calibrate it, if that is wanted and can be.
    """
    model = NoveltyModel.load(folder, machine.device)
    store.keep_index(folder, model.digest_, model.reference_, machine.memory)
    if wanted and are_enough(model):
        keep_nulls(model, folder, wanted, machine.memory, progress)
        report_shares(model, wanted)


def _measured(model: NoveltyModel) -> list[Measured]:
    """By what healthy people's maps were found before, or would have been of more people."""
    few = len(model.reference_.subjects) < LEAST_SUBJECTS
    return list(model.nulls_) or [model.measured(DEFAULT_SCORE)] * few


def _grids(model: NoveltyModel, new: Sequence[KeptScan]) -> Arrays | None:
    """Where the voxels of all scans lie, those of the new ones too; None where it was not kept."""
    if model.grids_ is None:
        return None
    grids = [(one.mask[:], one.scan.grid.affine) for one in new]
    return {**model.grids_, **grid_arrays(grids, first=len(model.reference_.parts))}


def _require_placeable(new: Sequence[KeptScan]) -> None:
    wrong = next((one.unplaceable for one in new if one.unplaceable), None)
    if wrong is not None:
        raise ScanError(f"{wrong} The model has a template, so leave the scan out.")


def _placed(
    new: Sequence[KeptScan],
    placer: Placer,
    protocol: Protocol,
    scratch: Scratch,
    progress: Progress,
) -> list[KeptScan]:
    """Find where the voxels of scans lie in a template that is there."""
    placed = []
    with timed("Placing the scans"), progress.task("Registering scans", len(new)) as task:
        for one in new:
            assert one.seen is not None
            registration = register(one.seen.images, placer.template)
            placed.append(one.placed(registration, placer, protocol, scratch))
            task.advance()
    return placed


def _new_among(kept: Sequence[KeptScan], acquisition: Acquisition, folder: Path) -> list[KeptScan]:
    """Leave out scans that are in the model already: a run may have been stopped just after."""
    known = {scan.digest: scan for scan in acquisition.scans}
    new = []
    for one in kept:
        same, own = known.get(one.identity.digest), one.identity
        if same is None:
            new.append(one)
        elif (same.name, same.subject, same.voxels) == (own.name, own.subject, own.voxels):
            _log.info(f"{one.scan.files.image} is in the model in {folder} already: skipped")
        else:
            raise ScanError(
                f"{one.scan.files.image} is in the model in {folder} already, as {same.name} "
                f"of the subject {same.subject}; add scans that are not."
            )
    return new

"""What `qspace-nd check` does: read scans as the other commands do, and report instead of stop."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.flips import better_flip
from qspace_nd.diffusion.gradients import name_volumes
from qspace_nd.errors import InputError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.conditions import (
    Conditions,
    conditions_of,
    differences,
    residual_difference,
    unlike,
    usual,
)
from qspace_nd.imaging.figures import Figures, figures_of
from qspace_nd.imaging.majority import protocol_of_most
from qspace_nd.imaging.protocol import (
    DEFAULT_OPTIONS,
    Bridge,
    Protocol,
    ScanOptions,
    bring_to,
    common_protocol,
    files_of,
    protocol_of,
    read_volumes,
)
from qspace_nd.imaging.scans import Scan, open_scan
from qspace_nd.imaging.stack import Stack
from qspace_nd.imaging.voxels import Voxels
from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.model import store
from qspace_nd.progress import Progress, watcher
from qspace_nd.system.writing import write_text
from qspace_nd.workflows.checked_scan import CheckedScan
from qspace_nd.workflows.quality_table import mark_far, require_table, to_tsv

_log = logging.getLogger(__name__)


def check_scans(
    paths: Iterable[str | Path],
    model: str | Path | None = None,
    *,
    options: ScanOptions = DEFAULT_OPTIONS,
    output: str | Path | None = None,
    force: bool = False,
    progress: Progress | bool = False,
) -> list[CheckedScan]:
    """Check scans, each beside the model in a folder, or beside what most of the scans are like.

    Parameters
    ----------
    paths : iterable of str or Path
        Scans, or folders of them.
    model : str or Path, optional
        Its folder.
    options : ScanOptions
        How scans are found, accepted and read.
    output : str or Path, optional
        A file for the table of their quality (`quality_table.to_tsv`), whose name ends with .tsv.
    force : bool
        Overwrite it where it exists.
    progress : Progress or bool
        True to show bars.

    Raises
    ------
    InputError
        No scan was found, the model cannot be read, or the table cannot be written.
    WorkError
        Writing the table failed.
    """
    if output is not None:
        require_table(Path(output), force=force)
    found = files_of(paths, options)
    opened = [_open(files, options) for files in found]
    acquisition = None if model is None else store.read_acquisition(Path(model))
    beside = Beside.most(opened, options) if acquisition is None else Beside.of(acquisition)
    read = []
    with watcher(progress).task("Reading scans", len(found)) as task:
        for checked in opened:
            task.advance(0, note=checked.name)
            read.append(_read(checked, beside.protocol, options))
            task.advance()
    if acquisition is None:
        beside = beside.among([one.conditions for one in read if one.conditions is not None])
    told = mark_far([_compared(one, beside) for one in read])
    if output is not None:
        write_text(Path(output), to_tsv(told))
        _log.info(f"Wrote {output}")
    return told


@dataclass(frozen=True)
class Beside:
    """What scans are checked beside: a model, or what most of the scans are like."""

    protocol: Protocol | None
    conditions: tuple[Conditions, ...] = ()

    @staticmethod
    def of(acquisition: Acquisition) -> Beside:
        """Beside a model."""
        return Beside(protocol_of(acquisition), tuple(acquisition.conditions))

    @staticmethod
    def most(checked: Sequence[CheckedScan], options: ScanOptions) -> Beside:
        """Beside the protocol of most; under which conditions they were made is known later."""
        return Beside(
            protocol_of_most([one.scan for one in checked if one.scan is not None], options)
        )

    def among(self, conditions: Sequence[Conditions]) -> Beside:
        """The same, and beside what most scans have of their `conditions`."""
        return replace(self, conditions=(usual(conditions),) if conditions else ())


@dataclass(frozen=True)
class _Read:
    """A scan after it was read, as far as it could be."""

    checked: CheckedScan
    conditions: Conditions | None = None
    residuals: Float32 | None = None


def _open(files: ScanFiles, options: ScanOptions) -> CheckedScan:
    checked = CheckedScan(files.image, files.name)
    try:
        scan = open_scan(files, options.b0_threshold)
    except InputError as error:
        return replace(checked, problem=str(error))
    return replace(checked, scan=scan, warnings=scan.warnings)


def _read(checked: CheckedScan, protocol: Protocol | None, options: ScanOptions) -> _Read:
    """Read a scan in a protocol, or in its own where no scan has one."""
    scan = checked.scan
    if scan is None:
        return _Read(checked)
    checked = replace(checked, facts=_header_facts(scan, protocol))
    try:
        bridge = bring_to(scan, protocol or common_protocol([scan], options), options)
    except InputError as error:
        return _Read(replace(checked, problem=str(error), differs=protocol is not None))
    try:
        voxels = read_volumes(scan, bridge, options)
    except InputError as error:
        return _Read(replace(checked, problem=str(error)))
    figures = figures_of(voxels, bridge)
    checked = replace(
        checked,
        facts=(*checked.facts, _voxel_fact(voxels)),
        warnings=(
            *scan.warnings,
            *voxels.warnings,
            *_flip_warnings(voxels, bridge),
            *_volume_warnings(scan, figures),
        ),
        figures=figures,
    )
    return _Read(checked, conditions_of(voxels), voxels.residual_sample)


def _compared(read: _Read, beside: Beside) -> CheckedScan:
    """Hold the conditions of a scan against those that it is checked beside."""
    checked = read.checked
    if read.conditions is None:
        return checked
    found = differences(read.conditions, beside.conditions)
    found += residual_difference(read.residuals, beside.conditions)
    if not found:
        return checked
    warnings = (*checked.warnings, unlike(checked.image, found))
    return replace(checked, warnings=warnings, differs=True)


def _volume_warnings(scan: Scan, figures: Figures) -> Iterator[str]:
    if figures.bad_volumes:
        yield (
            f"{scan.files.image} has a signal unlike what its other directions tell in "
            f"{name_volumes(np.array(figures.bad_volumes))}; look at them, and leave them out of "
            f"the scan and its b-values if they are corrupt."
        )


def _flip_warnings(voxels: Voxels, bridge: Bridge) -> Iterator[str]:
    scan = voxels.scan
    if scan.gradients is None:
        return
    table = scan.gradients if bridge.order is None else scan.gradients.ordered(bridge.order)
    better = better_flip(voxels.values, voxels.mask, table, scan.grid.affine)
    if better is not None:
        yield (
            f"{scan.files.bvec} fits the scan less than the same b-vectors {better.flip}: the main "
            f"directions of neighbouring voxels follow each other {better.gain:.2f} times as well "
            f"then; look at the directions, and correct the b-vectors (MRtrix3's dwigradcheck "
            f"tells the same by tractography)."
        )


def _header_facts(scan: Scan, protocol: Protocol | None) -> tuple[str, ...]:
    gradients = "no b-values" if scan.gradients is None else scan.gradients.shells()
    stack = None if protocol is None else protocol.stack
    if scan.names:
        gradients += f"; by the JSON file beside it they are {Stack(scan.names).describe()}"
    elif scan.gradients is None and stack is not None and stack.is_named:
        gradients += f"; the model's are {stack.describe()}"
    return (
        f"Subject {scan.files.subject}; {scan.grid.describe()}",
        f"{scan.channels} channels: {gradients}",
    )


def _voxel_fact(voxels: Voxels) -> str:
    origin = "a mask computed on the b=0 volumes" if voxels.computed_mask else "the mask"
    path = voxels.scan.files.mask
    named = "" if path is None else f" {path}"
    return f"{len(voxels.values):,} voxels with signal in {origin}{named}"

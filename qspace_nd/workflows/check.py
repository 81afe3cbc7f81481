"""What `qspace-nd check` does: read scans as the other commands do, and report instead of stop."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from qspace_nd.diffusion.flips import better_flip
from qspace_nd.errors import InputError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.conditions import (
    Conditions,
    conditions_of,
    differences,
    residual_difference,
    unlike,
)
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
from qspace_nd.imaging.voxels import Voxels
from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.model import store
from qspace_nd.progress import Progress, watcher

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckedScan:
    """What was found in one scan.

    Attributes
    ----------
    image : Path
    facts, warnings : tuple of str
        One sentence each.
    problem : str or None
        Why the scan cannot be used.
    """

    image: Path
    facts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: str | None = None

    def lines(self) -> list[str]:
        """The report as lines of text."""
        problem = [] if self.problem is None else [f"Problem: {self.problem}"]
        return [*self.facts, *(f"Warning: {warning}" for warning in self.warnings), *problem]


def check_scans(
    paths: Iterable[str | Path],
    model: str | Path | None = None,
    *,
    options: ScanOptions = DEFAULT_OPTIONS,
    progress: Progress | bool = False,
) -> list[CheckedScan]:
    """Check scans, each beside the model in a folder or else beside the first scan in order.

    Parameters
    ----------
    paths : iterable of str or Path
        Scans, or folders of them.
    model : str or Path, optional
        Its folder.
    options : ScanOptions
        How scans are found, accepted and read.
    progress : Progress or bool
        True to show bars.

    Raises
    ------
    InputError
        No scan was found, or the model cannot be read.
    """
    found = files_of(paths, options)
    beside = Beside() if model is None else Beside.of(store.read_acquisition(Path(model)))
    checked = []
    with watcher(progress).task("Reading scans", len(found)) as task:
        for files in found:
            task.advance(0, note=files.name)
            one, beside = _check(files, beside, options)
            checked.append(one)
            task.advance()
    return checked


@dataclass(frozen=True)
class Beside:
    """What scans are checked beside: a model, or the first scan in order; None until there is."""

    protocol: Protocol | None = None
    conditions: tuple[Conditions, ...] = ()

    @staticmethod
    def of(acquisition: Acquisition) -> Beside:
        """Beside a model."""
        return Beside(protocol_of(acquisition), tuple(acquisition.conditions))


def _check(files: ScanFiles, beside: Beside, options: ScanOptions) -> tuple[CheckedScan, Beside]:
    """Check a scan, beside its own protocol where there is none yet; give that for the next."""
    checked = CheckedScan(files.image)
    try:
        scan = open_scan(files, options.b0_threshold)
        facts = _header_facts(scan, beside.protocol)
        checked = replace(checked, facts=facts, warnings=scan.warnings)
        common = beside.protocol or common_protocol([scan], options)
        bridge = bring_to(scan, common, options)
        voxels = read_volumes(scan, bridge, options)
    except InputError as error:
        return replace(checked, problem=str(error)), beside
    own = conditions_of(voxels)
    warnings = (
        *scan.warnings,
        *voxels.warnings,
        *_flip_warnings(voxels, bridge),
        *_unlike_warnings(voxels, own, beside),
    )
    facts = (*checked.facts, _voxel_fact(voxels))
    beside = beside if beside.protocol else Beside(common, (own,))
    return replace(checked, facts=facts, warnings=warnings), beside


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


def _unlike_warnings(voxels: Voxels, own: Conditions, beside: Beside) -> Iterator[str]:
    found = differences(own, beside.conditions)
    found += residual_difference(voxels.residual_sample, beside.conditions)
    if found:
        yield unlike(voxels.scan.files.image, found)


def _header_facts(scan: Scan, protocol: Protocol | None) -> tuple[str, ...]:
    gradients = "no b-values" if scan.gradients is None else scan.gradients.shells()
    stack = None if protocol is None else protocol.stack
    if scan.gradients is None and stack is not None and stack.is_named:
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

"""What `qspace-nd check` does: read scans as the other commands do, and report instead of stop."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from qspace_nd.errors import InputError
from qspace_nd.imaging.protocol import (
    DEFAULT_OPTIONS,
    Protocol,
    ScanOptions,
    common_protocol,
    protocol_of,
    read_scan,
)
from qspace_nd.imaging.scans import Scan, open_scan
from qspace_nd.imaging.voxels import Voxels
from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.layouts.scans import find_scans
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
    found = find_scans(paths, bval=options.bval, bvec=options.bvec, mask=options.mask)
    protocol = None if model is None else protocol_of(store.read_acquisition(Path(model)))
    checked = []
    with watcher(progress).task("Reading scans", len(found)) as task:
        for files in found:
            task.advance(0, note=files.name)
            one, protocol = _check(files, protocol, options)
            checked.append(one)
            task.advance()
    return checked


def _check(
    files: ScanFiles, protocol: Protocol | None, options: ScanOptions
) -> tuple[CheckedScan, Protocol | None]:
    """Check a scan, beside its own protocol where there is none yet; give that for the next."""
    checked = CheckedScan(files.image)
    try:
        scan = open_scan(files, options.b0_threshold)
        checked = replace(checked, facts=_header_facts(scan), warnings=scan.warnings)
        common = protocol or common_protocol([scan], options)
        voxels = read_scan(scan, common, options)
    except InputError as error:
        return replace(checked, problem=str(error)), protocol
    facts = (*checked.facts, _voxel_fact(voxels))
    return replace(checked, facts=facts, warnings=scan.warnings + voxels.warnings), common


def _header_facts(scan: Scan) -> tuple[str, ...]:
    gradients = "no b-values" if scan.gradients is None else scan.gradients.shells()
    return (
        f"Subject {scan.files.subject}; {scan.grid.describe()}",
        f"{scan.channels} channels: {gradients}",
    )


def _voxel_fact(voxels: Voxels) -> str:
    origin = "a mask computed on the b=0 volumes" if voxels.computed_mask else "the mask"
    path = voxels.scan.files.mask
    named = "" if path is None else f" {path}"
    return f"{len(voxels.values):,} voxels with signal in {origin}{named}"

"""What `qspace-nd check` does: read scans as the other commands do, and report instead of stop."""

from __future__ import annotations

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
from qspace_nd.progress import SILENT, Progress


@dataclass(frozen=True)
class Report:
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
    model: Path | None = None,
    *,
    options: ScanOptions = DEFAULT_OPTIONS,
    progress: Progress = SILENT,
) -> list[Report]:
    """Check scans, each beside the model in a folder or else beside the first scan in order.

    Raises
    ------
    InputError
        No scan was found, or the model cannot be read.
    """
    found = find_scans(paths, bval=options.bval, bvec=options.bvec, mask=options.mask)
    protocol = None if model is None else protocol_of(store.read_acquisition(model))
    reports = []
    for files in found:
        report, scan = _check(files, protocol, options, progress)
        reports.append(report)
        if protocol is None and scan is not None:
            protocol = common_protocol([scan], options)
    return reports


def _check(
    files: ScanFiles, protocol: Protocol | None, options: ScanOptions, progress: Progress
) -> tuple[Report, Scan | None]:
    report = Report(files.image)
    try:
        scan = open_scan(files)
        report = replace(report, facts=_header_facts(scan), warnings=scan.warnings)
        voxels = read_scan(scan, protocol or common_protocol([scan], options), options, progress)
    except InputError as error:
        return replace(report, problem=str(error)), None
    facts = (*report.facts, _voxel_fact(voxels))
    return replace(report, facts=facts, warnings=scan.warnings + voxels.warnings), scan


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

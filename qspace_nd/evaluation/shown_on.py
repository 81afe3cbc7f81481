"""The scan that a map is shown on, where it still is."""

from __future__ import annotations

import logging
from dataclasses import replace

from qspace_nd.arrays import Float32
from qspace_nd.errors import InputError
from qspace_nd.imaging.anatomy import read_anatomy
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.scans import Scan, open_scan
from qspace_nd.layouts.maps import MapRecord
from qspace_nd.layouts.scans import find_scans

_log = logging.getLogger(__name__)


def scan_of(record: MapRecord, grid: Grid) -> Scan | None:
    """Open the scan that a map on `grid` was made of, with the map's mask.

    None where it is not where it was, cannot be read or lies on another grid by now.
    """
    if record.scan is None:
        return None
    try:
        scan = open_scan(replace(find_scans([record.scan])[0], mask=record.mask))
    except InputError as error:
        _log.warning(f"{record.path} is shown without its scan: {error}")
        return None
    return scan if scan.grid.same_as(grid) else None


def anatomy_of(record: MapRecord, grid: Grid) -> Float32 | None:
    """Read a volume (X, Y, Z) of that scan; None where a picture has to do without."""
    scan = scan_of(record, grid)
    try:
        return None if scan is None else read_anatomy(scan)
    except InputError as error:
        _log.warning(f"{record.path} is shown without its scan: {error}")
        return None

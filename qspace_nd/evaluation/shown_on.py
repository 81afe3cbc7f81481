"""The scan that a map is shown on, where it still is."""

from __future__ import annotations

from dataclasses import replace

from qspace_nd.arrays import Float32
from qspace_nd.errors import InputError
from qspace_nd.imaging.anatomy import read_anatomy
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.scans import open_scan
from qspace_nd.layouts.maps import MapRecord
from qspace_nd.layouts.scans import find_scans


def anatomy_of(record: MapRecord, grid: Grid) -> Float32 | None:
    """Read a volume (X, Y, Z) of the scan that a map on `grid` was made of.

    None where the scan is not where it was, lies on another grid by now or cannot be read: a
    picture does without.
    """
    if record.scan is None:
        return None
    try:
        scan = open_scan(replace(find_scans([record.scan])[0], mask=None))
        return read_anatomy(scan) if scan.grid.same_as(grid) else None
    except InputError:
        return None

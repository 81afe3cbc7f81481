"""Files that have a name and nothing in them, which is all that layouts look at."""

from __future__ import annotations

from pathlib import Path

from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.layouts.scans import find_scans


def touch(folder: Path, *names: str) -> list[Path]:
    """Make empty files, and the folders that they lie in; give their paths."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def only(path: Path) -> ScanFiles:
    """The one scan that is found in a path."""
    (scan,) = find_scans([path])
    return scan

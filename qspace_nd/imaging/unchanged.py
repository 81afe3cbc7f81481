"""Whether files are still those that were looked at first: a scan is read in several passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from qspace_nd.errors import ScanError

States = Mapping[Path, tuple[int, int] | None]
"""The size and the time of the last change of each file, None where it is not there."""


def states_of(paths: Iterable[Path | None]) -> States:
    """Look at files, of which some may be None."""
    return {path: _state_of(path) for path in paths if path is not None}


def require_unchanged(before: States) -> None:
    """Check that files are those that `states_of` looked at.

    Raises
    ------
    ScanError
        One was written again meanwhile: what was read is of both.
    """
    for path, state in before.items():
        if _state_of(path) != state:
            raise ScanError(
                f"{path} was changed while it was read; run the command again when it is written."
            )


def _state_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns

"""The table of a cohort: of each map in a folder, how its scan stands among healthy people."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from qspace_nd.errors import OutputError, ScanError
from qspace_nd.layouts.maps import MapRecord, read_sidecar
from qspace_nd.layouts.pairing import find_maps
from qspace_nd.scores.catalogue import DIRECTED
from qspace_nd.system.locking import alone, lock_of
from qspace_nd.system.writing import write_text
from qspace_nd.workflows.significance import MEASURES

NAME = "novelty.tsv"
COLUMNS = (
    *("scan", "score", "healthy_people", "level_above_healthy"),
    *(f"{column}{of}" for column in MEASURES.values() for of in ("", "_healthy_with_as_much")),
    "clusters_beyond_healthy",
)

_log = logging.getLogger(__name__)


def require_own_table(folder: Path) -> None:
    """Check that no other table is in the way.

    Raises
    ------
    OutputError
        There is one of that name that this program did not write.
    """
    path = folder / NAME
    if path.exists() and not (path.is_file() and _first_line(path) == "\t".join(COLUMNS)):
        raise OutputError(
            f"{path} is there and is no table of novelty maps; rename it, or name another folder "
            f"with -o."
        )


def write_cohort_table(folder: Path) -> None:
    """Write the table of all maps in a folder that were compared with healthy people's.

    Those of earlier runs too, and of other processes that write there.
    """
    path = folder / NAME
    if not folder.is_dir():
        return
    with alone(lock_of(path), path):
        lines = list(_lines(folder))
        if lines:
            write_text(path, "\n".join(["\t".join(COLUMNS), *lines]) + "\n")
            _log.info(f"Wrote {path}")


def _lines(folder: Path) -> Iterator[str]:
    try:
        records = find_maps([folder], DIRECTED)
    except ScanError as error:  # no map yet, or one that is not ours to mend
        _log.warning(f"{folder / NAME} is not written. {error}")
        return
    for record in sorted(records, key=lambda one: (one.patient, one.score, str(one.path))):
        line = _line(record)
        if line is not None:
            yield line


def _line(record: MapRecord) -> str | None:
    facts = read_sidecar(record.path)
    if "SmoothingFWHM" in facts:  # a view of a map that has a line
        return None
    try:
        places = facts["AmongHealthy"]
        figures = [facts["HealthyPeople"], facts["LevelAboveHealthy"]]
        for name in MEASURES:
            figures += [facts[name], places[name]["WithAsMuch"]]
        figures.append(facts["ClustersBeyondHealthy"])
    except (KeyError, TypeError):  # not compared, or by a version of before
        return None
    return "\t".join([record.patient, record.score, *map(str, figures)])


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline(4096).rstrip("\r\n")

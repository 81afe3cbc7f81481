"""The page of all people, which several processes may add theirs to, each in its turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qspace_nd.errors import OutputError
from qspace_nd.evaluation.page import made_of

INDEX = "index.html"
"""What it is called in the folder of a report."""

Row = dict[str, Any]


def require_addable(folder: Path, model: str, *, force: bool) -> None:
    """Check that people can be added to what is in a folder: nothing, or a report by this model.

    Parameters
    ----------
    folder : Path
    model : str
        The digest of the model.
    force : bool
        Another page may be replaced.

    Raises
    ------
    OutputError
        The page there is of another model, or no report's.
    """
    _rows_there(folder, model, force=force)


def everybody_in(rows: Sequence[Row], folder: Path, model: str, *, force: bool) -> list[Row]:
    """What the page of all tells: of these people, and those whose pages are in the folder already.

    In one order, in whatever order people were added. Healthy people are told anew.

    Raises
    ------
    OutputError
        See `require_addable`.
    """
    there = {_key(row): row for row in _rows_there(folder, model, force=force)}
    there |= {_key(row): row for row in rows}
    return [there[key] for key in sorted(there)]


def _key(row: Row) -> tuple[bool, str, str]:
    """Who a row is of: mapped people before healthy ones, each by name."""
    return row["page"] is None, row["name"], row["page"] or ""


def _rows_there(folder: Path, model: str, *, force: bool) -> list[Row]:
    """The rows of people who are told of already: healthy ones, and those who have a page."""
    index = folder / INDEX
    if not index.exists():
        return []
    try:
        told = made_of(index.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        told = None
    if told is not None and told["model"] == model:
        rows: list[Row] = told["rows"]
        return [row for row in rows if not row["page"] or (folder / row["page"]).is_file()]
    if force:
        return []
    found = "is no page of a report" if told is None else "tells of maps by another model"
    raise OutputError(
        f"{index} exists already and {found}, so that people cannot be added to it; name another "
        f"folder, or overwrite it with --force."
    )

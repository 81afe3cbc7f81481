"""The table of a dataset's participants: who is of which group, as far as it can be known."""

from __future__ import annotations

import csv
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qspace_nd.errors import InputError, counted, listed
from qspace_nd.layouts.names import PARTICIPANTS, require_here

GROUP = "group"
"""The column that BIDS recommends for who is a patient and who a control."""
UNKNOWN = "n/a"
"""What stands for a value that is not known."""

_ID = "participant_id"
_UNTOLD = ("", "n/a", "na", "nan", "none", "unknown", "?", "-")
_MAY_BE_GROUP = re.compile(  # names of columns
    r"group|diagnos|(^|_)dx(_|$)|patient|control|health|(^|_)case|status|condition|cohort|disease"
    r"|disorder|patholog|clinical|phenotype|population|category|lesion|stroke|tumou?r|epilep",
    re.IGNORECASE,
)
_OF_GROUPS = re.compile(r"\b(health\w*|controls?|patients?|hc|ctrl|cases?)\b", re.IGNORECASE)
_HEALTHY = re.compile(
    r"\b(health\w*|controls?|hc|cn|ctrl|con|normal|volunteers?|non-?patients?)\b", re.IGNORECASE
)
_ILL = re.compile(
    r"\b(patients?|ms|rrms|stroke|tumou?rs?|glioma|epilepsy|cases?|diseased?|sick)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Participants:
    """A table of participants; names of columns are compared without case and blanks.

    Attributes
    ----------
    path : Path or None
        None where there is no table.
    columns : tuple of str
        Their names beside `participant_id`, as they are written.
    rows : tuple of (str, dict of str to str)
        The label of each row, and its values by column, in lower case.
    """

    path: Path | None
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, dict[str, str]], ...] = ()

    @cached_property
    def labels(self) -> list[str]:
        """Who is in the table."""
        return list(dict.fromkeys(label for label, _ in self.rows))

    def has(self, column: str) -> bool:
        """Whether there is such a column."""
        return _plain(column) in map(_plain, self.columns)

    def value(self, label: str, column: str) -> str:
        """What the table says of a participant; `UNKNOWN` where it says nothing, or two things."""
        said = self._values.get((label, _plain(column)), set())
        return next(iter(said)) if len(said) == 1 else UNKNOWN

    def contradicted(self, column: str) -> list[str]:
        """Of whom the table says two things."""
        key = _plain(column)
        return [label for label in self.labels if len(self._values.get((label, key), ())) > 1]

    @cached_property
    def _values(self) -> dict[tuple[str, str], set[str]]:
        values: dict[tuple[str, str], set[str]] = {}
        for label, row in self.rows:
            for column, value in row.items():
                told = UNKNOWN if value.lower() in _UNTOLD else value
                values.setdefault((label, column), set()).add(told)
        return values

    def groupings(self) -> list[str]:
        """The column of the group, or else those that may be it under another name."""
        own = [column for column in self.columns if _plain(column) == GROUP]
        return own or [column for column in self.columns if self._may_be_group(column)]

    def _may_be_group(self, column: str) -> bool:
        values = (row.get(_plain(column), "") for _, row in self.rows)
        return bool(_MAY_BE_GROUP.search(column) or any(map(_OF_GROUPS.search, values)))

    def doubt(self, labels: Sequence[str]) -> tuple[str, str] | None:
        """Why people may not all be healthy, and a condition that says who is.

        Returns
        -------
        (str, str) or None
            What the dataset has, and the condition, empty where none can be said; None where
            nothing is in doubt.
        """
        if self.path is None:
            return f"has no {PARTICIPANTS} that says who is healthy", ""
        columns = self.groupings()
        if not columns:
            return None
        column = columns[0]
        groups = Counter(self.value(label, column) for label in labels)
        named = max(groups, key=_likely_healthy)  # the first of those that are alike
        sizes = ", ".join(f"{group} ({size})" for group, size in groups.items())
        told = "" if named == UNKNOWN else shlex.quote(f"{column}={named}")
        if _plain(column) != GROUP:
            maybe = f"{listed(columns)} may be it ({column}: {sizes})"
            return f"has no column {GROUP} in its {PARTICIPANTS}, but {maybe}", told
        untold = [label for label in labels if self.value(label, column) == UNKNOWN]
        if not {*labels} & {*self.labels}:
            return (
                f"has no participant with a scan ({_subjects(labels)}) in its {PARTICIPANTS}, "
                f"which names {_subjects(self.labels) or 'nobody'}",
                "",
            )
        if untold:
            whose = f"{counted(len(untold), 'participant')} ({_subjects(untold)})"
            return f"does not say the {column} of {whose} in its {PARTICIPANTS}: {sizes}", told
        if len(groups) > 1:
            return f"has participants of several groups: {sizes}", told
        if _ILL.search(named) and not _HEALTHY.search(named):
            return f"has participants of the group {named} alone", told
        return None


def read_participants(folder: Path) -> Participants:
    """Read the table of a dataset, of a derivative one perhaps that of the raw one around.

    Raises
    ------
    InputError
        It cannot be read, has no column `participant_id`, or several of one name.
    """
    path = _table_path(folder)
    if path is None:
        return Participants(None)
    require_here([path])
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header, *rows = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read ({error}); expected a table in UTF-8, its columns divided by "
            f"tabs."
        ) from error
    columns = [name.strip() for name in header]
    keys = [_plain(name) for name in columns]
    twice = [name for name in columns if name and keys.count(_plain(name)) > 1]
    if twice:
        raise InputError(
            f"{path} has several columns {twice[0]}; expected one of each name: rename or remove "
            f"the others."
        )
    if _ID not in keys:
        raise InputError(
            f"{path} has no column {_ID}; expected one, with sub-01 and so on, its columns divided "
            f"by tabs: correct it."
        )
    table = [dict(zip(keys, (value.strip() for value in row), strict=False)) for row in rows if row]
    return Participants(
        path,
        tuple(name for name in columns if name and _plain(name) != _ID),
        tuple((row.pop(_ID, "").removeprefix("sub-"), row) for row in table),
    )


def _table_path(folder: Path) -> Path | None:
    above = folder.absolute().parents
    around = [above[1]] if above and above[0].name == "derivatives" else []
    tables = (place / PARTICIPANTS for place in (folder, *around))
    # A link to a table that is not here says that there is one: it is to be missed.
    return next((table for table in tables if os.path.lexists(table)), None)


def _plain(column: str) -> str:
    return column.strip().casefold()


def _likely_healthy(group: str) -> int:
    return 2 if _HEALTHY.search(group) else int(group != UNKNOWN)


def _subjects(labels: Iterable[str]) -> str:
    return listed([f"sub-{label}" for label in labels])

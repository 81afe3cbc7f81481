"""How old the person of a scan is, and of which sex, where a table of participants says it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qspace_nd.errors import InputError
from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.layouts.names import absolute, dataset_root
from qspace_nd.layouts.participants import Participants, read_participants

_SEXES = {"f": "F", "female": "F", "w": "F", "m": "M", "male": "M"}
_AGE = re.compile(r"\d{1,3}(\.\d*)?")


@dataclass(frozen=True)
class Person:
    """What is known of the person of a scan.

    Attributes
    ----------
    age : float or None
        Years.
    sex : str or None
        "F" or "M".
    """

    age: float | None = None
    sex: str | None = None

    @staticmethod
    def of(files: ScanFiles) -> Person:
        """Read what `participants.tsv` says of a scan's subject.

        The table of its dataset, or the one beside the scan or in the folder around.
        """
        label = files.subject.removeprefix("sub-")
        with suppress(InputError):  # a table that cannot be read says nothing; no work needs it
            for table in _tables(files.image):
                age, sex = table.value(label, "age"), table.value(label, "sex")
                return Person(
                    float(age) if _AGE.fullmatch(age) else None, _SEXES.get(sex.casefold())
                )
        return Person()

    def unlike(self, healthy: Sequence[Person]) -> Iterator[str]:
        """Say in what somebody is unlike all healthy people of whom that is known."""
        ages = [one.age for one in healthy if one.age is not None]
        if self.age is not None and ages and not min(ages) <= self.age <= max(ages):
            yield f"an age of {self.age:.0f} years (theirs: {min(ages):.0f} to {max(ages):.0f})"
        sexes = {one.sex for one in healthy if one.sex is not None}
        if self.sex is not None and sexes and self.sex not in sexes:
            yield f"sex {self.sex} (theirs: {', '.join(sorted(sexes))})"


def _tables(image: Path) -> Iterator[Participants]:
    dataset = dataset_root(image)
    around = absolute(image).parents
    for folder in (around[0], around[1]) if dataset is None else (dataset,):
        table = read_participants(folder)
        if table.path is not None:
            yield table

"""Whose anatomies a folder holds, and what its `participants.tsv` says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qspace_nd.errors import InputError, LabelError, counted
from qspace_nd.layouts.names import IMAGE_SUFFIXES, require_here, stem
from qspace_nd.layouts.participants import read_participants

DETAILS = ("age", "sex")
"""The columns of `participants.tsv` that go with an anatomy."""


@dataclass(frozen=True)
class Person:
    """A person whose anatomy there is.

    Attributes
    ----------
    name : str
        As in `participants.tsv`, or the image's where that does not know it.
    labels : Path
        The image of brain labels.
    details : dict of str to str
        What is known of `DETAILS`.
    """

    name: str
    labels: Path
    details: Mapping[str, str] = field(default_factory=dict)


def read_people(folder: Path) -> tuple[Person, ...]:
    """List the people of a folder of label images, in the order of the images' names.

    Raises
    ------
    InputError
        There is no such folder, no image in it, or two of one person.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is no folder; expected one with images of brain labels: name another."
        )
    images = sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.startswith(".")
    )
    if not images:
        raise InputError(
            f"{folder} holds no NIfTI image; expected one of brain labels for each person: name "
            "another folder."
        )
    require_here(images)
    table = read_participants(folder)
    columns = [column for column in DETAILS if table.has(column)]
    people: dict[str, Person] = {}
    for image in images:
        bids = "sub-" if image.name.startswith("sub-") else ""
        label = _label(stem(image).removeprefix("sub-"), table.labels)
        name = bids + label if label else stem(image)
        if name in people:
            raise LabelError(
                f"{people[name].labels} and {image} are both of {name}; expected one image a "
                "person: take one away."
            )
        details = {column: table.value(label, column) for column in columns}
        people[name] = Person(name, image, details)
    return tuple(people.values())


def require_enough(people: Sequence[Person], controls: int, patients: int, folder: Path) -> None:
    """Raise an InputError unless there is a person for each control and patient."""
    if controls + patients > len(people):
        raise InputError(
            f"{folder} holds {counted(len(people), 'anatomy').replace('anatomys', 'anatomies')}, "
            f"but {counted(controls, 'control')} and {counted(patients, 'patient')} need "
            f"{controls + patients}; ask for fewer people, or name a folder with more."
        )


def place_in_order(people: int, seed: int, *, patient: bool, index: int) -> int:
    """Whose anatomy a control or patient has, of so many people in an order that the seed draws.

    Controls are taken from the front and patients from the back, so that nobody depends on how
    many others there are.

    Raises
    ------
    InputError
        There are no more.
    """
    if index >= people:
        raise InputError(f"There are {people} anatomies; ask for fewer people.")
    order = np.random.default_rng((seed, 0x0A7)).permutation(people)
    return int(order[-1 - index if patient else index])


def _label(name: str, labels: Sequence[str]) -> str:
    """Whose image of that name is: the longest label that it is, or begins with; empty if none."""
    fitting = [
        label for label in labels if label and (name == label or name.startswith(f"{label}_"))
    ]
    return max(fitting, key=len, default="")

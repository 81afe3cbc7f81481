"""Ways to spoil good inputs, by kind, and what is right to do with each.

A mutation is a row: its kind, its name, what is right, the lines that may meet it, and a function
that changes the files of a scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from trials import CONTROLS

HARMLESS, SAME, REFUSE, EITHER = "harmless", "same", "refuse", "either"
"""Nothing of meaning changed: as without it. Either so, or refused, or warned of. The data mean
something else: refused, or warned of. Anything in order, as long as nobody can tell."""

LINES = {
    "check": ("check patient.nii.gz", "-"),
    "check by model": ("check patient.nii.gz --model qspace-nd-model", "-"),
    "map": ("map patient.nii.gz -o map.nii.gz", "map"),
    "map strict": ("map patient.nii.gz -o map.nii.gz --gradients strict", "map"),
    "map baseline": ("map patient.nii.gz -o map.nii.gz --score input-distance", "map"),
    "map more": ("map patient.nii.gz -o map.nii.gz --score recon-likelihood --smooth 12", "map"),
    "fit": (f"fit {CONTROLS} --epochs 1 --model new", "new"),
    "add": ("fit --add patient.nii.gz", "qspace-nd-model"),
    "eval": ("eval novelty.nii.gz --labels lesions.nii.gz -o figures", "figures"),
    "eval within": (
        "eval novelty.nii.gz --labels lesions.nii.gz --within white_matter.nii.gz -o figures",
        "figures",
    ),
    "scores": ("scores", "-"),
    "bids fit": ("fit --bids bids --where group=control --epochs 1 --model new", "new"),
    "bids fit all": ("fit --bids bids --epochs 1 --model new", "new"),
    "bids map": ("map --bids bids --where group=patient -o new", "new"),
    "bids resume": ("map --bids bids --where group=patient -o maps", "maps"),
    "bids eval": ("eval maps --bids bids -o figures", "figures"),
}
"""The command lines, and what the names of all that each writes begin with."""

SCANS = ("check", "check by model", "map", "map strict", "fit", "add")
EVALS = ("eval", "eval within")
MODELS = ("map", "map baseline", "map more", "add")


@dataclass
class Scene:
    """A study that may be spoiled, and the line that is to meet it.

    Attributes
    ----------
    folder : Path
    words : list of str
        Of the line; a mutation may change them.
    scan : Path
        The image that the line reads.
    random : Generator
    before : callable
        What the process does before the command.
    """

    folder: Path
    words: list[str]
    scan: Path
    random: np.random.Generator
    before: Callable[[], object] = int

    def beside(self, ending: str) -> Path:
        """A file of the scan, as in `.bval`."""
        return self.scan.with_name(self.scan.name.replace(".nii.gz", ending))

    def one(self, among: Sequence[Any]) -> Any:
        return among[self.random.integers(len(among))]


Change = Callable[[Scene], object]


@dataclass(frozen=True)
class Mutation:
    """A row of the table."""

    kind: str
    name: str
    right: str
    lines: Sequence[str]
    change: Change = field(repr=False)


MUTATIONS: list[Mutation] = []


def rows(kind: str, lines: Sequence[str], table: Iterable[tuple[str, str, Change]]) -> None:
    MUTATIONS.extend(Mutation(kind, name, right, lines, change) for right, name, change in table)

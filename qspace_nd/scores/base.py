"""What a score is: a rule that turns views of voxels into a novelty.

A score is composed of views (`views`) and measures (`measures`); its kinds have modules of their
own. The novelty of a voxel depends on that voxel, the model and the healthy reference alone:
samples are made of noise that all voxels share, and what is searched or optimised is so for each
by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

from qspace_nd.arrays import Float64
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import View, Views


class Cost(Enum):
    """How dear a score is: what its time grows with.

    Attributes
    ----------
    label : str
        One word.
    meaning : str
        What the time of a voxel is spent on.
    """

    CHEAP = ("cheap", "passes through the network")
    SEARCH = ("search", "a search for neighbours, which a larger reference slows down little")
    DEAR = ("dear", "a good part of the reference, or an optimiser, for each voxel")

    def __init__(self, label: str, meaning: str) -> None:
        self.label = label
        self.meaning = meaning


class Score(ABC):
    """A rule that gives each voxel its novelty; higher is more novel."""

    cost: Cost

    @abstractmethod
    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Novelty of n `voxels` against the `healthy` reference: (n,)."""

    @property
    def family(self) -> str:
        """What kind of score it is: the name of its class."""
        return type(self).__name__

    @property
    def healthy_views(self) -> frozenset[View]:
        """The views of the healthy voxels that it looks at: none, where they play no part."""
        return frozenset()

    def __add__(self, other: Score) -> Sum:
        return Sum(self, other)

    def with_neighbours(self, number: int) -> Score:
        """The same rule over the `number` nearest healthy voxels; itself where it looks at all."""
        return self


@dataclass(frozen=True)
class Sum(Score):
    """The sum of two scores."""

    first: Score
    second: Score

    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Add both: (n,)."""
        return self.first(voxels, healthy) + self.second(voxels, healthy)

    @property
    def family(self) -> str:
        """The families of both."""
        return f"{self.first.family} + {self.second.family}"

    @property
    def healthy_views(self) -> frozenset[View]:
        """Those of both."""
        return self.first.healthy_views | self.second.healthy_views

    @property
    def cost(self) -> Cost:  # type: ignore[override]
        """The higher of both costs."""
        return max(self.first.cost, self.second.cost, key=list(Cost).index)


class Search(Score):
    """A score that searches the healthy reference, which may come in blocks, one after another."""

    @abstractmethod
    def look(self, voxels: Views, block: Reference) -> Float64:
        """Look for n `voxels` in a block: what is found of each, (n, ...)."""

    @abstractmethod
    def join(self, found: Float64, more: Float64) -> Float64:
        """Make one of what is `found` in some blocks and what `more` is in another."""

    @abstractmethod
    def conclude(self, found: Float64, number: int) -> Float64:
        """Make a novelty of what is found in all blocks, of `number` voxels together: (n,)."""

    @abstractmethod
    def index_bytes(self, healthy: Reference) -> dict[str, int]:
        """Bytes for each healthy voxel that an index, which is not built yet, will take.

        Under a name for the index, as several scores may share one; empty where it is built.
        """

    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Search all in one block: (n,)."""
        return self.conclude(self.look(voxels, healthy), len(healthy))

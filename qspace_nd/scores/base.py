"""What a score is: a rule that turns views of voxels into a novelty.

A score is composed of views (`views`) and measures (`measures`); its kinds have modules of their
own. The novelty of a voxel depends on that voxel, the model and the healthy reference alone:
samples are made of noise that all voxels share, and what is searched or optimised is so for each
by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain

import numpy as np

from qspace_nd.arrays import Float32, Float64
from qspace_nd.progress import Advance, unheard
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import PointView, View, Views

Shift = Callable[[Float32], Float32]
"""Changes signals (n, C) as disease would: what a score that knows a direction looks for."""


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

    @property
    def rests(self) -> frozenset[PointView]:
        """The views of which people's backgrounds are taken off, for which places are needed."""
        return frozenset()

    def without_place(self) -> Score | None:
        """What is left of the rule where it is not known where voxels lie; None for nothing."""
        return None if self.rests else self

    @property
    def needs_change(self) -> bool:
        """Whether a change must be stated that it looks for."""
        return False

    @property
    def terms(self) -> tuple[Score, ...]:
        """What it is made of and can be found by itself: the score, unless it is a composition."""
        return (self,)

    def of_terms(self, found: Mapping[Score, Float64]) -> Float64:
        """Make the novelty (n,) of what was `found` of each of the `terms`."""
        return found[self]

    def __add__(self, other: Score) -> Sum:
        return Sum(self, other)

    def with_neighbours(self, number: int) -> Score:
        """The same rule over the `number` nearest healthy voxels; itself where it looks at all."""
        return self

    def toward(self, shift: Shift) -> Score:
        """The same rule that looks for a stated change; itself where it looks for any."""
        return self


class Composition(Score):
    """A score that is made of others, each of which is found once however often it is used."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Score, ...]:
        """The scores that it is made of."""

    @abstractmethod
    def with_parts(self, parts: Sequence[Score]) -> Score:
        """The same composition of others."""

    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Find all terms and compose them: (n,)."""
        return self.of_terms({term: term(voxels, healthy) for term in self.terms})

    @property
    def terms(self) -> tuple[Score, ...]:
        """Those of its parts."""
        return tuple(chain.from_iterable(part.terms for part in self.parts))

    @property
    def family(self) -> str:
        """The families of its parts."""
        return " + ".join(part.family for part in self.parts)

    @property
    def healthy_views(self) -> frozenset[View]:
        """Those of its parts."""
        return frozenset[View]().union(*(part.healthy_views for part in self.parts))

    @property
    def rests(self) -> frozenset[PointView]:
        """Those of its parts."""
        return frozenset[PointView]().union(*(part.rests for part in self.parts))

    @property
    def needs_change(self) -> bool:
        """Whether one of its parts does."""
        return any(part.needs_change for part in self.parts)

    @property
    def cost(self) -> Cost:  # type: ignore[override]
        """The highest of its parts' costs."""
        return max((part.cost for part in self.parts), key=list(Cost).index)

    def with_neighbours(self, number: int) -> Score:
        """As each part does."""
        return self.with_parts([part.with_neighbours(number) for part in self.parts])

    def toward(self, shift: Shift) -> Score:
        """As each part does."""
        return self.with_parts([part.toward(shift) for part in self.parts])


@dataclass(frozen=True)
class Sum(Composition):
    """The sum of two scores, the second `weight` times."""

    first: Score
    second: Score
    weight: float = 1.0

    @property
    def parts(self) -> tuple[Score, ...]:
        """Both."""
        return self.first, self.second

    def with_parts(self, parts: Sequence[Score]) -> Score:
        """The sum of others."""
        return replace(self, first=parts[0], second=parts[1])

    def without_place(self) -> Score | None:
        """The sum of what is left of both, or one of them."""
        first, second = self.first.without_place(), self.second.without_place()
        if first is None or second is None:
            return first or second
        return self.with_parts([first, second])

    def of_terms(self, found: Mapping[Score, Float64]) -> Float64:
        """Add both: (n,)."""
        return self.first.of_terms(found) + self.weight * self.second.of_terms(found)


@dataclass(frozen=True)
class Log(Composition):
    """The natural logarithm of a score that is at least 0: ranks stay, sums become products."""

    score: Score

    @property
    def parts(self) -> tuple[Score, ...]:
        """The score."""
        return (self.score,)

    def with_parts(self, parts: Sequence[Score]) -> Score:
        """The logarithm of another."""
        return Log(*parts)

    def without_place(self) -> Score | None:
        """The logarithm of what is left."""
        left = self.score.without_place()
        return left and Log(left)

    def of_terms(self, found: Mapping[Score, Float64]) -> Float64:
        """Take it: (n,); of 0 that of the least positive float32, which maps can hold."""
        return np.log(np.maximum(self.score.of_terms(found), np.finfo(np.float32).tiny))


class Search(Score):
    """A score that searches the healthy reference, which may come in blocks, one after another."""

    @abstractmethod
    def look(
        self,
        voxels: Views,
        block: Reference,
        found: Float64 | None = None,
        advance: Advance = unheard,
    ) -> Float64:
        """Look for n `voxels` in a block: what is found of each, (n, ...).

        What would not change what is `found` in other blocks may be left out: `join` comes next.
        `advance` is told of voxels that are done.
        """

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

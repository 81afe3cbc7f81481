"""What novelty maps show: which scores, of how many neighbours, how searched, how smoothed.

Importing this module costs nothing: the command line takes its defaults from here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qspace_nd.errors import InputError
from qspace_nd.scores.names import DEFAULT_SCORE

EXACT, APPROXIMATE = "exact", "approximate"
SEARCHES = (EXACT, APPROXIMATE)


@dataclass(frozen=True)
class MapSettings:
    """What novelty maps show.

    Attributes
    ----------
    scores : sequence of str
        Names of scores, see `qspace_nd.scores.catalogue.CATALOGUE`; one alone may be a string.
    neighbours : int or None
        The nearest healthy voxels that distances are the mean to; None for the model's number.
    search : "exact" or "approximate"
        Look for the nearest voxels everywhere, or in likely places alone, for speed; the sidecars
        then say what share of them was found.
    smooth : float or None
        Full width at half maximum, in mm, of the Gaussian that a second map of each score is
        smoothed with inside the mask; None for no such map.

    Raises
    ------
    InputError
        A score is unknown or cannot be searched for so, or a number is out of range.
    """

    scores: Sequence[str] = (DEFAULT_SCORE,)
    neighbours: int | None = None
    search: str = EXACT
    smooth: float | None = None

    def __post_init__(self) -> None:
        from qspace_nd.scores.catalogue import find_score, nearest_of

        scores = (self.scores,) if isinstance(self.scores, str) else tuple(self.scores)
        object.__setattr__(self, "scores", scores)
        if self.search not in SEARCHES:
            raise InputError(f"There is no search {self.search!r}; choose {' or '.join(SEARCHES)}.")
        for score in scores:
            find_score(score)
            if self.approximate:
                nearest_of(score)
        if self.neighbours is not None and self.neighbours < 1:
            raise InputError(f"neighbours is {self.neighbours}; 1 or more is wanted.")
        if self.smooth is not None and not (self.smooth > 0 and math.isfinite(self.smooth)):
            raise InputError(f"smooth is {self.smooth} mm; a number above 0 is wanted.")

    @property
    def approximate(self) -> bool:
        """Whether some of the nearest voxels may be missed."""
        return self.search == APPROXIMATE

    def facts(self, own_neighbours: int) -> dict[str, Any]:
        """What sidecars say of all scores, of a model whose own number of neighbours this is."""
        return {"Neighbours": self.neighbours or own_neighbours, "Search": self.search}

    @staticmethod
    def facts_of(score: str) -> dict[str, Any]:
        """What a sidecar says of its score."""
        from qspace_nd.scores.catalogue import find_score

        entry = find_score(score)
        return {"Score": score, "Symbol": entry.symbol, "Equation": entry.equation}

"""What novelty maps show: which scores, of how many neighbours, how searched, how smoothed.

Importing this module costs nothing: the command line takes its defaults from here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qspace_nd.calibration.forming import CLUSTER_SHARE
from qspace_nd.errors import InputError
from qspace_nd.scores.names import DEFAULT_SCORE, DIRECTED_SCORE, NOTHING

if TYPE_CHECKING:
    from qspace_nd.model.nulls import Measured

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
    toward : str or None
        The change that directed scores look for, as `qspace_nd.model.knowledge.change_of` reads
        it: of the model, which it is held against when scans are mapped.
    explain : bool
        Whether it is shown too what is above or below the healthy, at each place where that is
        known.
    cluster_share : float
        The healthy share above which voxels form clusters, where the model is calibrated.
    atlas : Path or None
        A label image that clusters are named by, on the scan's grid or in the model's template.
    pdf : bool
        Whether pictures are written as PDF too.

    Raises
    ------
    InputError
        A score is unknown or cannot be searched for so, or a number is out of range.
    """

    scores: Sequence[str] = (DEFAULT_SCORE,)
    neighbours: int | None = None
    search: str = EXACT
    smooth: float | None = None
    toward: str | None = None
    explain: bool = False
    cluster_share: float = CLUSTER_SHARE
    pdf: bool = False
    atlas: Path | None = None

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
        if not 0 < self.cluster_share < 1:
            raise InputError(
                f"cluster_share is {self.cluster_share}; a share between 0 and 1 is wanted, such "
                f"as {CLUSTER_SHARE}."
            )
        directed = [score for score in scores if find_score(score).score.needs_change]
        if directed and self.toward is None:
            raise InputError(
                f"The score {directed[0]} looks for a change that is stated; state it, with "
                f"--toward demyelination for instance."
            )
        if self.toward is not None and not directed:
            raise InputError(
                f"The change {self.toward} is stated, but none of the scores "
                f"{', '.join(scores)} looks for one; take a directed score, such as "
                f"{DIRECTED_SCORE}."
            )

    @property
    def approximate(self) -> bool:
        """Whether some of the nearest voxels may be missed."""
        return self.search == APPROXIMATE

    @property
    def needs_place(self) -> bool:
        """Whether it must be known where voxels lie."""
        from qspace_nd.scores.catalogue import find_score

        return any(find_score(score).score.rests for score in self.scores)

    @property
    def uses_place(self) -> bool:
        """Whether something depends on where voxels lie, where that is known."""
        return self.explain or self.needs_place

    def measured(self, own_neighbours: int) -> dict[str, Measured]:
        """By what each score's map is found; none where some of the nearest may be missed."""
        from qspace_nd.model.nulls import Measured
        from qspace_nd.scores.catalogue import find_score

        if self.approximate:
            return {}
        number = self.neighbours or own_neighbours
        looking = {name: find_score(name).score.needs_change for name in self.scores}
        return {
            name: Measured(name, number, self.toward if looks else None)
            for name, looks in looking.items()
        }

    def facts(self, own_neighbours: int) -> dict[str, Any]:
        """What sidecars say of all scores, of a model whose own number of neighbours this is."""
        facts = {"Neighbours": self.neighbours or own_neighbours, "Search": self.search}
        return facts if self.toward is None else {**facts, "Toward": self.toward}

    @staticmethod
    def facts_of(score: str) -> dict[str, Any]:
        """What a sidecar says of its score."""
        from qspace_nd.scores.catalogue import find_score

        entry = find_score(score)
        facts = {"Score": score, "Symbol": entry.symbol, "Equation": entry.equation}
        return facts | ({"Knows": entry.knows} if entry.knows != NOTHING else {})

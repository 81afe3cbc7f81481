"""The catalogue: every score by its name. A new score is one line here."""

from __future__ import annotations

from dataclasses import dataclass

from qspace_nd.errors import InputError
from qspace_nd.scores.families import Nearest, Score

DEFAULT_SCORE = "latent-distance"
BASELINE_SCORE = "input-distance"


@dataclass(frozen=True)
class Entry:
    """A score and what to call it.

    Attributes
    ----------
    symbol : str
        Its symbol in the paper (Vasilev et al., arXiv 1806.02997).
    equation : str
        Its definition.
    score : Score
        The rule itself.
    """

    symbol: str
    equation: str
    score: Score


CATALOGUE: dict[str, Entry] = {
    "input-distance": Entry("N x-y", "min_y |x - y|", Nearest("x")),
    "latent-distance": Entry("N q̄-q̄y", "min_y |qm(x) - qm(y)|", Nearest("q_bar")),
}


def find_score(name: str) -> Entry:
    """Return the entry of a score's name.

    Raises
    ------
    InputError
        No score is called so.
    """
    if name not in CATALOGUE:
        raise InputError(
            f"There is no score {name!r}; the scores are: {', '.join(CATALOGUE)} "
            f"(see qspace-nd scores)."
        )
    return CATALOGUE[name]

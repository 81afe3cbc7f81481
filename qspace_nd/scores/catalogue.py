# ruff: noqa: E501  the catalogue reads as a table, one line a score
"""The catalogue: every score by its name. A new score is one line here.

The classes that a line is composed of are in `nearest`, `density`, `reconstruction` and `closest`,
and what they have in common in `base`; a new idea is one small class beside them, and its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf
from typing import TypeGuard

from qspace_nd.errors import InputError
from qspace_nd.scores.base import Cost, Log, Score, Sum
from qspace_nd.scores.closest import ERROR, LIKELIHOOD, Generated
from qspace_nd.scores.density import Density
from qspace_nd.scores.directed import Directed
from qspace_nd.scores.names import NOTHING
from qspace_nd.scores.nearest import Nearest, NearestGaussian
from qspace_nd.scores.reconstruction import (
    Reconstruction,
    Regulariser,
    bar,
    error_bar,
    error_hat,
    hat,
    least,
    likelihood,
)

_BOX = (10.0,)  # latents in the paper's box
_ALL = (10.0, inf)  # all latents, its box first


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

    @property
    def family(self) -> str:
        """What kind of score it is."""
        return self.score.family

    @property
    def knows(self) -> str:
        """What it is told beside the signals of healthy people."""
        known = ["the place"] * bool(self.score.rests)
        known += ["the direction of change"] * self.score.needs_change
        return " and ".join(known) or NOTHING

    @property
    def cost(self) -> Cost:
        """What its time grows with."""
        return self.score.cost


_LATENT = Nearest("q_bar", "q_bar")
_PLACED = Nearest("placed", "placed")

OURS = "ours"
"""In place of a symbol: not in the paper."""

# fmt: off
CATALOGUE: dict[str, Entry] = {
    "input-distance": Entry("N x-y", "min_y |x - y|", Nearest("x", "x")),
    "latent-kl": Entry("N VAE-reg", "KL(q(x))", Regulariser()),
    "latent-distance": Entry("N q̄-q̄y", "min_y |qm(x) - qm(y)|", _LATENT),
    "latent-bhattacharyya": Entry("N q-qy", "min_y D_B(q(x), q(y))", NearestGaussian("q")),
    "latent-density": Entry("N qY", "-log mean_y q(y)[qm(x)]", Density("q_bar", "q")),
    "recon-error": Entry("N x-p̄(q̄)", "|x - pm(qm(x))|", Reconstruction(bar, error_bar, samples=1)),
    "recon-likelihood": Entry("N p̄(q̄)", "-log p(qm(x))[x]", Reconstruction(bar, likelihood, samples=1)),
    "recon-error-qhat": Entry("N x-p̄(q̂)", "mean_i |x - pm(z_i)|", Reconstruction(hat, error_bar)),
    "recon-likelihood-qhat": Entry("N p̄(q̂)", "mean_i -log p(z_i)[x]", Reconstruction(hat, likelihood)),
    "recon-error-phat": Entry("N x-p̂(q̄)", "mean_i |x - x_i|, x_i ~ p(qm(x))", Reconstruction(bar, error_hat)),
    "recon-error-qhat-phat": Entry("N x-p̂(q̂)", "mean_i |x - x_i|, x_i ~ p(z_i)", Reconstruction(hat, error_hat)),
    "recon-error-qhat-min": Entry("N min x-p̄(q̂)", "min_i |x - pm(z_i)|", Reconstruction(hat, error_bar, least)),
    "recon-likelihood-qhat-min": Entry("N min p̄(q̂)", "min_i -log p(z_i)[x]", Reconstruction(hat, likelihood, least)),
    "recon-error-phat-min": Entry("N min x-p̂(q̄)", "min_i |x - x_i|, x_i ~ p(qm(x))", Reconstruction(bar, error_hat, least)),
    "recon-error-qhat-phat-min": Entry("N min x-p̂(q̂)", "min_i |x - x_i|, x_i ~ p(z_i)", Reconstruction(hat, error_hat, least)),
    "output-distance": Entry("N p̄(q̄)-p̄(q̄y)", "min_y |pm(qm(x)) - pm(qm(y))|", Nearest("p_bar", "p_bar")),
    "output-bhattacharyya": Entry("N p(q̄)-p(q̄y)", "min_y D_B(p(qm(x)), p(qm(y)))", NearestGaussian("p")),
    "output-density": Entry("N p(q̄)Y", "-log mean_y p(qm(y))[pm(qm(x))]", Density("p_bar", "p")),
    "input-output-distance": Entry("N x-p̄(q̄y)", "min_y |x - pm(qm(y))|", Nearest("x", "p_bar")),
    "input-output-density": Entry("N p(q̄)Y(x)", "-log mean_y p(qm(y))[x]", Density("x", "p")),
    "output-input-distance": Entry("N p̄(q̄)-y", "min_y |pm(qm(x)) - y|", Nearest("p_bar", "x")),
    "generated-error": Entry("N x-p̂", "min_z |x - pm(z)|", Generated(ERROR, _ALL)),
    "generated-error-bounded": Entry("N x-p̂b", "min_z |x - pm(z)|, z in [-10, 10]^d", Generated(ERROR, _BOX)),
    "generated-likelihood": Entry("N p̂", "min_z -log p(z)[x]", Generated(LIKELIHOOD, _ALL)),
    "generated-likelihood-bounded": Entry("N p̂b", "min_z -log p(z)[x], z in [-10, 10]^d", Generated(LIKELIHOOD, _BOX)),
    "neg-elbo": Entry("N -ELBO", "KL(q(x)) - log p(z)[x], z ~ q(x)", Regulariser() + Reconstruction(hat, likelihood, samples=1)),
    "neg-elbo-qhat": Entry("N -ELBO(q̂)", "KL(q(x)) + mean_i -log p(z_i)[x]", Regulariser() + Reconstruction(hat, likelihood)),
    # Ours: what knows the place, and what knows a stated direction of change.
    "placed-distance": Entry(OURS, "min_y |(f(x), place(x)) - (f(y), place(y))|", _PLACED),
    "directed-distance": Entry(OURS, "w' (qm(x) - m) / sqrt(w' S w), w = D⁻¹ d, at the place", Directed()),
    "latent-placed-distance": Entry(OURS, "log(latent-distance) + placed-distance", Sum(Log(_LATENT), _PLACED, 1.0)),
    "latent-directed-distance": Entry(OURS, "log(latent-distance) + directed-distance / 3", Sum(Log(_LATENT), Directed(), 1 / 3)),
    "latent-placed-directed-distance": Entry(OURS, "log(latent-distance) + placed-distance / 2 + directed-distance / 3", Sum(Sum(Log(_LATENT), _PLACED, 0.5), Directed(), 1 / 3)),
}
# fmt: on

PAPER = tuple(name for name, entry in CATALOGUE.items() if entry.symbol != OURS)
"""The scores of the paper, which take the signal alone."""

DIRECTED = frozenset(name for name, entry in CATALOGUE.items() if entry.score.needs_change)
"""The scores that look for a change that is stated."""


def find_score(name: str) -> Entry:
    """Return the entry of a score's name.

    Raises
    ------
    InputError
        No score is called so.
    """
    if name not in CATALOGUE:
        # Names of maps have capitals in place of hyphens.
        typed = re.sub("[A-Z_]", lambda found: f"-{found[0].lower().strip('_')}", name)
        close = get_close_matches(typed, CATALOGUE, 1)
        meant = f"did you mean {close[0]}? The" if close else "the"
        raise InputError(
            f"There is no score {name!r}; {meant} scores are: {', '.join(CATALOGUE)} "
            f"(see qspace-nd scores)."
        )
    return CATALOGUE[name]


def nearest_of(name: str) -> Nearest:
    """Return the rule of a score that may be searched for approximately.

    Raises
    ------
    InputError
        It may not: it is no distance to the nearest.
    """
    score = find_score(name).score
    if not _is_approximable(score):
        able = [name for name, entry in CATALOGUE.items() if _is_approximable(entry.score)]
        raise InputError(
            f"The score {name} has no approximate search; search exactly, or take one of these "
            f"scores: {', '.join(able)}."
        )
    return score


def _is_approximable(score: Score) -> TypeGuard[Nearest]:
    """Whether it is a distance to the nearest of what a voxel by itself is known by."""
    return isinstance(score, Nearest) and not score.rests


def markdown_table() -> str:
    """Return the catalogue as a table in Markdown, as the documentation shows it."""
    header = ["name", "in the paper", "definition", "family", "cost"]
    rows = [
        [f"`{name}`", entry.symbol, f"`{_escape(entry.equation)}`", entry.family, entry.cost.label]
        for name, entry in CATALOGUE.items()
    ]
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")

"""The null: what novelty healthy people have, each against all the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qspace_nd.arrays import Bools, Float32, Float64, Ints
from qspace_nd.errors import InputError

LEAST_SUBJECTS = 4
"""How many people a null is made of at least: of fewer it says nothing of how people differ."""


@dataclass(frozen=True, eq=False)
class HealthyMap:
    """The novelty of a healthy person's scan, whose own voxels were left out of the reference.

    Attributes
    ----------
    subject : str
        Whose it is.
    novelty : array (n,)
        Of the scan's voxels.
    mask : array (X, Y, Z) bool or None
        Where they lie, in C order; None where there is no image.
    affine : array (4, 4) or None
        From its indices to mm.
    """

    subject: str
    novelty: Float32
    mask: Bools | None = None
    affine: Float64 | None = None


class Null:
    """The novelty of healthy people, of whom each counts alike however large the brain.

    Parameters
    ----------
    maps : sequence of HealthyMap
        Of one score; several of a subject count as one map of all their voxels.

    """

    def __init__(self, maps: Sequence[HealthyMap]) -> None:
        self.maps = tuple(maps)
        self.subjects = tuple(dict.fromkeys(one.subject for one in maps))
        own = [self._of(subject) for subject in self.subjects]
        values = np.concatenate(own)
        weights = np.concatenate([np.full(len(some), 1 / len(some)) for some in own])
        order = np.argsort(values, kind="stable")
        self._values = values[order]
        # Summed from the highest on: the share of what is at least as high.
        shares = np.cumsum(weights[order][::-1])[::-1] / len(own)
        self._shares = np.append(shares, 0.0)

    def without(self, subject: str) -> Null:
        """The null of all others, of whom there is one at least."""
        return Null([one for one in self.maps if one.subject != subject])

    def share(self, novelty: Float32) -> Float64:
        """The share of healthy voxels that have as much or more, each person alike: (n,)."""
        return np.asarray(self._shares[_below(self._values, novelty)])

    def p_values(self, novelty: Float32) -> Float64:
        """That share where the voxel itself is one of them too, and so never 0: (n,)."""
        voxels = len(self._values)
        return (voxels * self.share(novelty) + 1) / (voxels + 1)

    def threshold(self, share: float) -> float:
        """The least novelty that at most this share of healthy voxels have or exceed."""
        first = int(np.searchsorted(-self._shares[:-1], -share * (1 + 1e-9)))  # sums are rounded
        return float(self._values[min(first, len(self._values) - 1)])

    def p_values_of_others(self, subject: str, novelty: Float32) -> Float64:
        """The same of the null of all but a subject: (n,)."""
        own = np.sort(self._of(subject))
        of_own = 1 - _below(own, novelty) / len(own)
        others = len(self.subjects) * self.share(novelty) - of_own
        others = np.maximum(others, 0) / (len(self.subjects) - 1)  # rounding may leave less
        voxels = len(self._values) - len(own)
        return np.asarray((voxels * others + 1) / (voxels + 1))

    @cached_property
    def p_values_by_others(self) -> tuple[Float64, ...]:
        """Of each map, the p of its voxels by the null of all other people: (n,)."""
        return tuple(self.p_values_of_others(one.subject, one.novelty) for one in self.maps)

    def shares_above(self, share: float) -> dict[str, float]:
        """Of each subject, the share of the voxels whose p by the others is below `share`.

        The others' novelty was found with the subject in their reference: a newcomer's share may be
        a little higher.
        """
        return {
            subject: float(np.mean(self.p_values_of_others(subject, self._of(subject)) < share))
            for subject in self.subjects
        }

    def _of(self, subject: str) -> Float32:
        return np.concatenate([one.novelty for one in self.maps if one.subject == subject])


def _below(values: Float32, novelty: Float32) -> Ints:
    """How many of sorted `values` lie below each novelty (n,).

    Sorted ones are looked up in order, which the processor's caches like.
    """
    order = np.argsort(novelty)
    found = np.empty(len(novelty), np.intp)
    found[order] = np.searchsorted(values, novelty[order])
    return found


def require_enough(subjects: Sequence[str]) -> None:
    """Check that there are people enough for a null.

    Raises
    ------
    InputError
        They are fewer than `LEAST_SUBJECTS`.
    """
    number = len(set(subjects))
    if number < LEAST_SUBJECTS:
        raise InputError(
            f"What is usual in healthy people cannot be told by {number} of them; expected "
            f"{LEAST_SUBJECTS} or more: fit the model on more people, or add them with fit --add."
        )

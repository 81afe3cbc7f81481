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


@dataclass(frozen=True, eq=False)
class Shares:
    """What share of healthy voxels have as much novelty or more, each person alike: in steps.

    Attributes
    ----------
    values : array (m,)
        Where the steps are, ascending.
    shares : array (m + 1,)
        Up to and with each of them, and beyond the last: falling from 1 to 0.
    voxels : int
        How many healthy voxels there are.
    """

    values: Float32
    shares: Float64
    voxels: int

    def of(self, novelty: Float32) -> Float64:
        """The share of each novelty: (n,)."""
        return np.asarray(self.shares[_below(self.values, novelty)])

    def p_values(self, novelty: Float32) -> Float64:
        """That share where the voxel itself is one of them too, and so never 0: (n,)."""
        return (self.voxels * self.of(novelty) + 1) / (self.voxels + 1)

    def threshold(self, share: float) -> float:
        """The least novelty that at most this share of healthy voxels have or exceed."""
        first = int(np.searchsorted(-self.shares[:-1], -share * (1 + 1e-9)))  # sums are rounded
        return float(self.values[min(first, len(self.values) - 1)])

    def thinned(self, precision: float) -> Shares:
        """Fewer steps, whose shares are never lower, and higher by at most this part of them."""
        first = np.flatnonzero(np.append(True, self.values[1:] != self.values[:-1]))
        values, shares = self.values[first], np.append(self.shares[first], 0.0)
        falls = np.exp(-np.arange(0, precision - np.log(shares[-2]), precision))
        ends = np.searchsorted(-shares[:-1], -falls)  # where the share has fallen so far
        kept = np.unique(np.concatenate([ends - 1, ends, [len(values) - 1]]))
        kept = kept[(kept >= 0) & (kept < len(values))]
        return Shares(values[kept], shares[np.append(0, kept + 1)], self.voxels)


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

    @cached_property
    def shares(self) -> Shares:
        """What share of their voxels have as much."""
        own = [self._of(subject) for subject in self.subjects]
        values = np.concatenate(own)
        weights = np.concatenate([np.full(len(some), 1 / len(some)) for some in own])
        order = np.argsort(values, kind="stable")
        # Summed from the highest on: the share of what is at least as high.
        shares = np.cumsum(weights[order][::-1])[::-1] / len(own)
        return Shares(values[order], np.append(shares, 0.0), len(values))

    def without(self, subject: str | None) -> Null:
        """The null of all others, of whom there is one at least; of all without a subject."""
        return Null([one for one in self.maps if one.subject != subject])

    def share(self, novelty: Float32) -> Float64:
        """The share of healthy voxels that have as much or more, each person alike: (n,)."""
        return self.shares.of(novelty)

    def p_values(self, novelty: Float32) -> Float64:
        """That share where the voxel itself is one of them too, and so never 0: (n,)."""
        return self.shares.p_values(novelty)

    def threshold(self, share: float) -> float:
        """The least novelty that at most this share of healthy voxels have or exceed."""
        return self.shares.threshold(share)

    def p_values_of_others(self, subject: str, novelty: Float32) -> Float64:
        """The same of the null of all but a subject: (n,)."""
        own = np.sort(self._of(subject))
        of_own = 1 - _below(own, novelty) / len(own)
        others = len(self.subjects) * self.share(novelty) - of_own
        others = np.maximum(others, 0) / (len(self.subjects) - 1)  # rounding may leave less
        voxels = self.shares.voxels - len(own)
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

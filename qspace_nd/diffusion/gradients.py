"""Gradient tables: the b-value and the direction, in the world frame, of each volume.

Volumes are counted from 0, as FSL and MRtrix count them. A b-value up to 50 s/mm² counts as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qspace_nd.arrays import Bools, Float64, Ints
from qspace_nd.errors import GradientError, listed

B0_LIMIT = 50.0
"""The largest b-value that counts as 0, in s/mm²."""

B_TOLERANCE = 0.05
"""The share that b-values may differ by which are meant to be one."""

LOW_B = 200.0
"""What has a b-value up to this, far below the others', may be meant as b=0, in s/mm²."""

SHELL_SPREAD = 0.10, 100.0
"""How far a shell's b-values may lie from their median: a share of it or s/mm², the larger."""

NAMED = 5
"""Volumes that a message names before it says how many more there are."""


@dataclass(frozen=True, eq=False)
class GradientTable:
    """The b-value and the direction of each volume.

    Attributes
    ----------
    bvals : (C,) ndarray
        s/mm².
    directions : (C, 3) ndarray
        Unit vectors in the world frame (RAS+, mm); zero where b counts as 0.
    """

    bvals: Float64
    directions: Float64

    @property
    def b0(self) -> Bools:
        """(C,) bool: which volumes are not diffusion-weighted."""
        return np.asarray(self.bvals <= B0_LIMIT)

    def shell_volumes(self) -> list[Ints]:
        """Give the volumes of each shell, b=0 first; shells are more than 50 s/mm² apart."""
        return shells_of(np.where(self.b0, 0.0, self.bvals))

    @property
    def without_shell(self) -> Ints:
        """The volumes whose b-values run on from one to the next, too far to be one shell."""
        groups = [shell for shell in self.shell_volumes() if not _is_shell(self.bvals[shell])]
        return np.sort(np.concatenate([np.empty(0, np.intp), *groups]))

    def ordered(self, order: Ints) -> GradientTable:
        """Give the table of volumes in another order: `order[i]` comes at i."""
        return GradientTable(self.bvals[order], self.directions[order])

    @property
    def nearly_b0(self) -> Bools:
        """(C,) bool: which volumes count as weighted, but by far less than all the others.

        None where there is a volume at b=0.
        """
        low = np.asarray(self.bvals <= LOW_B)
        if self.b0.any() or not low.any() or low.all():
            return np.zeros_like(low)
        far = 2 * self.bvals[low].max() < self.bvals[~low].min()
        return np.asarray(low & far)

    @property
    def along_one_line(self) -> bool:
        """Whether several volumes are weighted, and all of them along the same direction."""
        weighted = self.directions[~self.b0]
        if len(weighted) < 3:
            return False
        return bool(np.linalg.norm(np.cross(weighted, weighted[0]), axis=1).max() < 0.02)  # 1°

    def shells(self) -> str:
        """Say how many volumes lie near which b-value, as in `6 at b=0, 40 at b=1200`."""
        bvals = np.where(self.b0, 0.0, self.bvals)
        return listed([_name_shell(bvals[shell]) for shell in self.shell_volumes()])

    def weighted_bvals(self) -> list[int]:
        """The median b-value of each weighted shell, rising, in s/mm²."""
        shells = [shell for shell in self.shell_volumes() if not self.b0[shell].any()]
        return [round(float(np.median(self.bvals[shell]))) for shell in shells]

    def to_json(self) -> dict[str, Any]:
        """Give plain lists, as stored in a model folder."""
        return {"bvals": self.bvals.tolist(), "directions": self.directions.tolist()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> GradientTable:
        """Read what `to_json` gave.

        Raises
        ------
        GradientError
            `stored` is no such table.
        """
        try:
            bvals = np.asarray(stored["bvals"], dtype=np.float64)
            directions = np.asarray(stored["directions"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise GradientError(
                f"The stored gradient table cannot be read ({error!r}); fit the model again."
            ) from error
        if bvals.ndim != 1 or directions.shape != (len(bvals), 3):
            raise GradientError(
                f"The stored gradient table has b-values of shape {bvals.shape} and directions of "
                f"shape {directions.shape}, not (C,) and (C, 3); fit the model again."
            )
        return cls(bvals, directions)


def shells_of(bvals: Float64) -> list[Ints]:
    """Part volumes of `bvals` (C,) where neighbouring ones are over 50 s/mm² apart, by rising b."""
    volumes = np.argsort(bvals, kind="stable")
    starts = np.flatnonzero(np.diff(bvals[volumes]) > B0_LIMIT) + 1
    return [np.sort(shell) for shell in np.split(volumes, starts)]


def _is_shell(bvals: Float64) -> bool:
    share, least = SHELL_SPREAD
    middle = np.median(bvals)
    return bool(np.abs(bvals - middle).max() <= max(share * middle, least))


def _name_shell(bvals: Float64) -> str:
    if _is_shell(bvals):
        return f"{len(bvals)} at b={np.median(bvals):.0f}"
    return f"{len(bvals)} from b={bvals.min():.0f} to b={bvals.max():.0f} that are no shell"


def name_volumes(volumes: Ints, details: Sequence[str] = ()) -> str:
    """Name the first of some volumes for a message, each with its detail where there are any."""
    named = [f"{v} ({detail})" for v, detail in zip(volumes, details, strict=False)]
    which = listed(named or volumes.tolist(), NAMED)
    return f"volume{'s' if len(volumes) > 1 else ''} {which} (counted from 0)"

"""The nearest of many Gaussians by Bhattacharyya distance, exactly.

In a cell whose largest standard deviation is S, the distance of a voxel is at least

    sum_i (m_i - n_i)² / (4 (s_i² + S_i²))  +  ½ ln cosh(gap between ln s_i and the cell)

which for all members of a cell is one matrix product. Only where it is below the least distance
found so far, the distance itself is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qspace_nd.gaussian import Gaussian
from qspace_nd.scores.cells import BLOCK, Cell, Seeker, look_in_all
from qspace_nd.scores.measures import Values, bhattacharyya, double_gaussian

_PAIRS = 16_384  # pairs whose distance is taken at once


def nearest_gaussians(queries: Gaussian[Tensor], healthy: Iterable[Gaussian[Tensor]]) -> Values:
    """Bhattacharyya distance from each of `queries` (n, D) to the nearest of N Gaussians: (n,).

    Parameters
    ----------
    queries : Gaussian (n, D)
        The queries.
    healthy : iterable of Gaussian (m, D)
        The Gaussians, in chunks.
    """
    seekers = [_Nearest(queries[start : start + BLOCK]) for start in range(0, len(queries), BLOCK)]
    look_in_all(seekers, healthy)
    return np.concatenate([seeker.least for seeker in seekers])


@dataclass(frozen=True)
class _Members:
    """A cell as the right side of the matrix product."""

    cell: Cell
    centre: Values  # (D,)
    powers: Tensor  # (2 D, m): squares of the means about the centre, and the means
    largest_variance: Values  # (D,)
    farthest: Values  # (D,): of the means from the centre


class _Nearest(Seeker[_Members]):
    """A block of voxels, and the least distance that each has found."""

    def __init__(self, queries: Gaussian[Tensor]) -> None:
        self.queries = double_gaussian(queries)  # (n, D)
        self.log_std = np.log(self.queries.std)
        self.least = np.full(len(queries), np.inf)

    @staticmethod
    def prepare(cell: Cell) -> _Members:
        """Compute the powers of the means."""
        centre = cell.members.mean.mean(axis=0)
        about = cell.members.mean - centre
        return _Members(
            cell,
            centre,
            torch.from_numpy(np.hstack([about**2, about])).T.contiguous(),
            (cell.members.std**2).max(axis=0),
            np.abs(about).max(axis=0),
        )

    def limit(self) -> Values:
        """The least distance found."""
        return self.least

    def bound(self, cell: _Members) -> Values:
        """The bound above, for the nearest mean in the cell's box."""
        weight = 0.25 / (self.queries.std**2 + cell.largest_variance)
        distance = (weight * cell.cell.means.gap(self.queries.mean) ** 2).sum(axis=1)
        bound: Values = distance + _spread_term(cell.cell.log_stds.gap(self.log_std))
        return bound

    def visit(self, cell: _Members, rows: NDArray[np.int64]) -> None:
        """Take the distance to the members whose bound does not rule them out."""
        queries = Gaussian(self.queries.mean[rows], self.queries.std[rows])
        bounds = self._bounds(cell, rows)  # (rows, m)
        likeliest = bounds.argmin(axis=1)
        least = np.minimum(
            self.least[rows], _distances(queries, slice(None), cell.cell.members, likeliest)
        )
        near, members = np.nonzero(bounds < least[:, None])
        for start in range(0, len(near), _PAIRS):
            some = slice(start, start + _PAIRS)
            found = _distances(queries, near[some], cell.cell.members, members[some])
            np.minimum.at(least, near[some], found)
        self.least[rows] = least

    def _bounds(self, cell: _Members, rows: NDArray[np.int64]) -> Values:
        weight = 0.25 / (self.queries.std[rows] ** 2 + cell.largest_variance)
        about = self.queries.mean[rows] - cell.centre
        constant = (weight * about**2).sum(axis=1)
        # Twice the sum of the terms' magnitudes, each with the rounding of the whole sum (Higham,
        # "Accuracy and Stability of Numerical Algorithms", equation 3.5).
        unit = (len(cell.powers) + 5) * 2.0**-53
        rounding = 2.0 * unit * (constant + (weight * cell.farthest**2).sum(axis=1))
        spread = _spread_term(cell.cell.log_stds.gap(self.log_std[rows]))
        left = torch.from_numpy(np.hstack([weight, -2.0 * weight * about]))
        product = (left @ cell.powers).numpy()
        product += (constant + spread - rounding)[:, None]
        return product


def _distances(
    queries: Gaussian[np.ndarray],
    rows: NDArray[np.int64] | slice,
    members: Gaussian[np.ndarray],
    columns: NDArray[np.int64],
) -> Values:
    return bhattacharyya(
        Gaussian(queries.mean[rows], queries.std[rows]),
        Gaussian(members.mean[columns], members.std[columns]),
    )


def _spread_term(gap: Values) -> Values:
    """At most the sum over dimensions of ½ ln cosh of a gap, and cheaper: (n,).

    It is ½ (sqrt(1 + g²) - 1), as its slope g / sqrt(1 + g²) is at most tanh g.
    """
    total: Values = 0.5 * (np.sqrt(1.0 + gap**2) - 1.0).sum(axis=1)
    return total

"""How densely healthy voxels lie about a point: a sum over all of them.

The logarithm of a Gaussian's density at a point a is linear in (a², a, 1), so that those of many
points are a matrix product: in float64, about a cell's centre, to keep rounding small. Where
rounding could be seen all the same, differences are taken instead. Cells whose every term is less
than e^-40 of the largest are left out: what is missing is less than 1e-9 of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qspace_nd.gaussian import Gaussian
from qspace_nd.scores.cells import BLOCK, Cell, Seeker, look_in_all
from qspace_nd.scores.measures import Values, double

_NEGLIGIBLE = 40.0  # nats below the largest term: 10^8 such terms change it by less than 10^-9
_ROWS = 64  # points of a matrix product: always as many, filled up, so that rounding is equal
_ROUNDING = 1e-6  # of a logarithm, relative to the larger of 1 and itself, that is put up with
_SMALLEST = 100.0  # nats below the largest term, less than which none is taken to be


def log_mean_density(points: Tensor, healthy: Iterable[Gaussian[Tensor]]) -> Values:
    """Logarithm of the mean density of N Gaussians p_y at each of `points` (n, D): (n,).

    ln (1/N) sum_y p_y(a), the largest term taken out of the sum, so that nothing underflows.

    Parameters
    ----------
    points : (n, D)
        The points a.
    healthy : iterable of Gaussian (m, D)
        The Gaussians, in chunks, which are summed in their order.
    """
    number = 0

    def counted() -> Iterator[Gaussian[Tensor]]:
        nonlocal number
        for chunk in healthy:
            number += len(chunk)
            yield chunk

    seekers = [_Density(double(block)) for block in points.split(BLOCK)]
    look_in_all(seekers, counted())
    return np.concatenate([seeker.logarithm() for seeker in seekers]) - math.log(number)


@dataclass(frozen=True)
class _Members:
    """A cell as the right side of the matrix product."""

    cell: Cell
    centre: Values  # (D,)
    coefficients: Tensor  # (2 D + 1, m), of a², a and 1
    magnitudes: Tensor  # (2 D + 1,), of a², |a| and 1 in a bound on the rounding
    widest: Values  # (D,): the largest standard deviation
    highest: float  # the largest logarithm of a density at its own mean


class _Density(Seeker[_Members]):
    """A block of points, and the sum of the densities at each, as total exp(largest)."""

    def __init__(self, points: Values) -> None:
        self.points = points  # (n, D)
        self.largest = np.full(len(points), -np.inf)
        self.total = np.zeros(len(points))

    def logarithm(self) -> Values:
        """Logarithm of the sum: (n,)."""
        return self.largest + np.log(self.total)

    @staticmethod
    def prepare(cell: Cell) -> _Members:
        """Compute the coefficients of the logarithms."""
        centre = cell.members.mean.mean(axis=0)
        mean, slope = cell.members.mean - centre, 1.0 / cell.members.std
        at_centre = Gaussian(mean, cell.members.std).log_prob(np.zeros_like(centre))
        steepest, farthest = slope.max(axis=0), np.abs(mean * slope).max(axis=0)
        coefficients = np.hstack([-0.5 * slope**2, mean * slope**2, at_centre[:, None]]).T
        # Magnitudes of the terms, each with the rounding of the whole sum (Higham, "Accuracy and
        # Stability of Numerical Algorithms", equation 3.5).
        magnitudes = [0.5 * steepest**2, steepest * farthest, [np.abs(at_centre).max()]]
        unit = (len(coefficients) + 5) * 2.0**-53
        return _Members(
            cell,
            centre,
            torch.from_numpy(np.ascontiguousarray(coefficients)),
            unit * torch.from_numpy(np.concatenate(magnitudes)),
            cell.members.std.max(axis=0),
            float(cell.members.log_prob(cell.members.mean).max()),
        )

    def limit(self) -> Values:
        """What is negligible beside the largest term found."""
        return _NEGLIGIBLE - self.largest

    def bound(self, cell: _Members) -> Values:
        """Minus the largest logarithm that a member with the nearest mean could have."""
        distance = cell.cell.means.gap(self.points) / cell.widest
        bound: Values = 0.5 * (distance**2).sum(axis=1) - cell.highest
        return bound

    def visit(self, cell: _Members, rows: NDArray[np.int64]) -> None:
        """Add the densities of the members."""
        about = self.points[rows] - cell.centre
        powers = np.hstack([about**2, about, np.ones((len(rows), 1))])
        filled = torch.from_numpy(np.pad(powers, [(0, -len(rows) % _ROWS), (0, 0)]))
        before = torch.from_numpy(np.pad(self.largest[rows], (0, -len(rows) % _ROWS)))
        largest, added = [], []
        for tile, floor in zip(filled.split(_ROWS), before.split(_ROWS), strict=True):
            logarithms = self._logarithms(cell, tile)
            peak = torch.maximum(floor, logarithms.amax(1))
            # Exponentials that underflow take ten times as long; e^-100 adds nothing.
            terms = logarithms.sub_(peak[:, None]).clamp_(min=-_SMALLEST).exp_()
            largest.append(peak)
            added.append(terms.sum(1))
        new = torch.cat(largest)[: len(rows)].numpy()
        scale = np.exp(self.largest[rows] - new)
        self.total[rows] = self.total[rows] * scale + torch.cat(added)[: len(rows)].numpy()
        self.largest[rows] = new

    @staticmethod
    def _logarithms(cell: _Members, powers: Tensor) -> Tensor:
        """Logarithms of the members' densities at points given as (a², a, 1): (rows, m)."""
        logarithms = powers @ cell.coefficients
        error = powers.abs() @ cell.magnitudes
        visible = error > _ROUNDING * logarithms.amax(1).abs().clamp(min=1.0)
        for row in visible.nonzero()[:, 0].tolist():
            dimensions = len(cell.centre)
            point = powers[row, dimensions : 2 * dimensions].numpy()
            members = Gaussian(cell.cell.members.mean - cell.centre, cell.cell.members.std)
            logarithms[row] = torch.from_numpy(members.log_prob(point))
        return logarithms

"""Exact searches among many healthy Gaussians that look only where something can be found.

Healthy Gaussians are put into cells of like mean and spread. A bound tells for each voxel and cell
how near the cell's members can be at the most; a voxel looks first in its most promising cell,
then, in a fixed order, in every cell whose bound what it has found does not rule out. Voxels do
this each by itself, so that the result of one does not depend on which others there are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from qspace_nd.blocks import workers
from qspace_nd.gaussian import Gaussian
from qspace_nd.scores.measures import Values, double_gaussian

CELL = 1024
"""Gaussians of a cell, at most."""

BLOCK = 2048
"""Voxels that look into the cells together, at most."""


@dataclass(frozen=True)
class Box:
    """A range of each of D numbers: `low` and `high`, each (D,)."""

    low: Values
    high: Values

    @staticmethod
    def around(values: Values) -> Box:
        """The least box around `values` (n, D)."""
        return Box(values.min(axis=0), values.max(axis=0))

    def gap(self, values: Values) -> Values:
        """How far each of `values` (n, D) lies outside its range, 0 inside: (n, D)."""
        gap: Values = np.maximum(np.maximum(self.low - values, values - self.high), 0.0)
        return gap


@dataclass(frozen=True)
class Cell:
    """Gaussians (m, D) of like mean and spread, and the boxes around both."""

    members: Gaussian[np.ndarray]
    means: Box
    log_stds: Box


def cells_of(chunk: Gaussian[Tensor]) -> list[Cell]:
    """Put Gaussians (n, D) into cells."""
    gaussians = double_gaussian(chunk)
    log_std = np.log(gaussians.std)
    # In these coordinates the squared distance of near Gaussians is their Bhattacharyya distance.
    unit = np.sqrt(8.0) * np.exp(log_std.mean(axis=0))
    coordinates = np.hstack([gaussians.mean / unit, 0.5 * log_std])
    order = cKDTree(coordinates, leafsize=CELL, compact_nodes=False).indices
    cells = []
    for start in range(0, len(order), CELL):
        rows = order[start : start + CELL]
        members = Gaussian(gaussians.mean[rows], gaussians.std[rows])
        cells.append(Cell(members, Box.around(members.mean), Box.around(log_std[rows])))
    return cells


PreparedCell = TypeVar("PreparedCell")


class Seeker(ABC, Generic[PreparedCell]):
    """A block of voxels that look for something in cells, and what they have found."""

    @staticmethod
    @abstractmethod
    def prepare(cell: Cell) -> PreparedCell:
        """Compute once for a cell what all voxels need of it."""

    @abstractmethod
    def bound(self, cell: PreparedCell) -> Values:
        """The least that each voxel can find in a cell: (n,)."""

    @abstractmethod
    def limit(self) -> Values:
        """What each voxel cannot do with any more than, by what it has found: (n,)."""

    @abstractmethod
    def visit(self, cell: PreparedCell, rows: NDArray[np.int64]) -> None:
        """Look into a cell with the voxels `rows`."""

    def look_in(self, cells: Sequence[PreparedCell]) -> None:
        """Look into all cells that can hold something."""
        bounds = np.stack([self.bound(cell) for cell in cells])  # (cells, n)
        nearest = bounds.argmin(axis=0)
        for number, cell in enumerate(cells):
            self._visit(cell, nearest == number)
        for number, cell in enumerate(cells):
            self._visit(cell, (nearest != number) & (bounds[number] < self.limit()))

    def _visit(self, cell: PreparedCell, chosen: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(chosen)
        if len(rows):
            self.visit(cell, rows)


def look_in_all(
    seekers: Sequence[Seeker[PreparedCell]], healthy: Iterable[Gaussian[Tensor]]
) -> None:
    """Let `seekers` look into all cells of the healthy Gaussians, which come in chunks (m, D).

    Runs on as many threads as PyTorch may use.
    """
    for chunk in healthy:
        with workers() as pool:
            cells = [seekers[0].prepare(cell) for cell in cells_of(chunk)]
            # Exhausted, so that what a worker raises is raised here.
            for _ in pool.map(lambda seeker, found=cells: seeker.look_in(found), seekers):
                pass

"""The families of scores: each a rule that turns views of voxels into a novelty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qspace_nd.reference import Reference
from qspace_nd.views import Views


class Score(Protocol):
    """A rule that gives each of n voxels its novelty; higher is more novel."""

    def __call__(self, voxels: Views, healthy: Reference) -> NDArray[np.float64]:
        """Novelty of `voxels` against the `healthy` reference: (n,)."""


@dataclass(frozen=True)
class Nearest:
    """Euclidean distance to the nearest healthy voxel by a view v: min_y |v(x) - v(y)|."""

    view: str

    def __call__(self, voxels: Views, healthy: Reference) -> NDArray[np.float64]:
        """Distance of each voxel to its nearest healthy one: (n,)."""
        return healthy.nearest(self.view).distances(getattr(voxels, self.view).numpy())[:, 0]

"""The healthy reference: views of every healthy voxel, in one part for each subject."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qspace_nd.errors import InputError
from qspace_nd.search import NearestNeighbours
from qspace_nd.views import PointView, Views

_CHUNK = 65_536  # healthy voxels whose reconstructions are held at once


@dataclass(frozen=True)
class Part:
    """The healthy voxels of one subject."""

    subject: str
    views: Views


class Reference:
    """All healthy voxels that a voxel is compared with.

    Parameters
    ----------
    parts : sequence of Part
        At least one.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._nearest: dict[str, NearestNeighbours] = {}

    def __len__(self) -> int:
        return sum(len(part.views) for part in self.parts)

    @property
    def subjects(self) -> frozenset[str]:
        """The subjects that the parts are of."""
        return frozenset(part.subject for part in self.parts)

    def without(self, subject: str) -> Reference:
        """Return the reference that leaves out one subject's parts.

        Raises
        ------
        InputError
            Nobody else is in the reference.
        """
        parts = [part for part in self.parts if part.subject != subject]
        if not parts:
            raise InputError(
                f"The reference holds no one but {subject}, whose own voxels cannot serve as its "
                f"reference; fit on scans of other people too."
            )
        return Reference(parts)

    def chunks(self) -> Iterator[Views]:
        """All voxels in chunks, always the same ones: what is computed of one goes with it."""
        for part in self.parts:
            yield from part.views.chunks(_CHUNK)

    def nearest(self, view: PointView) -> NearestNeighbours:
        """Return the search for nearest neighbours among all voxels as seen by a view (n, D)."""
        if view not in self._nearest:
            points = [chunk.point(view).numpy() for chunk in self.chunks()]
            self._nearest[view] = NearestNeighbours(np.concatenate(points))
        return self._nearest[view]

"""Healthy people's maps as reports need them: their clusters at every share that can be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qspace_nd.arrays import Bools, Float32, Float64
from qspace_nd.calibration.clusters import HealthyClusters, find_clusters, logp_of
from qspace_nd.calibration.null import Null
from qspace_nd.calibration.summary import COMMON
from qspace_nd.evaluation.embedding import thumbnail
from qspace_nd.evaluation.page import SHARES, Healthy, curve_of, logp_at

_MOST = 5.0  # -log10 p that thumbnails draw brightest


@dataclass(frozen=True, eq=False)
class Compared:
    """Healthy people's maps, without one of them perhaps, at all shares that a page offers.

    Attributes
    ----------
    null : Null
        Of their maps as they are compared (`calibration.comparable`).
    forming : float
        The share that clusters are formed at.
    """

    null: Null
    forming: float

    @property
    def shares(self) -> tuple[float, ...]:
        """Falling, the one that clusters are formed at among them."""
        return tuple(sorted({*SHARES, self.forming}, reverse=True))

    @cached_property
    def clusters(self) -> dict[float, HealthyClusters]:
        """Their clusters at each share."""
        return {share: HealthyClusters(self.null, share) for share in self.shares}

    @cached_property
    def logp(self) -> tuple[Float32, ...]:
        """-log10 p of the voxels of each of their maps, by the others."""
        return tuple(map(logp_of, self.null.p_values_by_others))

    @cached_property
    def healthy(self) -> Healthy:
        """What a page tells of them."""
        thresholds = logp_at(curve_of(self.shares))
        return Healthy(
            {
                subject: [self.clusters[share].masses[subject] for share in self.shares]
                for subject in self.null.subjects
            },
            {
                subject: [float(np.mean(self._of(subject) > at)) for at in thresholds]
                for subject in self.null.subjects
            },
        )

    def _of(self, subject: str) -> Float32:
        maps = zip(self.null.maps, self.logp, strict=True)
        return np.concatenate([logp for one, logp in maps if one.subject == subject])

    def row(
        self, logp: Float32, mask: Bools, affine: Float64, subject: str | None = None
    ) -> dict[str, Any]:
        """What the page of all tells of a map (n,), of one of them perhaps, by all others."""
        masses = [one.mass for one in find_clusters(logp, mask, affine, self.forming).clusters]
        theirs = [
            max((float(scan.max(initial=0.0)) for scan in scans), default=0.0)
            for other, scans in self.clusters[self.forming].masses.items()
            if other != subject
        ]
        return {
            "above": float(np.mean(logp > -np.log10(COMMON))),
            "clusters": len(masses),
            "beyond": sum(mass > max(theirs) for mass in masses),
            "mass": masses[0] if masses else 0.0,
            "healthy": sum(other >= masses[0] for other in theirs) if masses else None,
            "people": len(theirs),
            "thumbnail": thumbnail(logp, mask, affine, _MOST),
        }

    def rows(self) -> list[dict[str, Any]]:
        """The same of each of them, of the first scan of each."""
        first = {}
        for one, logp in zip(self.null.maps, self.logp, strict=True):
            if one.subject not in first and one.mask is not None and one.affine is not None:
                row = self.row(logp, one.mask, one.affine, one.subject)
                first[one.subject] = {"name": one.subject, "group": "healthy", "page": None, **row}
        return [*first.values()]

"""Healthy people's maps as reports need them: their clusters at every share that can be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qspace_nd.arrays import Bools, Float32
from qspace_nd.calibration.clusters import HealthyClusters, find_clusters, logp_of
from qspace_nd.calibration.null import Null
from qspace_nd.evaluation.embedding import thumbnail
from qspace_nd.evaluation.page import SHARES, Healthy, curve_of, logp_at

_MOST = 5.0  # -log10 p that thumbnails draw brightest


@dataclass(frozen=True, eq=False)
class Compared:
    """Healthy people's maps, without one of them perhaps, at all shares that a page offers."""

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
    def logp(self) -> dict[str, Float32]:
        """-log10 p of all voxels of each person, by the others."""
        found: dict[str, list[Float32]] = {subject: [] for subject in self.null.subjects}
        for one in self.null.maps:
            p = self.null.p_values_of_others(one.subject, one.novelty)
            found[one.subject].append(logp_of(p))
        return {subject: np.concatenate(maps) for subject, maps in found.items()}

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
                subject: [float(np.mean(logp > at)) for at in thresholds]
                for subject, logp in self.logp.items()
            },
        )

    def row(self, logp: Float32, mask: Bools, affine: Any) -> dict[str, Any]:
        """What the page of all tells of a map that is compared with them."""
        found = find_clusters(logp, mask, affine, self.forming)
        clusters = self.clusters[self.forming].compare(found).clusters
        return {
            "above": float(np.mean(logp > -np.log10(self.forming))),
            "clusters": len(clusters),
            "beyond": sum(one.healthy == 0 for one in clusters),
            "mass": clusters[0].mass if clusters else 0.0,
            "healthy": clusters[0].healthy if clusters else None,
            "people": len(self.null.subjects),
            "thumbnail": thumbnail(logp, mask, affine, _MOST),
        }

    def rows(self) -> list[dict[str, Any]]:
        """The same of each of themselves, by the others: of the first scan of each."""
        rows = []
        for subject in self.null.subjects:
            one = next(one for one in self.null.maps if one.subject == subject)
            others = Compared(self.null.without(subject), self.forming)
            if one.mask is None or len(others.null.subjects) < 1:
                continue
            logp = logp_of(others.null.p_values(one.novelty))
            own = others.row(logp, one.mask, one.affine)
            rows.append({"name": subject, "group": "healthy", "page": None, **own})
        return rows

"""What a patient's map means by those of healthy people: p-values, clusters, shares."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.calibration.clusters import (
    Found,
    HealthyClusters,
    find_clusters,
    logp_of,
)
from qspace_nd.calibration.comparable import FWHM, Comparable
from qspace_nd.errors import counted
from qspace_nd.imaging.voxels import Voxels
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.nulls import Measured

SHARE = 0.01
"""The share of healthy voxels above which a brain is said to have so many."""

_FAR = 1.5  # times the range of healthy people: a scan beyond is another kind of scan

NEGLOGP = (
    "Minus the common logarithm of the share of healthy voxels that are as novel, each of the "
    f"healthy people with equal weight; all maps smoothed by {FWHM:g} mm, and shifted and "
    "stretched to one median and 90th percentile"
)
"""What the map of p-values shows."""
CLUSTERS = (
    "Clusters of voxels that few healthy voxels are as novel as, numbered as in the table beside it"
)
"""What the map of clusters shows."""

COLUMNS = (
    *("cluster", "volume_mm3", "mass", "peak_neglogp", "centre_x", "centre_y", "centre_z"),
    *("peak_x", "peak_y", "peak_z", "expected", "healthy_people", "people", "p"),
)
"""Of a table of clusters."""


@dataclass(frozen=True, eq=False)
class Significance:
    """How a map of a score compares with those of healthy people.

    Attributes
    ----------
    logp : array (n,)
        -log10 p of each voxel.
    found : Found
        The clusters.
    above : float
        The share of the voxels that are above the healthy 1 %.
    healthy : tuple of float
        That share of each healthy person, by the others.
    shown : (low, high)
        The novelty that viewers open the map with: the healthy median, and the healthy 0.1 %.
    forming : float
        The healthy share that clusters were formed at.
    level : float
        The scan's median before it was brought to that of healthy people, as a multiple of it.
    levels : (low, high)
        That of healthy people.
    """

    logp: Float32
    found: Found
    above: float
    healthy: tuple[float, ...]
    shown: tuple[float, float]
    forming: float
    level: float
    levels: tuple[float, float]

    @property
    def shown_logp(self) -> tuple[float, float]:
        """The -log10 p that viewers open its map with: from where clusters form, to 0.01 %."""
        low = -float(np.log10(self.forming))
        return low, max(4.0, low + 1)

    def facts(self) -> dict[str, Any]:
        """What the map's sidecar says of it."""
        return {
            "HealthyPeople": len(self.healthy),
            "ShareAboveHealthy1Percent": round(self.above, 6),
            "HealthySharesAbove1Percent": [
                round(min(self.healthy), 6),
                round(max(self.healthy), 6),
            ],
            "LevelByHealthy": round(self.level, 4),
            "HealthyLevels": [round(level, 4) for level in self.levels],
            "ClusterFormingShare": self.forming,
            "Clusters": len(self.found.clusters),
            "ClustersBeyondHealthy": self.found.beyond,
        }

    def sentence(self, name: str) -> str:
        """Say of a scan what a reader asks first."""
        people = len(self.healthy)
        clusters, beyond = counted(len(self.found.clusters), "cluster"), self.found.beyond
        told = f" (p = {1 / (people + 1):.2f}, the least that {people} people can tell)"
        return (
            f"{name}: {100 * self.above:.1f} % of the brain is above the healthy 1 % (healthy "
            f"people: {100 * min(self.healthy):.1f} to {100 * max(self.healthy):.1f} %); of "
            f"{clusters}, {beyond or 'none'} {'are' if beyond > 1 else 'is'} larger than all "
            f"clusters of {people} healthy people{told if beyond else ''}"
        )

    def warning(self, name: str) -> str | None:
        """Say where a scan's level is none of healthy people's, which its p-values do not show."""
        low, high = self.levels
        if low / _FAR <= self.level <= high * _FAR:
            return None
        return (
            f"The whole map of {name} has {self.level:.2g} times the level of healthy people "
            f"(theirs: {low:.2g} to {high:.2g}), and was brought to it: its clusters show what "
            f"stands out within the scan. Look at whether it was made as the healthy scans were."
        )

    def table(self) -> str:
        """The clusters as tab-separated text, places in mm of the world (RAS+)."""
        lines = ["\t".join(COLUMNS)]
        for number, one in enumerate(self.found.clusters, start=1):
            volume, mass, peak, centre, peak_at, expected, healthy, p = astuple(one)
            figures = (volume, mass, peak, *centre, *peak_at, expected)
            texts = [f"{figure:.6g}" for figure in figures]
            people = str(len(self.healthy))
            lines.append("\t".join([str(number), *texts, str(healthy), people, f"{p:.4g}"]))
        return "\n".join(lines) + "\n"


def significance(
    novelty: Float32,
    voxels: Voxels,
    model: NoveltyModel,
    measured: Measured,
    *,
    leave_out: str | None = None,
    forming: float,
) -> Significance:
    """Compare the novelty (n,) of a scan's voxels with healthy people's.

    Parameters
    ----------
    novelty : array (n,)
    voxels : Voxels
        Of the scan.
    model : NoveltyModel
        Calibrated for what was measured.
    measured : Measured
        By what the novelty was found.
    leave_out : str, optional
        A healthy person whose own map counts for nothing.
    forming : float
        The healthy share above which voxels form clusters.
    """
    comparable, healthy, shares = _healthy(model, measured, leave_out, forming)
    null, mask, affine = healthy.null, voxels.mask, voxels.scan.grid.affine
    brought, level = comparable.bring(novelty, mask, affine)
    p = null.p_values(brought)
    logp = logp_of(p)
    return Significance(
        logp,
        healthy.compare(find_clusters(logp, mask, affine, forming)),
        float(np.mean(p < SHARE)),
        shares,
        (null.threshold(0.5), null.threshold(0.001)),
        forming,
        level,
        (min(comparable.levels), max(comparable.levels)),
    )


@lru_cache(maxsize=4)  # of a model that stays in memory for many scans
def _healthy(
    model: NoveltyModel, measured: Measured, leave_out: str | None, forming: float
) -> tuple[Comparable, HealthyClusters, tuple[float, ...]]:
    """The healthy maps, their clusters, and the share of each that is above the others' 1 %."""
    null = model.null(measured)
    null = null if leave_out is None else null.without(leave_out)
    comparable = Comparable(null.maps)
    shares = tuple(comparable.null.shares_above(SHARE).values())
    return comparable, HealthyClusters(comparable.null, forming), shares

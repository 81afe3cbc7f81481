"""What a patient's map means by those of healthy people: p-values, clusters, shares."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.calibration.clusters import Found, beside_healthy, find_clusters, logp_of
from qspace_nd.calibration.comparable import FWHM
from qspace_nd.calibration.summary import COMMON, RARE, Summary
from qspace_nd.errors import counted
from qspace_nd.imaging.voxels import Voxels
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.nulls import Measured
from qspace_nd.workflows.regions import COLUMNS as REGION_COLUMNS
from qspace_nd.workflows.regions import Region

MEASURES = {
    "ShareAboveHealthy1Percent": "share_above_1_percent",
    "ShareAboveHealthy0.1Percent": "share_above_0.1_percent",
    "Clusters": "clusters",
    "ClusterMass": "cluster_mass",
}
"""What is told of a whole scan, as sidecars call it, and as the table of a cohort does."""

_FAR = 0.5  # beyond the range of healthy people, whose standard deviation is some 0.12

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


@dataclass(frozen=True)
class Standing:
    """A figure of a whole scan, and the same of each healthy person."""

    value: float
    healthy: tuple[float, ...]

    @property
    def with_as_much(self) -> int:
        """How many healthy people have as much or more."""
        return sum(one >= self.value for one in self.healthy)

    def place(self) -> dict[str, float]:
        """Where the scan stands among the healthy people."""
        return {
            "Least": round(min(self.healthy), 6),
            "Most": round(max(self.healthy), 6),
            "WithAsMuch": self.with_as_much,
        }


@dataclass(frozen=True, eq=False)
class Significance:
    """How a map of a score compares with those of healthy people.

    Attributes
    ----------
    logp : array (n,)
        -log10 p of each voxel.
    found : Found
        The clusters.
    standings : dict of str to Standing
        Of each of `MEASURES`; of healthy people each by the others.
    shown : (low, high)
        The novelty that viewers open the map with: the median and the 0.1 % of healthy maps as
        they are compared, that is, smoothed.
    forming : float
        The healthy share that clusters were formed at.
    height : float
        How far the map lay above healthy people's before it was brought to their level, in units
        of their spread (`comparable.Level.height`).
    heights : tuple of float
        The same of each healthy map.
    regions : tuple of Region or None
        Of each cluster, where an atlas was given.
    """

    logp: Float32
    found: Found
    standings: dict[str, Standing]
    shown: tuple[float, float]
    forming: float
    height: float
    heights: tuple[float, ...]
    regions: tuple[Region, ...] | None = None

    @property
    def shown_logp(self) -> tuple[float, float]:
        """The -log10 p that viewers open its map with: from where clusters form, to 0.01 %."""
        low = -float(np.log10(self.forming))
        return low, max(4.0, low + 1)

    @property
    def people(self) -> int:
        """How many healthy people there are."""
        return len(self.standings["Clusters"].healthy)

    def facts(self) -> dict[str, Any]:
        """What the map's sidecar says of it."""
        return {
            "HealthyPeople": self.people,
            "LevelAboveHealthy": round(self.height, 4),
            "HealthyLevels": [round(min(self.heights), 4), round(max(self.heights), 4)],
            "ClusterFormingShare": self.forming,
            **{name: round(one.value, 6) for name, one in self.standings.items()},
            "ClustersBeyondHealthy": self.found.beyond,
            "AmongHealthy": {name: one.place() for name, one in self.standings.items()},
        }

    def sentence(self, name: str) -> str:
        """Say of a scan what a reader asks first."""
        people, above = self.people, self.standings["ShareAboveHealthy1Percent"]
        clusters, beyond = counted(len(self.found.clusters), "cluster"), self.found.beyond
        told = f" (p = {1 / (people + 1):.2f}, the least that {people} people can tell)"
        return (
            f"{name}: {100 * above.value:.1f} % of the brain is above the healthy 1 % (healthy "
            f"people: {100 * min(above.healthy):.1f} to {100 * max(above.healthy):.1f} %); of "
            f"{clusters}, {beyond or 'none'} {'are' if beyond > 1 else 'is'} larger than all "
            f"clusters of {people} healthy people{told if beyond else ''}"
        )

    def warning(self, name: str) -> str | None:
        """Say where a scan's level is none of healthy people's, which its p-values do not show."""
        return far_level(name, self.height, (min(self.heights), max(self.heights)))

    def table(self) -> str:
        """The clusters as tab-separated text, places in mm of the world (RAS+)."""
        regions = self.regions
        lines = ["\t".join(COLUMNS if regions is None else (*COLUMNS, *REGION_COLUMNS))]
        for number, one in enumerate(self.found.clusters, start=1):
            volume, mass, peak, centre, peak_at, expected, healthy, p = astuple(one)
            figures = (volume, mass, peak, *centre, *peak_at, expected)
            texts = [f"{figure:.6g}" for figure in figures]
            people = str(self.people)
            named = [] if regions is None else regions[number - 1].cells()
            lines.append("\t".join([str(number), *texts, str(healthy), people, f"{p:.4g}", *named]))
        return "\n".join(lines) + "\n"


def far_level(name: str, height: float, heights: tuple[float, float]) -> str | None:
    """Say of a map that lies far above or below all of healthy people (low, high) that it does."""
    low, high = heights
    if low - _FAR <= height <= high + _FAR:
        return None
    return (
        f"The whole map of {name} lies {abs(height):.2g} {'above' if height > 0 else 'below'} "
        f"healthy people's, in units of their spread (theirs: {low:+.2g} to {high:+.2g}), and was "
        f"brought to their level: its clusters show what stands out within the scan. Look at "
        f"whether it was made as the healthy scans were."
    )


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
    healthy = healthy_summary(model, measured, forming, leave_out)
    mask, affine = voxels.mask, voxels.scan.grid.affine
    brought, height = healthy.bring(novelty, mask, affine)
    p = healthy.shares.p_values(brought)
    logp = logp_of(p)
    found = beside_healthy(find_clusters(logp, mask, affine, forming), healthy.masses)
    masses = [one.mass for one in found.clusters]
    own = (float(np.mean(p < COMMON)), float(np.mean(p < RARE)), len(masses), sum(masses))
    standings = {
        name: Standing(value, others)
        for name, value, others in zip(MEASURES, own, _of_healthy(healthy), strict=True)
    }
    return Significance(
        logp,
        found,
        standings,
        (healthy.shares.threshold(0.5), healthy.shares.threshold(RARE)),
        forming,
        height,
        healthy.heights,
    )


def forget_models() -> None:
    """Hold on to no model that maps were compared by, so that its memory is free."""
    healthy_summary.cache_clear()


@lru_cache(maxsize=4)  # of a model that stays in memory for many scans
def healthy_summary(
    model: NoveltyModel, measured: Measured, forming: float, leave_out: str | None
) -> Summary:
    """What a model's maps are compared with (`NoveltyModel.summary`), once."""
    return model.summary(measured, forming, leave_out)


def _of_healthy(summary: Summary) -> tuple[tuple[float, ...], ...]:
    """What healthy people have of each of `MEASURES`; in the mean over the scans of each."""
    masses = list(summary.masses.values())
    return (
        summary.above[COMMON],
        summary.above[RARE],
        tuple(float(np.mean([len(scan) for scan in scans])) for scans in masses),
        tuple(float(np.mean([scan.sum() for scan in scans])) for scans in masses),
    )

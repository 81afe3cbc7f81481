"""Clusters of a map, and how many healthy people have one as large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import ndimage

from qspace_nd.arrays import Bools, Float32, Float64, Ints
from qspace_nd.calibration.null import HealthyMap, Null
from qspace_nd.errors import ArrayError
from qspace_nd.imaging.connected import connected


@dataclass(frozen=True)
class Cluster:
    """Connected voxels (26 neighbours) that few healthy voxels are as novel as.

    Attributes
    ----------
    volume : float
        mm³.
    mass : float
        The sum of -log10 p above its threshold, times the volume of a voxel (mm³).
    peak : float
        The highest -log10 p.
    centre, peak_at : (x, y, z)
        The middle and the highest voxel, in mm of the world (RAS+).
    expected : float
        Clusters of this mass or more that a healthy scan has in the mean.
    healthy : int
        How many healthy people have one of this mass or more.
    p : float
        (healthy + 1) / (people + 1): how often one healthy person more would have such a cluster.
    """

    volume: float
    mass: float
    peak: float
    centre: tuple[float, float, float]
    peak_at: tuple[float, float, float]
    expected: float = 0.0
    healthy: int = 0
    p: float = 1.0


@dataclass(frozen=True, eq=False)
class Found:
    """The clusters of a scan, the largest mass first.

    Attributes
    ----------
    labels : array (X, Y, Z)
        The number of each voxel's cluster, from 1 in the order of `clusters`; 0 outside.
    clusters : tuple of Cluster
    """

    labels: Ints
    clusters: tuple[Cluster, ...]

    @property
    def beyond(self) -> int:
        """How many have a larger mass than any cluster of a healthy person."""
        return sum(one.healthy == 0 for one in self.clusters)


def logp_of(p: Float64) -> Float32:
    """-log10 p, as maps hold it."""
    return np.asarray(-np.log10(p), np.float32)


def find_clusters(logp: Float32, mask: Bools, affine: Float64, share: float) -> Found:
    """Find the clusters of a map, of which is not known yet what healthy people have.

    Parameters
    ----------
    logp : array (n,)
        -log10 p of the mask's voxels.
    mask : array (X, Y, Z) bool
    affine : array (4, 4)
        To mm of the world.
    share : float
        p below which voxels form clusters.
    """
    if logp.shape != (np.count_nonzero(mask),):
        raise ArrayError(
            f"The map has the shape {logp.shape}, and the mask {np.count_nonzero(mask)} voxels; "
            "give as many values as voxels."
        )
    values, threshold = np.zeros(mask.shape), -np.log10(share)
    values[mask] = logp
    labels, number = connected(values > threshold)
    masses = ndimage.sum_labels(values - threshold, labels, np.arange(1, number + 1))
    numbers = np.zeros(number + 1, np.intp)
    numbers[np.argsort(-masses, kind="stable") + 1] = np.arange(1, number + 1)
    labels = numbers[labels]
    size = abs(float(np.linalg.det(affine[:3, :3])))  # mm³
    found = []
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[box] == index
        start = np.array([side.start for side in box])
        own = values[box][inside]
        indices = np.argwhere(inside) + start
        found.append(
            Cluster(
                volume=len(own) * size,
                mass=float((own - threshold).sum()) * size,
                peak=float(own.max()),
                centre=_in_world(indices.mean(axis=0), affine),
                peak_at=_in_world(indices[int(own.argmax())], affine),
            )
        )
    return Found(labels, tuple(found))


def _in_world(index: Float64 | Ints, affine: Float64) -> tuple[float, float, float]:
    x, y, z = affine[:3, :3] @ index + affine[:3, 3]
    return float(x), float(y), float(z)


@dataclass(frozen=True, eq=False)
class HealthyClusters:
    """The clusters of healthy people, each found by the null of the others.

    Attributes
    ----------
    null : Null
        Of maps that know where their voxels lie.
    share : float
        p below which voxels form clusters.
    """

    null: Null
    share: float

    @cached_property
    def masses(self) -> dict[str, list[Float64]]:
        """The masses of each subject's clusters, falling: an array for each scan."""
        found: dict[str, list[Float64]] = {subject: [] for subject in self.null.subjects}
        for one, p in zip(self.null.maps, self.null.p_values_by_others, strict=True):
            found[one.subject].append(self._masses(one, p))
        return found

    def _masses(self, one: HealthyMap, p: Float64) -> Float64:
        if one.mask is None or one.affine is None:
            raise ArrayError("Clusters need to know where the voxels of healthy maps lie.")
        found = find_clusters(logp_of(p), one.mask, one.affine, self.share)
        return np.array([cluster.mass for cluster in found.clusters])


def beside_healthy(found: Found, masses: Mapping[str, Sequence[Float64]]) -> Found:
    """Say of each cluster how many healthy people have one of its mass or more.

    Parameters
    ----------
    found : Found
        The clusters.
    masses : mapping of str to sequence of arrays
        The masses of each healthy person's clusters, an array for each scan.
    """
    clusters = []
    for one in found.clusters:
        counts = [[int((own >= one.mass).sum()) for own in scans] for scans in masses.values()]
        healthy = sum(any(scans) for scans in counts)
        expected = float(np.mean([np.mean(scans) for scans in counts]))
        p = (healthy + 1) / (len(masses) + 1)
        clusters.append(replace(one, expected=expected, healthy=healthy, p=p))
    return Found(found.labels, tuple(clusters))

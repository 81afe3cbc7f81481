"""Lesions found against false clusters: the free-response operating characteristic (FROC)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from qspace_nd.arrays import Bools, Float32, Float64, Ints

LEAST_CLUSTER = 5
"""Voxels that a lesion, or a cluster of the map, has at least to count."""

LEAST_SHARE = 0.3
"""How much of a cluster lies in lesions and their rim of one voxel, if it is a hit.

A cluster that merely touches a lesion is none: a huge one touches everything.
"""

_CORNERS = np.ones((3, 3, 3), np.bool_)  # 26 neighbours
_STEPS = 60
_SHARES = (1e-5, 0.3)  # of all voxels above the highest and the lowest threshold


@dataclass(frozen=True, eq=False)
class Curve:
    """What some scans' maps show at each threshold.

    Attributes
    ----------
    thresholds : (m,) array
        Falling.
    hits, errors : (m, n) array
        Of each scan: lesions that are found, and clusters that are no hits.
    lesions : (n,) array
        How many each scan has.
    """

    thresholds: Float64
    hits: Ints
    errors: Ints
    lesions: Ints

    @property
    def found(self) -> Float64:
        """The share of all scans' lesions that are found: (m,)."""
        return np.asarray(self.hits.sum(axis=1) / max(int(self.lesions.sum()), 1))

    @property
    def false(self) -> Float64:
        """Clusters that are no hits, a scan in the mean: (m,)."""
        return np.asarray(self.errors.mean(axis=1))

    def at(self, false: float) -> float:
        """The largest share of lesions that is found with at most so many `false` clusters."""
        return float(self.found[self.false <= false].max(initial=0.0))

    def of(self, scans: Ints) -> Curve:
        """The curve of some of the scans, each as often as its number is there."""
        return Curve(
            self.thresholds, self.hits[:, scans], self.errors[:, scans], self.lesions[scans]
        )


def froc(maps: Sequence[Float32], lesions: Sequence[Bools], masks: Sequence[Bools]) -> Curve:
    """Count lesions found and false clusters by a threshold that falls over all maps alike.

    Lesions and clusters are of voxels that share a face, an edge or a corner, `LEAST_CLUSTER` of
    them or more. A cluster is a hit if `LEAST_SHARE` of it lies in lesions and their rim, and finds
    the lesions that it overlaps; else it is false.

    Parameters
    ----------
    maps, lesions, masks : sequences of (X, Y, Z) array
        Of each scan: novelty, where the lesions are, and where novelty is known.
    """
    values = np.concatenate([one[mask] for one, mask in zip(maps, masks, strict=True)])
    thresholds = np.quantile(values, 1 - np.geomspace(*_SHARES, _STEPS))
    hits, errors = np.zeros((2, _STEPS, len(maps)), np.intp)
    numbers = np.zeros(len(maps), np.intp)
    for scan, (one, lesion, mask) in enumerate(zip(maps, lesions, masks, strict=True)):
        labels, numbers[scan] = _large(lesion & mask)
        near = ndimage.binary_dilation(lesion, _CORNERS)
        for step, threshold in enumerate(thresholds):
            above = (one > threshold) & mask
            hits[step, scan], errors[step, scan] = _hits(above, labels, near)
    return Curve(thresholds, hits, errors, numbers)


def _hits(above: Bools, labels: Ints, near: Bools) -> tuple[int, int]:
    """How many lesions the clusters of `above` find, and how many clusters are no hits."""
    clusters, count = _large(above)
    inside = np.bincount(clusters[near], minlength=count + 1)
    hits = inside >= LEAST_SHARE * np.bincount(clusters.ravel(), minlength=count + 1)
    hits[0] = False
    found = np.unique(labels[hits[clusters]])
    return int(np.count_nonzero(found)), int(count - np.count_nonzero(hits))


def _large(inside: Bools) -> tuple[Ints, int]:
    """Number the clusters of `inside` from 1, those that are too small left out."""
    clusters, count = ndimage.label(inside, _CORNERS)
    large = np.bincount(clusters.ravel(), minlength=count + 1) >= LEAST_CLUSTER
    large[0] = False
    numbers = np.cumsum(large) * large
    return numbers[clusters], int(large.sum())

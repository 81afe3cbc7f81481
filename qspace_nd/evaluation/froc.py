"""Lesions found against false clusters: the free-response operating characteristic (FROC)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from qspace_nd.arrays import Bools, Float32, Float64

LEAST_CLUSTER = 5
"""Voxels that a lesion, or a cluster of the map, has at least to count."""

LEAST_SHARE = 0.3
"""How much of a cluster lies in lesions and their rim of one voxel, if it is a hit.

A cluster that merely touches a lesion is none: a huge one touches everything.
"""

_CORNERS = np.ones((3, 3, 3), np.bool_)  # 26 neighbours
_STEPS = 60
_SHARES = (1e-5, 0.3)  # of all voxels above the highest and the lowest threshold


@dataclass(frozen=True)
class Curve:
    """What some scans' maps show at each threshold.

    Attributes
    ----------
    thresholds : (m,) array
        Falling.
    found : (m,) array
        The share of all scans' lesions that are found.
    false : (m,) array
        Clusters that are no hits, a scan in the mean.
    lesions : int
        How many there are.
    """

    thresholds: Float64
    found: Float64
    false: Float64
    lesions: int

    def at(self, false: float) -> float:
        """The largest share of lesions that is found with at most so many `false` clusters."""
        return float(self.found[self.false <= false].max(initial=0.0))


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
    found, false, number = np.zeros(_STEPS), np.zeros(_STEPS), 0
    for one, lesion, mask in zip(maps, lesions, masks, strict=True):
        labels, count = _large(lesion & mask)
        number += count
        near = ndimage.binary_dilation(lesion, _CORNERS)
        for step, threshold in enumerate(thresholds):
            hit, others = _hits((one > threshold) & mask, labels, near)
            found[step] += hit
            false[step] += others
    return Curve(thresholds, found / max(number, 1), false / max(len(maps), 1), number)


def _hits(above: Bools, labels: Float64, near: Bools) -> tuple[int, int]:
    """How many lesions the clusters of `above` find, and how many clusters are no hits."""
    clusters, count = _large(above)
    inside = clusters[near]
    shares = np.bincount(inside, minlength=count + 1) / np.maximum(
        np.bincount(clusters.ravel(), minlength=count + 1), 1
    )
    hits = shares >= LEAST_SHARE
    hits[0] = False
    found = np.unique(labels[hits[clusters]])
    return int(np.count_nonzero(found)), int(count - np.count_nonzero(hits))


def _large(inside: Bools) -> tuple[Float64, int]:
    """Number the clusters of `inside` from 1, those that are too small left out."""
    clusters, count = ndimage.label(inside, _CORNERS)
    large = np.bincount(clusters.ravel(), minlength=count + 1) >= LEAST_CLUSTER
    large[0] = False
    numbers = np.cumsum(large) * large
    return numbers[clusters], int(large.sum())

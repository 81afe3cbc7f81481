"""Lesions found against false clusters: the free-response operating characteristic (FROC)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qspace_nd.arrays import Bools, Float32, Float64, Ints
from qspace_nd.imaging.connected import connected, with_rim

FALSE_CLUSTERS = (1, 2, 5)
"""The false clusters a scan, in the mean, at which lesions that are found are told."""

LEAST_SHARE = 0.3
"""How much of a cluster lies in lesions and their rim of one voxel, if it is a hit.

A cluster that merely touches a lesion is none: a huge one touches everything.
"""

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

    def hits_at(self, false: float) -> Ints:
        """The lesions of each scan that are found there: (n,)."""
        allowed = np.flatnonzero(self.false <= false)
        if not len(allowed):
            return np.zeros_like(self.lesions)
        best = allowed[np.argmax(self.found[allowed])]
        return np.asarray(self.hits[best])

    def steps(self) -> tuple[Float64, Float64]:
        """False clusters a scan, rising, and the share that is found with at most so many."""
        order = np.argsort(self.false, kind="stable")
        return self.false[order], np.maximum.accumulate(self.found[order])

    def of(self, scans: Ints) -> Curve:
        """The curve of some of the scans, each as often as its number is there."""
        return Curve(
            self.thresholds, self.hits[:, scans], self.errors[:, scans], self.lesions[scans]
        )

    @classmethod
    def joined(cls, curves: Sequence[Curve]) -> Curve:
        """The curve of all scans of curves that have the same thresholds."""
        return cls(
            curves[0].thresholds,
            np.concatenate([one.hits for one in curves], axis=1),
            np.concatenate([one.errors for one in curves], axis=1),
            np.concatenate([one.lesions for one in curves]),
        )


def froc(maps: Sequence[Float32], lesions: Sequence[Bools], masks: Sequence[Bools]) -> Curve:
    """Count lesions found and false clusters by a threshold that falls over all maps alike.

    Lesions and clusters are of voxels that share a face, an edge or a corner, `LEAST_VOXELS` of
    them or more. Lesions are whole where they leave the mask, and count with a voxel in it. A
    cluster is a hit if `LEAST_SHARE` of it lies in lesions and their rim, and finds the lesions
    that it overlaps; else it is false.

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
        box = _box(mask)
        each, near = connected(lesion)[0][box], with_rim(lesion)[box]
        novelty, inside = one[box], mask[box]
        numbers[scan] = np.count_nonzero(np.unique(each[inside]))
        for step, threshold in enumerate(thresholds):
            clusters, count = connected((novelty > threshold) & inside)
            right = are_hits(clusters, count, near)
            hits[step, scan] = np.count_nonzero(np.unique(each[right[clusters]]))
            errors[step, scan] = count - np.count_nonzero(right)
    return Curve(thresholds, hits, errors, numbers)


def are_hits(clusters: Ints, count: int, near: Bools) -> Bools:
    """Tell which of the clusters are hits: (count + 1,), by their numbers; 0 is none.

    Parameters
    ----------
    clusters : (X, Y, Z) array
        Numbered from 1 to `count`.
    near : (X, Y, Z) bool array
        Lesions and their rim.
    """
    voxels = np.bincount(clusters.ravel(), minlength=count + 1)
    hits = np.bincount(clusters[near], minlength=count + 1) >= LEAST_SHARE * voxels
    hits[0] = False
    return hits


def _box(mask: Bools) -> tuple[slice, ...]:
    """The smallest box that holds the mask."""
    from scipy import ndimage

    box: tuple[slice, ...] = ndimage.find_objects(mask.astype(np.uint8))[0]
    return box

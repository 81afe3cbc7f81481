"""Comparing maps with healthy people's as `map` does, and with lesions by what is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cohorts import Scan
from numpy.typing import NDArray

from qspace_nd.arrays import Float32
from qspace_nd.calibration.clusters import HealthyClusters, beside_healthy, find_clusters, logp_of
from qspace_nd.calibration.comparable import Comparable
from qspace_nd.calibration.forming import CLUSTER_SHARE
from qspace_nd.calibration.null import HealthyMap
from qspace_nd.evaluation.froc import are_hits, froc
from qspace_nd.imaging.connected import connected, with_rim

SHARES = (0.01, 0.001)
FALSE = (1, 2, 5)
"""Clusters a scan: as many as are false, or as are expected in a healthy one."""


@dataclass(frozen=True, eq=False)
class Person:
    """What a map says of a person whom the model does not know.

    Attributes
    ----------
    shares : tuple of float
        Of the voxels with p below each of `SHARES`.
    masses, expected : (k,) array
        Of each cluster; and how many as large a healthy scan has.
    beyond, hits : (k,) bool array
        Whether no healthy person has one as large; whether it lies in lesions.
    finds : list of k sets of int
        The lesions that each cluster finds.
    lesions : int
    """

    shares: tuple[float, ...]
    masses: NDArray[np.float64]
    expected: NDArray[np.float64]
    beyond: NDArray[np.bool_]
    hits: NDArray[np.bool_]
    finds: list[set[int]]
    lesions: int

    @property
    def mass_beyond(self) -> float:
        """The mass of all clusters that no healthy person has."""
        return float(self.masses[self.beyond].sum())

    def found(self, chosen: NDArray[np.bool_]) -> int:
        """How many lesions some of the clusters find."""
        return len(set[int]().union(*(self.finds[i] for i in np.flatnonzero(chosen & self.hits))))


@dataclass(frozen=True, eq=False)
class Compared:
    """A method's maps of a cohort.

    Attributes
    ----------
    newcomers, patients : list of Person
    raw : tuple of float
        The share of lesions found at `FALSE` clusters by a threshold on the maps as they are.
    """

    newcomers: list[Person]
    patients: list[Person]
    raw: tuple[float, ...]

    def at_false(self, number: float) -> float:
        """The share of lesions that clusters find, with so many false ones a patient's scan."""
        false = np.concatenate([one.masses[~one.hits] for one in self.patients])
        allowed = int(number * len(self.patients))
        least = np.sort(false)[::-1][allowed] if allowed < len(false) else -np.inf
        return self._share([one.masses > least for one in self.patients])

    def at_expected(self, number: float) -> float:
        """The share of lesions found by clusters of which so many or fewer are expected."""
        return self._share([one.expected <= number for one in self.patients])

    def beyond(self) -> float:
        """The share of lesions found by clusters that no healthy person has."""
        return self._share([one.beyond for one in self.patients])

    def counted(self, number: float) -> float:
        """The clusters of which so many or fewer are expected, in a newcomer in the mean."""
        return float(np.mean([np.count_nonzero(one.expected <= number) for one in self.newcomers]))

    def _share(self, chosen: Sequence[NDArray[np.bool_]]) -> float:
        found = [one.found(some) for one, some in zip(self.patients, chosen, strict=True)]
        return sum(found) / sum(one.lesions for one in self.patients)


def compare(healthy: Sequence[HealthyMap], others: Sequence[tuple[Scan, Float32]]) -> Compared:
    """Compare people's maps (n,) with healthy people's."""
    comparable = Comparable(healthy)
    clusters = HealthyClusters(comparable.null, CLUSTER_SHARE)
    people = [(scan, _person(scan, novelty, comparable, clusters)) for scan, novelty in others]
    sick = [(scan, novelty) for scan, novelty in others if scan.labels.any()]
    curve = froc(
        [scan.volume(novelty) for scan, novelty in sick],
        [scan.volume(scan.labels, False) for scan, _ in sick],
        [scan.mask for scan, _ in sick],
    )
    return Compared(
        [one for scan, one in people if not scan.labels.any()],
        [one for scan, one in people if scan.labels.any()],
        tuple(curve.at(number) for number in FALSE),
    )


def _person(
    scan: Scan, novelty: Float32, comparable: Comparable, healthy: HealthyClusters
) -> Person:
    brought, _ = comparable.bring(novelty, scan.mask, scan.affine)
    p = comparable.null.p_values(brought)
    found = beside_healthy(
        find_clusters(logp_of(p), scan.mask, scan.affine, healthy.share), healthy.masses
    )
    lesion = scan.volume(scan.labels, False)
    each, number = connected(lesion)
    count = len(found.clusters)
    finds = [set(np.unique(each[found.labels == i + 1]).tolist()) - {0} for i in range(count)]
    return Person(
        tuple(float(np.mean(p < share)) for share in SHARES),
        np.array([one.mass for one in found.clusters]),
        np.array([one.expected for one in found.clusters]),
        np.array([one.healthy == 0 for one in found.clusters], bool),
        are_hits(found.labels, count, with_rim(lesion))[1:],
        finds,
        number,
    )

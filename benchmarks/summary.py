"""What scores amount to: detection, thresholds, lesions found, false clusters, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from cohorts import MAIN_KIND, Design, Scan
from numpy.typing import NDArray
from scoring import Scored
from sklearn.metrics import average_precision_score, roc_auc_score

from qspace_nd.imaging.connected import connected, with_rim
from qspace_nd.imaging.smoothing import smooth_inside

HEALTHY_ABOVE = 0.01
"""The share of healthy voxels above the threshold that lesions are counted at."""

SIZE_EDGES = (0.0, 100.0, 300.0, 1000.0, 3000.0, np.inf)
"""mm³: the edges of the volumes by which found lesions are counted."""

RESAMPLES = 10_000

FIGURES = ("AUC, brain", "AP, brain", "AUC, white matter", "AP, white matter")

Array = NDArray[np.floating[Any]]


@cache
def detection(scored: Scored) -> Array:
    """AUC and average precision in the brain and in white matter, as `FIGURES`: (4,)."""
    figures = []
    for inside in (np.ones(len(scored.rows), bool), scored.white_matter):
        labels, scores = scored.labels[inside], scored.scores[inside]
        figures += [
            roc_auc_score(labels, scores),
            average_precision_score(labels, scores, sample_weight=scored.weights[inside]),
        ]
    return np.array(figures)


@dataclass(frozen=True)
class Interval:
    """A mean over cohorts of the mean over patients, with a 95 % interval over patients."""

    mean: float
    low: float
    high: float


@dataclass(eq=False)
class Results:
    """All scores of a stage, by method."""

    scored: Sequence[Scored]

    def names(self) -> list[str]:
        """The methods, in the order in which they were scored."""
        return list(dict.fromkeys(one.name for one in self.scored))

    def of(self, name: str, kind: str = MAIN_KIND) -> list[Scored]:
        """A method's scores of the scans of a kind, cohort by cohort."""
        return [one for one in self.scored if (one.name, one.scan.kind) == (name, kind)]

    def detection(self, name: str, kind: str = MAIN_KIND) -> dict[tuple[Design, str], Array]:
        """The figures of `detection` by patient."""
        return {(one.cohort, one.scan.name): detection(one) for one in self.of(name, kind)}


def interval(values: dict[tuple[Design, str], Array], seed: int = 0) -> list[Interval]:
    """Bootstrap each column of figures (m,) over the patients, cohort by cohort."""
    cohorts = list(dict.fromkeys(cohort for cohort, _ in values))
    rng = np.random.default_rng(seed)
    means, resampled = [], []
    for one in cohorts:
        figures = np.stack([value for (cohort, _), value in values.items() if cohort == one])
        drawn = rng.integers(len(figures), size=(RESAMPLES, len(figures)))
        means.append(figures.mean(axis=0))
        resampled.append(figures[drawn].mean(axis=1))  # (RESAMPLES, m)
    low, high = np.percentile(np.mean(resampled, axis=0), [2.5, 97.5], axis=0)
    return [
        Interval(float(mean), float(a), float(b))
        for mean, a, b in zip(np.mean(means, axis=0), low, high, strict=True)
    ]


def difference(
    one: dict[tuple[Design, str], Array], other: dict[tuple[Design, str], Array]
) -> list[Interval]:
    """The interval of one method's figures minus another's, on the patients that both scored."""
    return interval({key: one[key] - other[key] for key in other if key in one})


def smoothed(scored: Scored, fwhm: float, suffix: str) -> Scored:
    """A method's map smoothed inside the brain, as another method."""
    if scored.whole is None:
        raise ValueError(f"There is no whole map of {scored.name}.")
    scan = scored.scan
    sizes = np.linalg.norm(scan.affine[:3, :3], axis=0)
    whole = smooth_inside(scan.volume(scored.whole), scan.mask, sizes, fwhm)[scan.mask]
    return replace(scored, name=scored.name + suffix, scores=whole[scored.rows], whole=whole)


# --- at a threshold ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """How many of the lesions of `minimum` ≤ volume < `maximum` (mm³) were found."""

    minimum: float
    maximum: float
    lesions: int
    by_controls: int
    by_own: int


@dataclass(frozen=True)
class Clusters:
    """What lies above the threshold.

    Attributes
    ----------
    patients, controls : list of int
        Clusters away from lesions per patient, and per left-out control.
    everywhere : list of int
        All clusters per patient.
    shares : list of float
        The share of each left-out control's voxels above the threshold of the other ones.
    """

    patients: list[int]
    controls: list[int]
    everywhere: list[int]
    shares: list[float]


def threshold(controls: Sequence[Scored], above: float = HEALTHY_ABOVE) -> float:
    """The score that a share of `above` of left-out controls' voxels exceed."""
    return float(np.quantile(np.concatenate([one.scores for one in controls]), 1 - above))


def own_threshold(patient: Scored) -> float:
    """The score that as large a share of the patient's own voxels outside lesions exceed."""
    return float(np.quantile(patient.scores[~patient.labels], 1 - HEALTHY_ABOVE))


def lesions_found(patients: Sequence[Scored], controls: Sequence[Scored]) -> list[Found]:
    """Count lesions, by volume, with a voxel above either threshold."""
    volumes, by_controls, by_own = [], [], []
    for patient in patients:
        limit = threshold([one for one in controls if one.cohort == patient.cohort])
        size, peak = _lesions(patient)
        volumes.append(size)
        by_controls.append(peak > limit)
        by_own.append(peak > own_threshold(patient))
    size, controlled, own = map(np.concatenate, (volumes, by_controls, by_own))
    bins = []
    for low, high in pairwise(SIZE_EDGES):
        inside = (size >= low) & (size < high)
        counts = [np.count_nonzero(found & inside) for found in (controlled, own)]
        bins.append(Found(low, high, int(inside.sum()), int(counts[0]), int(counts[1])))
    return bins


def false_clusters(
    patients: Sequence[Scored], controls: Sequence[Scored], above: float = HEALTHY_ABOVE
) -> Clusters:
    """Count what lies above the threshold that `above` of left-out controls' voxels exceed."""
    off_lesion, everywhere, off_control, shares = [], [], [], []
    for control in controls:
        others = [one for one in controls if one.cohort == control.cohort and one is not control]
        limit = threshold(others, above)
        shares.append(float(np.mean(control.scores > limit)))
        if control.whole is not None:
            off_control.append(_clusters(control, limit)[0])
    for patient in patients:
        limit = threshold([one for one in controls if one.cohort == patient.cohort], above)
        if patient.whole is not None:
            every, away = _clusters(patient, limit)
            everywhere.append(every)
            off_lesion.append(away)
    return Clusters(off_lesion, off_control, everywhere, shares)


def _lesions(patient: Scored) -> tuple[Array, Array]:
    """The volume in mm³ and the highest score of each lesion."""
    scan = patient.scan
    components, count = connected(scan.volume(scan.labels, False), least=1)
    member = components[scan.mask][patient.rows]
    peak = np.full(count + 1, -np.inf)
    np.maximum.at(peak, member, patient.scores)
    voxels = np.bincount(components[scan.mask], minlength=count + 1)
    return voxels[1:] * _voxel_volume(scan), peak[1:]


def _clusters(scored: Scored, limit: float) -> tuple[int, int]:
    """How many clusters there are, and how many of them touch no lesion."""
    scan = scored.scan
    if scored.whole is None:
        raise ValueError(f"There is no whole map of {scored.name}.")
    clusters, count = connected(scan.volume(scored.whole > limit, False))
    near = with_rim(scan.volume(scan.labels, False))
    touching = np.count_nonzero(np.unique(clusters[near]))
    return count, count - touching


def _voxel_volume(scan: Scan) -> float:
    return float(abs(np.linalg.det(scan.affine[:3, :3])))

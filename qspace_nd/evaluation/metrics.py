"""How well novelty maps find lesions: ROC, precision, overlap, lesions found.

A `Case` is one map with its labels; `evaluate` turns it into a `Result`, which is small, so that
the maps need not be kept. Tables and figures are drawn from results alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qspace_nd.arrays import Bools, Float64, Ints
from qspace_nd.errors import ArrayError, LabelError, ScanError
from qspace_nd.evaluation.froc import Curve
from qspace_nd.imaging.connected import LEAST_VOXELS, connected

HEALTHY_ABOVE = 0.01
"""The share of healthy voxels that may exceed the threshold at which lesions are counted."""

SIZE_EDGES = (0.0, 30.0, 100.0, 300.0, 1000.0, math.inf)
"""The edges, in mm³, of the volumes by which found lesions are counted."""

BRAIN = "brain"
"""What the region of a whole mask is called."""

CURVE_POINTS = 500
SAMPLE_VALUES = 10_000

BEST, OWN = "best_dice", "1pct"
CALIBRATED = {"p_0.01": 0.01, "p_0.001": 0.001}
"""Thresholds that maps are cut at: what they are called in files, and healthy people's share.

At the best Dice; at what 1 % of the scan's own healthy voxels exceed; and, where the map is
calibrated, at what so many of healthy people's voxels are as novel as.
"""


@dataclass(frozen=True, eq=False)
class Case:
    """One novelty map of one patient, with the lesions that an expert drew.

    Attributes
    ----------
    patient, score : str
        Whose map it is, and of which score.
    novelty : (X, Y, Z) array
        Higher is more novel; read within `mask` alone.
    labels, mask : (X, Y, Z) bool array
        The lesion voxels, and the voxels to evaluate.
    latents : int or None
        The number of latents of the model; None where it is unknown or there is no model.
    region : str
        What `mask` stands for, so that one map can be evaluated in several regions.
    neglogp : (X, Y, Z) array or None
        -log10 of the share of healthy people's voxels that are as novel; None where that is not
        known.
    """

    patient: str
    score: str
    novelty: NDArray[np.floating[Any]]
    labels: Bools
    mask: Bools
    latents: int | None = None
    region: str = BRAIN
    neglogp: NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True)
class Lesion:
    """One connected lesion.

    `voxels` and `volume` (mm³) are of the whole lesion, also where it leaves the mask; `peak` is
    the highest novelty of its voxels within the mask.
    """

    voxels: int
    volume: float
    peak: float
    found: bool


@dataclass(frozen=True)
class SizeBin:
    """The lesions of `minimum` ≤ volume < `maximum` (mm³), and how many of them were found."""

    minimum: float
    maximum: float
    lesions: int
    found: int


@dataclass(frozen=True)
class Overlap:
    """How the voxels above a threshold and the lesion voxels overlap.

    Attributes
    ----------
    recall : float
        The share of the lesion voxels that are above it.
    precision : float
        The share of the voxels above it that are lesion; 0 where there are none.
    dice : float
        Twice the voxels that are both, by the sum of both.
    """

    recall: float
    precision: float
    dice: float

    @classmethod
    def of(cls, true: int, false: int, lesion: int) -> Overlap:
        """By the lesion voxels and the healthy ones above, and all the lesion voxels."""
        return cls(true / lesion, true / max(true + false, 1), 2 * true / (true + false + lesion))


@dataclass(frozen=True, eq=False)
class Result:
    """What `evaluate` found in one case.

    Attributes
    ----------
    voxels, lesion_voxels : int
        The evaluated voxels, and those of them that are lesion.
    lesion_voxels_outside_mask : int
        The lesion voxels that were not evaluated.
    auc : float
        Area under the ROC curve: the probability that a lesion voxel is more novel than a healthy
        one, ties counting one half.
    average_precision : float
        Sum over the thresholds of precision times the step in recall (not interpolated).
    best_dice, dice_threshold : float
        The highest Dice overlap of {novelty ≥ threshold} with the labels, and that threshold.
    threshold_1pct : float
        The least novelty of a healthy voxel that at most 1 % of the healthy voxels exceed.
    lesions, lesions_found : int
        Connected lesions (26 neighbours) with a voxel within the mask, and those found: with at
        least one voxel within the mask whose novelty exceeds `threshold_1pct`.
    large_lesions, large_lesions_found : int
        The same, of `LEAST_VOXELS` voxels or more.
    overlaps : dict of str to Overlap
        At each threshold, `BEST`, `OWN` and, where the map is calibrated, `CALIBRATED`.
    each_lesion : tuple of Lesion
        Largest first.
    recall_by_size : tuple of SizeBin
        The lesions counted by volume.
    false_positive_rate, true_positive_rate : (p,) array
        The ROC curve from (0, 0) to (1, 1), thinned to at most `CURVE_POINTS` points.
    healthy_values, lesion_values : (m,) array
        The novelty of the healthy and of the lesion voxels, sorted; where there are more than
        `SAMPLE_VALUES`, that many of them at evenly spaced ranks.
    froc : Curve or None
        The large lesions found in this scan, and its false clusters, at thresholds that are those
        of all scans' maps of the score; None until the maps of all scans were looked at.
    """

    patient: str
    score: str
    latents: int | None
    region: str
    voxels: int
    lesion_voxels: int
    lesion_voxels_outside_mask: int
    auc: float
    average_precision: float
    best_dice: float
    dice_threshold: float
    threshold_1pct: float
    lesions: int
    lesions_found: int
    large_lesions: int
    large_lesions_found: int
    overlaps: dict[str, Overlap] = field(repr=False)
    each_lesion: tuple[Lesion, ...] = field(repr=False)
    recall_by_size: tuple[SizeBin, ...] = field(repr=False)
    false_positive_rate: Float64 = field(repr=False)
    true_positive_rate: Float64 = field(repr=False)
    healthy_values: NDArray[np.floating[Any]] = field(repr=False)
    lesion_values: NDArray[np.floating[Any]] = field(repr=False)
    froc: Curve | None = field(default=None, repr=False)

    @property
    def key(self) -> tuple[str, str, int | None, str]:
        """What tells it from other results: the patient, the score, its latents and the region."""
        return self.patient, self.score, self.latents, self.region

    @property
    def healthy_voxels(self) -> int:
        """The evaluated voxels that are not lesion."""
        return self.voxels - self.lesion_voxels


def evaluate(case: Case, voxel_volume: float) -> Result:
    """Compare a novelty map with its labels, within its mask.

    Parameters
    ----------
    case : Case
        The map, the labels and the mask, on one grid.
    voxel_volume : float
        The volume of a voxel in mm³.

    Raises
    ------
    ArrayError
        The arrays are not of one 3-D shape, labels or mask are not boolean, or the voxel volume is
        not positive.
    ScanError
        The mask is empty, or the map is not finite within it.
    LabelError
        The mask holds no lesion voxel, or nothing but lesion voxels.
    """
    _require_arrays(case, voxel_volume)
    lesion = case.labels[case.mask]  # (n,)
    novelty = case.novelty[case.mask]  # (n,)
    _require_both_classes(case, lesion)
    _require_finite(case, novelty)

    healthy_values = np.sort(novelty[~lesion])
    lesion_values = np.sort(novelty[lesion])
    threshold = _threshold(healthy_values)
    lesions = _lesions(case, threshold, voxel_volume)
    large = [one.found for one in lesions if one.voxels >= LEAST_VOXELS]
    curve = _operating_points(novelty, lesion)
    dice_at_best, dice_threshold = curve.best_dice()
    points = _thin_curve(curve)
    return Result(
        patient=case.patient,
        score=case.score,
        latents=case.latents,
        region=case.region,
        voxels=lesion.size,
        lesion_voxels=lesion_values.size,
        lesion_voxels_outside_mask=int(np.count_nonzero(case.labels)) - lesion_values.size,
        auc=curve.auc(),
        average_precision=curve.average_precision(),
        best_dice=dice_at_best,
        dice_threshold=dice_threshold,
        threshold_1pct=float(threshold),
        lesions=len(lesions),
        lesions_found=sum(one.found for one in lesions),
        large_lesions=len(large),
        large_lesions_found=sum(large),
        overlaps=_overlaps(case, {BEST: novelty >= dice_threshold, OWN: novelty > threshold}),
        each_lesion=lesions,
        recall_by_size=_by_size(lesions),
        false_positive_rate=curve.false_positive_rate[points],
        true_positive_rate=curve.true_positive_rate[points],
        healthy_values=_thin_values(healthy_values),
        lesion_values=_thin_values(lesion_values),
    )


def _require_arrays(case: Case, voxel_volume: float) -> None:
    neglogp = case.novelty if case.neglogp is None else case.neglogp
    shapes = {array.shape for array in (case.novelty, case.labels, case.mask, neglogp)}
    if len(shapes) > 1 or case.novelty.ndim != 3:
        also = "" if case.neglogp is None else f", its map of -log10 p {neglogp.shape}"
        raise ArrayError(
            f"The {case.score} map of {case.patient} has shape {case.novelty.shape}{also}, its "
            f"labels {case.labels.shape} and its mask {case.mask.shape}; give arrays of one 3-D "
            "shape."
        )
    if case.labels.dtype != bool or case.mask.dtype != bool:
        raise ArrayError(
            f"The labels of {case.patient} are of type {case.labels.dtype} and its mask of type "
            f"{case.mask.dtype}; give both as bool."
        )
    if not (math.isfinite(voxel_volume) and voxel_volume > 0):
        raise ArrayError(
            f"The voxel volume of {case.patient} is {voxel_volume} mm³; give a positive volume."
        )


def _require_both_classes(case: Case, lesion: Bools) -> None:
    within = f"within the {case.region} mask of {case.patient}"
    if lesion.size == 0:
        raise ScanError(
            f"There is no voxel {within}; give a mask that holds the voxels to evaluate."
        )
    if not lesion.any():
        outside = int(np.count_nonzero(case.labels))
        raise LabelError(
            f"There is no lesion voxel {within} ({outside} outside it); give labels with at least "
            "one lesion voxel there, or leave this patient out."
        )
    if lesion.all():
        raise LabelError(
            f"All {lesion.size} voxels {within} are lesion; give labels that leave healthy voxels "
            "to compare with, or a larger mask."
        )


def _require_finite(case: Case, novelty: NDArray[np.floating[Any]]) -> None:
    bad = novelty.size - int(np.count_nonzero(np.isfinite(novelty)))
    if bad:
        raise ScanError(
            f"The {case.score} map of {case.patient} has {bad} of {novelty.size} voxels NaN or "
            f"infinite within the {case.region} mask; map the scan again, or give a mask without "
            "them."
        )


def _threshold(healthy_values: NDArray[np.floating[Any]]) -> np.floating[Any]:
    """Return the least of the sorted values that at most `HEALTHY_ABOVE` of them exceed."""
    allowed = math.floor(HEALTHY_ABOVE * healthy_values.size)
    threshold: np.floating[Any] = healthy_values[healthy_values.size - 1 - allowed]
    return threshold


def _overlaps(case: Case, above: dict[str, Bools]) -> dict[str, Overlap]:
    """How what is above each threshold, (n,) each, overlaps with the lesion."""
    lesion = case.labels[case.mask]
    if case.neglogp is not None:
        neglogp = case.neglogp[case.mask]
        above |= {name: neglogp > -math.log10(share) for name, share in CALIBRATED.items()}
    return {
        name: Overlap.of(
            *(int(np.count_nonzero(one)) for one in (chosen & lesion, chosen & ~lesion, lesion))
        )
        for name, chosen in above.items()
    }


class _OperatingPoints(NamedTuple):
    """The rates at every distinct novelty as a threshold, downwards, from (0, 0)."""

    false_positive_rate: Float64  # (t,)
    true_positive_rate: Float64  # (t,)
    threshold: NDArray[np.floating[Any]]  # (t,)
    healthy: int
    lesion: int

    def auc(self) -> float:
        from sklearn.metrics import auc

        return float(auc(self.false_positive_rate, self.true_positive_rate))

    def average_precision(self) -> float:
        true = self.true_positive_rate[1:] * self.lesion
        false = self.false_positive_rate[1:] * self.healthy
        steps = np.diff(self.true_positive_rate)
        return float(np.sum(steps * true / (true + false)))

    def best_dice(self) -> tuple[float, float]:
        true = self.true_positive_rate * self.lesion
        false = self.false_positive_rate * self.healthy
        dice = 2 * true / (true + false + self.lesion)
        best = int(np.argmax(dice))
        return float(dice[best]), float(self.threshold[best])


def _operating_points(novelty: NDArray[np.floating[Any]], lesion: Bools) -> _OperatingPoints:
    """Sort once; all figures follow from the rates at every threshold."""
    from sklearn.metrics import roc_curve

    false, true, threshold = roc_curve(lesion, novelty, drop_intermediate=False)
    lesions = int(np.count_nonzero(lesion))
    return _OperatingPoints(false, true, threshold, lesion.size - lesions, lesions)


def _thin_curve(curve: _OperatingPoints) -> Ints:
    """Choose points evenly along the curve, the two ends among them."""
    along = curve.false_positive_rate + curve.true_positive_rate  # rises from 0 to 2
    if along.size <= CURVE_POINTS:
        return np.arange(along.size)
    wanted = np.linspace(0.0, 2.0, CURVE_POINTS - 1)
    chosen = np.searchsorted(along, wanted).clip(max=along.size - 1)
    return np.unique(np.append(chosen, along.size - 1))


def _thin_values(ordered: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    if ordered.size <= SAMPLE_VALUES:
        return ordered
    # The middle of each of SAMPLE_VALUES equal shares: a fair sample that a histogram can be of.
    ranks = (np.arange(SAMPLE_VALUES) + 0.5) * ordered.size / SAMPLE_VALUES
    return ordered[ranks.astype(np.intp)]


def _lesions(case: Case, threshold: np.floating[Any], voxel_volume: float) -> tuple[Lesion, ...]:
    from scipy import ndimage

    # Connected in the whole label, so that a mask never splits one lesion into several.
    components, _ = connected(case.labels, least=1)
    evaluated = case.labels & case.mask
    member = components[evaluated]  # (m,)
    each = np.unique(member)
    voxels = np.bincount(components.ravel())[each]
    peaks = ndimage.maximum(case.novelty[evaluated], member, each)
    lesions = (
        Lesion(int(count), float(count * voxel_volume), float(peak), found=bool(peak > threshold))
        for count, peak in zip(voxels, peaks, strict=True)
    )
    return tuple(sorted(lesions, key=lambda one: one.voxels, reverse=True))


def _by_size(lesions: Iterable[Lesion]) -> tuple[SizeBin, ...]:
    lesions = list(lesions)
    bins = []
    for minimum, maximum in pairwise(SIZE_EDGES):
        found = [one.found for one in lesions if minimum <= one.volume < maximum]
        bins.append(SizeBin(minimum, maximum, lesions=len(found), found=sum(found)))
    return tuple(bins)
